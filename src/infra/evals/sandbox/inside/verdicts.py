"""What the judge says, and how it compares.

A verdict is ``{"outcome", "detail", "codes"}``. Outcomes: ``correct``, ``wrong``, ``error`` (the program raised,
died or broke a limit), ``timeout``, ``ungradable`` (the tests cannot be run). ``codes`` are LiveCodeBench's, one
per test that was run: True passed, -2 wrong answer, -3 time limit, -4 runtime error.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

Verdict = dict[str, Any]
PASSED, WRONG, LATE, FAILED = True, -2, -3, -4
OUTCOMES = {WRONG: "wrong", LATE: "timeout", FAILED: "error"}
DETAIL = 500


def verdict(outcome: str, detail: str = "", codes: list[Any] | None = None) -> Verdict:
    """The judge's answer to one job. Whatever a program put into ``detail`` is printable afterwards."""
    return {"outcome": outcome, "detail": printable(detail[:DETAIL]), "codes": codes or []}


def printable(text: str) -> str:
    """``text`` with control characters (but newlines and tabs) and lone surrogates written as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def same(result: Any, expected: Any) -> bool:
    """Whether plain data equal each other; data that cannot be compared do not."""
    try:
        return bool(result == expected)
    except (TypeError, ValueError, RecursionError, ArithmeticError):
        return False


def lines_agree(output: str, expected: str) -> bool:
    """LiveCodeBench's comparison: stripped lines, equal as text or token by token as decimal numbers."""
    mine, theirs = output.strip().split("\n"), expected.strip().split("\n")
    if len(mine) != len(theirs):
        return False
    for a, b in zip(mine, theirs):
        if a.strip() == b.strip():
            continue
        some, others = a.split(), b.split()
        try:
            if len(some) != len(others) or any(Decimal(x) != Decimal(y) for x, y in zip(some, others)):
                return False
        except (InvalidOperation, ValueError):
            return False
    return True
