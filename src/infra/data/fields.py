"""Checked access to the fields of a raw row, and the conversation pieces every adapter needs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.data.schema import Attribute, Message, Span

Raw = Mapping[str, Any]


class RowProblem(Exception):
    """A field of a row that cannot be used. Caught by the reader, which adds file, line and record id."""

    def __init__(self, field_name: str, reason: str) -> None:
        super().__init__(f"field {field_name!r}: {reason}")
        self.field = field_name
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Draft:
    """What an adapter makes of a row: a :class:`~infra.data.schema.Record` before its id and source are
    settled."""

    messages: tuple[Message, ...]
    domain: str
    answer: str | None = None
    tests: Mapping[str, Any] | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    weight: float = 1.0
    id: str | None = None
    source: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()


def text(row: Raw, name: str) -> str:
    """A field that must be a text with something in it."""
    value = row.get(name)
    if value is None:
        raise RowProblem(name, "missing; every row needs it")
    if not isinstance(value, str):
        raise RowProblem(name, f"a text is expected, found {type(value).__name__}")
    if not value.strip():
        raise RowProblem(name, "empty; fill it or remove the row")
    return value


def optional_text(row: Raw, name: str) -> str | None:
    """A field that may be missing, null or blank (then None); numbers become text."""
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise RowProblem(name, f"a text is expected, found {type(value).__name__}")


def weight(row: Raw) -> float:
    """A finite, non-negative ``weight``; 1 when missing."""
    value = row.get("weight")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise RowProblem("weight", f"a finite number of at least 0 is expected, found {value!r}")
    return float(value)


def listing(row: Raw, name: str) -> list[Any]:
    """A list field; None gives an empty list."""
    value = row.get(name)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise RowProblem(name, f"a list is expected, found {type(value).__name__}")
    return list(value)


def from_json(row: Raw, name: str) -> Any:
    """The value of a field published as JSON inside a text (blank or null gives None)."""
    value = row.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowProblem(name, f"not JSON ({error})") from error


def known(**attributes: Any) -> dict[str, Attribute]:
    """Attributes without those that are None."""
    return {name: value for name, value in attributes.items() if value is not None}


def dialogue(question: str, response: str | None, system: str | None = None) -> tuple[Message, ...]:
    """[system], user and, when there is a response, assistant."""
    head = (Message("system", system),) if system else ()
    tail = (Message("assistant", response),) if response is not None else ()
    return (*head, Message("user", question), *tail)


def think(reasoning: str, solution: str) -> str:
    """Reasoning and solution published apart, joined in the form that reasoning models write."""
    return f"<think>\n{reasoning.strip()}\n</think>\n\n{solution.strip()}"


def finished(response: str) -> bool:
    """False for a response that breaks off inside its thinking part."""
    return response.count("<think>") <= response.count("</think>")


def fence(code: str) -> str:
    """Code in a Python fence, line ends normalised."""
    return "```python\n" + code.replace("\r\n", "\n").strip("\n").rstrip() + "\n```"


_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_UNBRACED = re.compile(r"\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)|[^\s$\\{},;.]+(?:[.,]\d+)*")


def boxed(solution: str | None) -> str | None:
    r"""The content of the last ``\boxed{...}`` with balanced braces, or of ``\boxed 5`` without any.

    Args:
        solution: the text to look in.

    Returns:
        What stands in the box; None without one.
    """
    found = None if solution is None else list(_BOX.finditer(solution))
    if not found or solution is None:
        return None
    start = found[-1].end()
    if solution[start : start + 1] != "{":
        bare = _UNBRACED.match(solution, start)
        return None if bare is None else bare.group()
    depth = 0
    for i in range(start, len(solution)):
        depth += (solution[i] == "{") - (solution[i] == "}")
        if depth == 0:
            return solution[start + 1 : i].strip() or None
    return None


def level_number(value: object) -> int | None:
    """``"Level 3"`` or ``3`` as 3; None when there is no number in it (``"Level ?"``)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = re.search(r"\d+", value) if isinstance(value, str) else None
    return int(found.group()) if found else None


_CODE = re.compile(r"```(?:python|cpp|java)|\bdef \w+\(|stdin|executable Python function|class Solution", re.I)
_MATH = re.compile(r"\\boxed|\\frac|\$[^$]+\$|final response within")


def guess_domain(messages: Sequence[Message]) -> str:
    """``code``, ``math`` or ``other`` for data that does not say: the question's own words first, then the
    response's."""
    question = " ".join(m.content for m in messages if m.role == "user")
    if _CODE.search(question):
        return "code"
    if _MATH.search(question):
        return "math"
    response = next((m.content for m in reversed(messages) if m.role == "assistant"), "")
    if "```python" in response or "```cpp" in response:
        return "code"
    return "math" if _MATH.search(response) else "other"


def io_tests(value: Any, name: str) -> dict[str, Any] | None:
    """APPS-style ``{"inputs": [...], "outputs": [...], "fn_name"?: str}`` as the record's tests, or None.

    With ``fn_name`` each input is a list of arguments: one JSON value a line, as LiveCodeBench writes them;
    an output wrapped in a list of one is unwrapped, as the APPS checker accepts it.
    """
    if not value:
        return None
    if (
        not isinstance(value, Mapping)
        or not isinstance(value.get("inputs"), list)
        or not isinstance(value.get("outputs"), list)
    ):
        raise RowProblem(name, "an object with the lists 'inputs' and 'outputs' is expected")
    inputs, outputs = value["inputs"], value["outputs"]
    if len(inputs) != len(outputs):
        raise RowProblem(name, f"{len(inputs)} inputs but {len(outputs)} outputs")
    if not inputs:
        return None
    entry = value.get("fn_name")
    if not entry:
        cases = [{"input": _lines(i), "output": _lines(o)} for i, o in zip(inputs, outputs)]
        return {"kind": "stdin", "cases": cases}
    cases = []
    for arguments, output in zip(inputs, outputs):
        args = arguments if isinstance(arguments, list) else [arguments]
        result = output[0] if isinstance(output, list) and len(output) == 1 else output
        cases.append({"input": "\n".join(json.dumps(a) for a in args), "output": json.dumps(result)})
    return {"kind": "functional", "entry_point": str(entry), "cases": cases}


def _lines(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(str(v) for v in value)
    return str(value)
