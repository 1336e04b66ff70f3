"""What a row is graded against: the tests or the answer of the public schemas, under the names these have there.

Example rows::

    {"response": "So it is \\\\boxed{4}.", "answer": "4"}
    {"response": "```python\\ndef add(a, b): ...\\n```", "tests": ["assert add(1, 2) == 3"]}
    {"response": "...", "test_list": ["assert add(1, 2) == 3"], "test_setup_code": ""}               (MBPP)
    {"response": "...", "prompt": "def add(a, b):", "entry_point": "add", "test": "def check(candidate): ..."}
    {"response": "...", "input_output": "{\\"inputs\\": [\\"1 2\\"], \\"outputs\\": [\\"3\\"]}"}     (APPS, TACO)
    {"response": "...", "public_test_cases": "[...]", "private_test_cases": "eJx...", "metadata": "{}"}  (LiveCodeBench)
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from infra.data.fields import Raw, RowProblem, from_json, io_tests, listing, optional_text, text
from infra.data.schema import Message, Record, record_id
from infra.errors import InputError

ANSWERS = (
    "answer",
    "gold",
    "ground_truth",
    "reference",
    "reference_answer",
    "expected_answer",
    "final_answer",
    "target",
)
KINDS = {"asserts": "asserts", "program": "code", "stdin": "cases", "functional": "cases"}


def record_of(row: Raw, answer: str | None = None) -> Record:
    """The record that a row's response is graded against; ``answer`` names its column where it has another name.

    A row with tests is code, whatever else it holds. Raises ``RowProblem`` naming the field when there is nothing to
    grade against, or it cannot be read.
    """
    tests = _tests(row)
    gold = None if tests is not None else _answer(row, answer)
    messages = (Message("user", ""),)
    domain = "code" if tests is not None else "math"
    return Record(record_id(messages, gold, tests), messages, domain, "rows", gold, tests)


def _answer(row: Raw, column: str | None) -> str:
    for name in (column,) if column is not None else ANSWERS:
        value = row.get(name)
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        if isinstance(value, bool) or value is None or value == "":
            continue
        if not isinstance(value, str | int | float):
            raise RowProblem(name, f"a text or a number is expected, found {type(value).__name__}")
        return str(value)
    solution = row.get("solution")
    if column is None and isinstance(solution, str) and ("\\boxed" in solution or "####" in solution):
        return solution
    raise RowProblem(column or "answer", "missing; a row needs an answer or tests")


def _tests(row: Raw) -> dict[str, Any] | None:
    if row.get("tests") not in (None, "", []):
        return _given(row, _from_text(row["tests"]))
    if row.get("test_list") not in (None, "", []):
        imports = _strings({"test_imports": _from_text(row.get("test_imports"))}, "test_imports")
        setup = optional_text(row, "test_setup_code") or "\n".join(imports)
        return _asserts(_strings({"test_list": _from_text(row["test_list"])}, "test_list"), setup)
    if isinstance(row.get("test"), str) and row["test"].strip():
        return _program(row["test"], row, "test")
    if row.get("input_output") not in (None, ""):
        return io_tests(from_json(row, "input_output"), "input_output")
    if "public_test_cases" in row or "private_test_cases" in row:
        return _livecodebench(row)
    return None


def _from_text(value: Any) -> Any:
    """A list or an object that a table holds as JSON text; any other text as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _given(row: Raw, tests: Any) -> dict[str, Any] | None:
    if isinstance(tests, str):
        return _program(tests, row, "tests")
    if isinstance(tests, list) and all(isinstance(t, Mapping) for t in tests):
        return _cases([dict(t) for t in tests], row)
    if isinstance(tests, list):
        return _asserts(_strings({"tests": tests}, "tests"), optional_text(row, "test_setup_code") or "")
    if not isinstance(tests, Mapping):
        raise RowProblem("tests", f"a list of asserts or an object is expected, found {type(tests).__name__}")
    kind = tests.get("kind")
    if kind is None and "inputs" in tests:
        return io_tests({"fn_name": row.get("fn_name") or row.get("entry_point"), **tests}, "tests")
    if kind is None and tests.get("test_list"):
        return _asserts(_strings(tests, "test_list"), optional_text(tests, "test_setup_code") or "")
    if kind not in KINDS or not tests.get(KINDS[kind]):
        known = ", ".join(f"{k!r} with {v!r}" for k, v in KINDS.items())
        raise RowProblem("tests", f"an object of tests needs a kind and what it runs: {known}; found {sorted(tests)}")
    if not isinstance(tests.get("timeout_s", 1), int | float):
        raise RowProblem("tests", f"timeout_s is {tests['timeout_s']!r}; give seconds as a number")
    return dict(tests)


