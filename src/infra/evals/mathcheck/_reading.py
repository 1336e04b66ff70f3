"""What every rule needs: the type of a comparison, a left side to take off, and calls that may give up."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from . import _words
from ._number import exact_value

Same = Callable[[str, str], bool]

ASSIGNED = re.compile(
    r"^(?:(?:\\angle|\\triangle|m\\angle)?\s*(?:[a-zA-Z](?:_\s*\{?\s*\w+\s*\}?)?|[A-Z]{2,4}|\|[A-Z]{2}\|"
    r"|\\overline\s*\{[A-Z]+\}|\\[a-z]+|[a-zA-Z](?:'|\^\s*\{?-1\}?)?\s*\([a-z]\)|y'"
    r"|\\frac\s*\{d[a-z]\}\s*\{d[a-z]\}|[A-Za-z][A-Za-z ]*))\s*=\s*(?![=])"
)


def quiet(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or None where the mathematics library gives up on what it was handed."""
    try:
        return function(*arguments)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, NotImplementedError):
        return None


def both_signs(text: str) -> list[str]:
    """``\\pm`` as its two values, ``\\mp`` the other way round."""
    if "\\pm" not in text and "\\mp" not in text:
        return [text]
    out = []
    for up, down in ("+-", "-+"):
        one = re.sub(r"\\mp\s*", down, re.sub(r"\\pm\s*", up, text))
        out.append(re.sub(r"^\+|(?<==)\s*\+", "", one))
    return out


def plain_value(text: str) -> Fraction | None:
    """The value of a number in digits or words, brackets around the whole taken off; None for anything else."""
    body = text
    while len(body) > 2 and body[0] == "(" and body[-1] == ")" and "(" not in body[1:]:
        body = body[1:-1].strip()
    found = exact_value(body)
    return found if found is not None else _words.value(body)
