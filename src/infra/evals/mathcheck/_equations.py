"""The last rule: expressions and equations, compared by their symbols."""

from __future__ import annotations

import re
from typing import Any

from . import _equality, _shape, _symbols
from ._number import exact_value
from ._reading import ASSIGNED, Same, both_signs, quiet

_CONSTANT = re.compile(r"\+\s*[CcKk]$|^[CcKk]\s*\+")
_RELATIONS = re.compile(r"[<>]|\\[lg]e(?![a-z])|\\ne")


def expressions(gold: str, answer: str) -> bool:
    """Whether two expressions or two equations say the same for all values of their symbols."""
    theirs, mine = _symbols.degrees_in_trig(gold), _symbols.degrees_in_trig(answer)
    theirs, mine = _shape.without_degrees(theirs), _shape.without_degrees(mine)
    if _CONSTANT.search(theirs) and _CONSTANT.search(mine):
        theirs, mine = (_CONSTANT.sub("", t).strip() + " + C" for t in (theirs, mine))
    if is_equation(theirs) and is_equation(mine):
        if _same_equation(theirs, mine):
            return True
        if ASSIGNED.match(theirs) is None or ASSIGNED.match(mine) is None or _different_unknowns(theirs, mine):
            return False
    theirs, mine = _infinite(ASSIGNED.sub("", theirs)), _infinite(ASSIGNED.sub("", mine))
    if theirs == mine:
        return True
    if exact_value(theirs) is not None and exact_value(mine) is not None:
        return exact_value(theirs) == exact_value(mine)
    a, b = quiet(_symbols.read, theirs), quiet(_symbols.read, mine)
    if a is not None and b is not None:
        settled = quiet(_equality.same_value, a, b)
        if settled is not None:
            return bool(settled)
    return bool(quiet(_by_math_verify, theirs, mine))


def several_curves(gold: str, answer: str, same: Same) -> bool | None:
    """Equations in several unknowns, more than one on a side: ``y = \\pm 2x`` and ``2x - y = 0, 2x + y = 0``."""
    theirs, mine = _curves(gold), _curves(answer)
    if theirs is None or mine is None or len(theirs) == len(mine) == 1:
        return None
    a, b = (quiet(_equality.factors, [_moved(e) for e in side]) for side in (theirs, mine))
    if a is None or b is None:
        return None
    return bool(quiet(_equality.same_factors, a, b))


def _curves(text: str) -> list[str] | None:
    parts = [one for part in _shape.collection(text) or [text] for one in both_signs(part)]
    if not all(is_equation(part) for part in parts):
        return None
    sides = [_moved(part) for part in parts]
    return parts if all(side is not None and len(side.free_symbols) > 1 for side in sides) else None


def is_equation(text: str) -> bool:
    """Whether a text is one equation."""
    return text.count("=") == 1 and not _RELATIONS.search(text)


def _same_equation(gold: str, answer: str) -> bool:
    a, b = _moved(gold), _moved(answer)
    if a is None or b is None:
        return False
    return bool(quiet(_equality.proportional, a, b)) or bool(
        quiet(_equality.same_curve, a, b, quiet(_solved, gold), quiet(_solved, answer))
    )


def _moved(text: str) -> Any:
    left, right = (quiet(_symbols.read, side) for side in text.split("="))
    return quiet(lambda: left - right) if left is not None and right is not None else None


def _solved(text: str) -> tuple[Any, Any] | None:
    """``(unknown, value)`` of an equation that is solved for one of its unknowns."""
    left, right = (_symbols.read(side) for side in text.split("="))
    for unknown, value in ((left, right), (right, left)):
        if getattr(unknown, "is_Symbol", False) and unknown not in value.free_symbols:
            return unknown, value
    return None


def _different_unknowns(gold: str, answer: str) -> bool:
    """``x = 3`` and ``y = 3`` are different answers; names of functions do not matter."""
    left, other = (t.split("=")[0].strip() for t in (gold, answer))
    return left != other and {left, other} <= {"x", "y", "z"} and not re.search(r"[a-z]", gold.split("=")[1])


def _infinite(text: str) -> str:
    plain = text.lower().strip()
    if plain.replace("positive ", "") in ("infinity", "+\\infty"):
        return "\\infty"
    return "-\\infty" if plain in ("negative infinity", "minus infinity", "-infinity", "- \\infty") else text.strip()


def _by_math_verify(gold: str, answer: str) -> bool:
    from math_verify import verify

    theirs, mine = _symbols.read(gold), _symbols.read(answer)
    if theirs is None or mine is None:
        return False
    return bool(verify([theirs], [mine], float_rounding=12, numeric_precision=30, timeout_seconds=None))