def _strings(row: Raw, name: str) -> list[str]:
    found = listing(row, name)
    if not all(isinstance(one, str) for one in found):
        raise RowProblem(name, "a list of texts is expected")
    return found


def _asserts(lines: list[str], setup: str) -> dict[str, Any]:
    return {"kind": "asserts", "setup": setup, "asserts": lines}


def _program(code: str, row: Raw, name: str) -> dict[str, Any]:
    """Test code: a ``check(candidate)`` with its entry point, else asserts with what stands between them as setup."""
    if re.search(r"^def check\(", code, re.MULTILINE):
        entry = text(row, "entry_point")
        return {"kind": "program", "entry_point": entry, "code": code, "setup": _before(row, entry)}
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError) as error:
        raise RowProblem(name, f"the tests are not Python ({error})") from error
    lines = [(ast.get_source_segment(code, s) or "", isinstance(s, ast.Assert)) for s in body]
    asserts = [line for line, is_assert in lines if is_assert]
    if not asserts:
        raise RowProblem(name, "no assert and no check(candidate) in the test code")
    return _asserts(asserts, "\n".join(line for line, is_assert in lines if not is_assert))


def _before(row: Raw, entry: str) -> str:
    """Imports and helpers of the prompt that programs may rely on: all of it up to the function to complete."""
    prompt = row.get("prompt")
    if not isinstance(prompt, str):
        return ""
    name = entry.rsplit(".", 1)[-1]
    start = re.search(rf"^\s*(?:async )?def {re.escape(name)}\(|^class Solution", prompt, re.MULTILINE)
    code = prompt[: start.start()] if start is not None else prompt
    try:
        ast.parse(code)
    except (SyntaxError, ValueError):
        return ""  # a prompt in words
    return code


def _cases(cases: list[dict[str, Any]], row: Raw) -> dict[str, Any]:
    for case in cases:
        if "input" not in case or "output" not in case:
            raise RowProblem("tests", f"a test case needs 'input' and 'output', found {sorted(case)}")
    entry = row.get("fn_name") or row.get("func_name") or row.get("entry_point")
    both = {"inputs": [c["input"] for c in cases], "outputs": [c["output"] for c in cases]}
    found = io_tests({**both, "fn_name": entry}, "tests")
    if found is None:
        raise RowProblem("tests", "no test case")
    return found


def _livecodebench(row: Raw) -> dict[str, Any]:
    from infra.evals.tasks.livecodebench import decode_tests

    try:
        columns = [row.get("public_test_cases"), row.get("private_test_cases")]
        cases = [case for text in columns if text for case in decode_tests(str(text), "the row")]
        name = (from_json(row, "metadata") or {}).get("func_name")
    except InputError as error:
        raise RowProblem("private_test_cases", str(error)) from error
    plain = [{"input": case["input"], "output": case["output"]} for case in cases]
    if not plain:
        raise RowProblem("public_test_cases", "no test case")
    return {"kind": "functional", "entry_point": name, "cases": plain} if name else {"kind": "stdin", "cases": plain}
