"""Which part of a response is the program: the last block that parses and defines what the tests name."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from infra.data.schema import Message, Record
from infra.evals import last_code_block, program_of, verify_many

CASES = Path(os.environ.get("INFRA_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")).parent / "cases"
TESTS = {"kind": "asserts", "setup": "", "asserts": ["assert add2(1, 2) == 3", "assert add2(-1, 1) == 0"]}
STDIN = {"kind": "stdin", "cases": [{"input": "1 2\n", "output": "3\n"}]}
GOOD = "def add2(a, b):\n    return a + b"
BAD = "def add2(a, b):\n    return a - b"
SCRIPT = "a, b = map(int, input().split())\nprint(a + b)"


def py(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}\n```\n"


def indented(text: str, by: str) -> str:
    return "".join(by + line + "\n" for line in text.splitlines())


DOC = 'def add2(a, b):\n    """Adds.\n\n{}\n    """\n    return a + b'
RIGHT = {
    # something after the program
    "sample output after": py(GOOD) + "\nExample output:\n" + py("3", ""),
    "sample output as text": py(GOOD) + "Output:\n" + py("3\n0", "text"),
    "two samples": py(GOOD) + "Input\n" + py("1 2", "") + "Output\n" + py("3", ""),
    "a word as output": py(GOOD) + "It prints\n" + py("YES", ""),
    "shell after": py(GOOD) + "Run:\n" + py("python sol.py", "bash"),
    "shell with a dollar": py(GOOD) + py("$ python -c 'import sol'", "console"),
    "an interactive session after": py(GOOD) + py(">>> add2(1, 2)\n3", "pycon"),
    "a call after": py(GOOD) + "Use it:\n" + py("print(add2(1, 2))"),
    "a test after": py(GOOD) + py("import unittest\n\nclass T(unittest.TestCase):\n    def test(self): pass"),
    "json after": py(GOOD) + py('{"complexity": "O(1)"}', "json"),
    "another language after": py(GOOD) + py("int add2(int a, int b) { return a + b; }", "cpp"),
    "a table after": py(GOOD) + py("| a | b |\n|---|---|", ""),
    "an empty block after": py(GOOD) + "```\n```\n",
    "a broken rest after": py(GOOD) + py("def helper(:\n", "python"),
    # drafts before it
    "a draft before": py(BAD) + "No, that is wrong.\n" + py(GOOD),
    "a broken draft before": py("def add2(a, b:\n") + py(GOOD),
    "a draft without a last fence": "```python\n" + BAD + "\n\nWait, that subtracts.\n\n" + py(GOOD),
    "the fixed one is unmarked": py(BAD) + py(GOOD, ""),
    # fences inside the program
    "a fence in the docstring": py(DOC.format("    ```\n    add2(1, 2)\n    ```")),
    "a marked fence in the docstring": py(DOC.format("    ```python\n    add2(1, 2)\n    ```")),
    "a doctest fence at the margin": py(DOC.format("```\n>>> add2(1, 2)\n3\n```")),
    "a tilde fence in the docstring": py(DOC.format("    ~~~\n    add2(1, 2)\n    ~~~")),
    "one fence alone in the docstring": py(DOC.format("    ```")),
    "a fence in a string": py('FENCE = "```"\n' + GOOD),
    "a fence in a comment": py("# ```\n" + GOOD),
    "a fence in the module's docstring": py('"""\n```\nadd2(1, 2)\n```\n"""\n' + GOOD),
    "fences in the docstring and output after": py(DOC.format("    ```\n    1\n    ```")) + "Output:\n" + py("3", ""),
    # fences in sentences
    "a sentence about fences after": py(GOOD) + "I put it between ```python and ``` as asked.",
    "a sentence that ends in a fence": py(GOOD) + "Everything ends with ```\n",
    "a sentence about fences before": "I will write it in a ```python block.\n" + py(GOOD),
    "inline backticks after": py(GOOD) + "Call ```add2(1, 2)``` to try.",
    "the block begins behind a sentence": "Here it is: ```python\n" + GOOD + "\n```\nDone.",
    "the block ends on the last line of code": "```python\n" + GOOD + "```\nDone.",
    "all on one line": "The answer is ```def add2(a, b): return a + b```.",
    # indentation and other fences
    "in a numbered list": "1. Here:\n" + indented(py(GOOD), "   "),
    "behind a bullet": "- ```python\n" + indented(GOOD + "\n```", "  "),
    "indented by a tab": indented(py(GOOD), "\t"),
    "indented by eight": "Steps\n" + indented(py(GOOD), " " * 8),
    "only the code is indented": "```python\n" + indented(GOOD, "    ") + "```\n",
    "in a quotation": indented(py(GOOD), "> "),
    "tilde fence": "~~~python\n" + GOOD + "\n~~~",
    "tilde fence without a language": "~~~\n" + GOOD + "\n~~~\n",
    "long tilde fence": "~~~~py\n" + GOOD + "\n~~~~",
    "tilde around backticks": "~~~python\n" + DOC.format("```\nx\n```") + "\n~~~",
    "four backticks": "````python\n" + DOC.format("```\nx\n```") + "\n````",
    "language in capitals": py(GOOD, "Python3"),
    "language in braces": py(GOOD, "{.python .numberLines}"),
    "language with a title": py(GOOD, "python title=sol.py"),
    "a space before the language": "``` python\n" + GOOD + "\n```",
    "lines end as on Windows": py(GOOD).replace("\n", "\r\n"),
    # a missing last fence
    "no last fence": "Sure:\n```python\n" + GOOD,
    "no last fence, white space": "```python\n" + GOOD + "\n\n   \n",
    "no last fence, prose after": "```python\n" + GOOD + "\n\nThis adds the two numbers.",
    "no last fence, more prose": "```python\n" + GOOD + "\n\nNote:\n- It is O(1).\n- It's short, and right.\n",
    "no last fence before the output": "```python\n" + GOOD + "\n\nExample:\n" + py("3", ""),
    "no last fence before the shell": "```python\n" + GOOD + "\n\nRun it:\n" + py("python sol.py", "bash"),
    "no last tilde fence": "~~~python\n" + GOOD,
    # thinking
    "a draft while thinking": "<think>\n" + py(BAD) + "no\n</think>\n" + py(GOOD),
    "thinking that the prompt began": py(BAD) + "no</think>\n" + py(GOOD),
    "an open fence while thinking": "<think>\n```python\n" + BAD + "\n</think>\n\n" + py(GOOD),
    "thinking after the answer": py(GOOD) + "<think>\nmaybe\n" + py(BAD) + "</think>\nYes.",
    "tags in the program": py("TAGS = ['<think>', '</think>']\n" + GOOD),
    "a tag in the program's text": py(GOOD + "\nprint('</think>')"),
}
NONE = {
    "no block": GOOD,
    "an empty block": "```python\n```",
    "draft in unfinished thinking": "<think>draft:\n" + py(GOOD) + "hmm, need to go on",
    "unfinished thinking, other tags": "<reasoning>\n" + py(GOOD),
    "only a draft before the end of thinking": py(GOOD) + "</think>\nI cannot do it.",
    "nothing": "",
}


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_the_program_is_found(name: str) -> None:
    program = program_of(RIGHT[name], TESTS)
    assert program is not None
    space: dict[str, Any] = {}
    exec(program, space)
    assert space["add2"](1, 2) == 3 and space["add2"](-1, 1) == 0


@pytest.mark.parametrize("name", sorted(NONE))
def test_where_there_is_no_answer_none_is_found(name: str) -> None:
    assert not (program_of(NONE[name], TESTS) or "").strip()


@pytest.mark.parametrize(
    "response",
    [
        py("def add2(a, b):\n    return (a + b\n"),
        py("def add2(a, b):\n    return a + b\n\nprint(add2(1, 2)\n"),
        py("def add2(a, b):\n    return a + b\n\nelse:\n    pass\n"),
        py(GOOD).replace("return", "retrun"),
        "```python\ndef add2(a, b):\n    return a +",
    ],
)
def test_a_broken_program_is_not_mended(response: str) -> None:
    program = program_of(response, TESTS)
    assert program is not None
    with pytest.raises(SyntaxError):
        compile(program, "p", "exec")


@pytest.mark.parametrize(
    "response",
    [
        py(SCRIPT) + "Sample output:\n" + py("3", ""),
        py(SCRIPT) + "Input:\n" + py("1 2", "") + "Output:\n" + py("3", "text"),
        py(SCRIPT) + py("python sol.py < in.txt", "sh"),
        py("print(input())") + "better:\n" + py(SCRIPT),
        "def main():".join(["```python\n", "\n    " + SCRIPT.replace("\n", "\n    ") + "\nmain()\n```\n"])
        + "and then call\n"
        + py("main()"),
        py(SCRIPT) + py("YES", ""),
        "```python\n" + SCRIPT,
        "Answer: ```python\n" + SCRIPT + "\n```",
    ],
)
def test_a_script_is_told_from_samples_and_calls(response: str) -> None:
    program = program_of(response, STDIN)
    assert program is not None and "split" in program


def test_a_method_of_the_solution_is_an_entry_point_and_a_helper_class_is_wanted_too() -> None:
    method = {"kind": "functional", "entry_point": "add2", "cases": []}
    good = "class Solution:\n    def add2(self, a, b):\n        return a + b"
    assert program_of(py(good) + py("Solution().add2(1, 2)"), method) == good
    pairs = {"kind": "asserts", "asserts": ["assert total([Pair(1, 2)]) == 3"]}
    both = "class Pair: pass\ndef total(ps): pass"
    assert program_of(py(both) + py("def total(ps): pass") + py("class Pair: pass"), pairs) == both
    check = {"kind": "program", "entry_point": "Solution().add2", "code": "def check(candidate): pass"}
    assert program_of(py(good) + py("def add2(a, b): pass"), check) == good


def test_compatible_mode_keeps_the_rule_of_the_public_harness() -> None:
    response = py(GOOD) + "Output:\n" + py("3", "")
    assert last_code_block(response) == "3" and last_code_block("~~~\n1\n~~~") is None
    record = Record("r", (Message("user", "q"),), "code", "test", tests=TESTS)
    outcomes = [verify_many([record], [response], mode=mode)[0].outcome for mode in ("strict", "compatible")]
    assert outcomes == ["correct", "error"]


@pytest.mark.parametrize(
    "text",
    [
        "```\n" * 100_000,
        "```python\nx = 1\n" * 20_000,
        "`" * 1_000_000,
        ("`" * 1000 + "\n") * 1000,
        "```python\n" + "(" * 1_000_000,
        "```python\n" + "-" * 1_000_000 + "1\n```",
        "```python\n" + "x = [" + "1," * 100_000 + "]\n```\n",
        "<think>\n" * 100_000,
        "</think> " * 100_000,
        "\ud800```python\n\ud800\n```",
        "```python\n\x00\n```",
    ],
)
def test_hostile_text_is_read_in_seconds(text: str) -> None:
    began = time.process_time()
    program_of(text, TESTS)
    assert time.process_time() - began < 30


@pytest.mark.skipif(not (CASES / "code_blocks.jsonl").exists(), reason="the shared cases are not here")
def test_the_shared_cases_are_judged_as_they_should_be() -> None:
    rows = [json.loads(line) for line in (CASES / "code_blocks.jsonl").read_text().splitlines()]
    record = Record("r", (Message("user", "q"),), "code", "test", tests=TESTS)
    verdicts = verify_many([record] * len(rows), [r["response"] for r in rows])
    found = {r["case"]: "correct" if v.correct else "not correct" for r, v in zip(rows, verdicts)}
    assert found == {r["case"]: r["want"] for r in rows}
