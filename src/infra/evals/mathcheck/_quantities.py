"""Rules for single quantities: numbers, percentages, dates, clock times, values with units."""

from __future__ import annotations

import re
from fractions import Fraction

from . import _measure, _shape
from ._equations import expressions
from ._reading import ASSIGNED, Same, plain_value

_PERCENT = re.compile(
    r"^(.*?)\s*(?:\\?%|percent(?:age)?|per cent)(?:\s+(?:of|increase|decrease|chance|probability)\b.*)?$", re.IGNORECASE
)


def numbers(gold: str, answer: str, same: Same) -> bool | None:
    """Plain numbers, words for numbers and percentages."""
    theirs, mine = _quantity(gold), _quantity(answer)
    if theirs is None or mine is None:
        return None
    (value, percent), (other, other_percent) = theirs, mine
    if percent != other_percent:
        # one side has no per cent sign: it may state the percentage or the fraction
        return value == other or (value / 100 if percent else value) == (other / 100 if other_percent else other)
    return value == other


def _quantity(text: str) -> tuple[Fraction, bool] | None:
    body = ASSIGNED.sub("", text)
    percent = _PERCENT.match(body)
    value = plain_value(percent.group(1) if percent else body)
    return None if value is None else (value, percent is not None)


def dates(gold: str, answer: str, same: Same) -> bool | None:
    theirs, mine = _measure.date(gold), _measure.date(answer)
    if theirs is None or mine is None:
        return None
    return theirs[:2] == mine[:2] and (theirs[2] == mine[2] or theirs[2] is None or mine[2] is None)


def times(gold: str, answer: str, same: Same) -> bool | None:
    """Times of day; a missing half of the day is forgiven. ``3:5`` is a ratio, ``3:05`` and ``12:00`` are times."""
    theirs, mine = _measure.clock(gold), _measure.clock(answer)
    if theirs is not None and mine is not None:
        return (theirs[0] - mine[0]) % (86_400 if theirs[1] and mine[1] else 43_200) == 0
    known = theirs or mine
    if known is not None and all(re.fullmatch(r"\d+ ?: ?\d+", t) for t in (gold, answer)):
        return False if re.search(r":\s*0\d", gold + answer) else None  # no term of a ratio begins with a zero
    hour = plain_value(answer if mine is None else gold) if known is not None else None
    if hour is None or known is None:
        return None
    return (hour.denominator == 1 and (hour * 3600 - known[0]) % 43_200 == 0) or None


def measures(gold: str, answer: str, same: Same) -> bool | None:
    """Quantities with units and money: a unit that is missing or added does not matter, a different one does."""
    if _shape.tuple_of(gold) or _shape.tuple_of(answer):
        return None
    gold, answer = ASSIGNED.sub("", gold), ASSIGNED.sub("", answer)
    theirs, mine = (_measure.measured(t) for t in (gold, answer))
    theirs, mine = (None if _listed(t, m) else m for t, m in ((gold, theirs), (answer, mine)))
    if theirs is None and mine is None:
        return None
    if theirs is None or mine is None:
        other, measured = (gold, mine) if theirs is None else (answer, theirs)
        assert measured is not None
        value = plain_value(other)
        if value is not None and measured.exact is not None:
            return value == measured.exact
        if measured.exact is not None and _percentage(other) is not None:
            return _percentage(other) == measured.exact
        if "radian" in dict(measured.unit.dimension) or measured.exact is None:
            return same(other, measured.value) or None
        if dict(measured.unit.dimension) == {"angle": 1} and "\\pi" in other:
            return expressions(_in_radians(measured.exact), other)
        return None
    a, b = theirs.unit, mine.unit
    pounds = {(("sterling", 1),), (("mass", 1),)} == {a.dimension, b.dimension}  # money or weight
    alike = a.dimension == b.dimension and (a.words <= b.words or b.words <= a.words)
    money = {"dollar", "euro", "sterling", "yen", "rupee"} & dict(a.dimension).keys() & dict(b.dimension).keys()
    if money and len(a.dimension) != len(b.dimension):
        return same(theirs.value, mine.value)  # "an hour" is missing
    if not (pounds or alike or a.empty() or b.empty()):
        if {("angle", 1), ("radian", 1)} == {*a.dimension, *b.dimension} and theirs.exact is not None:
            return expressions(_in_radians(theirs.exact), mine.value)
        return False
    if a.empty() or b.empty() or a.factor == b.factor or a.dimension != b.dimension:
        return same(theirs.value, mine.value)
    if theirs.exact is not None and mine.exact is not None:
        return theirs.exact * a.factor == mine.exact * b.factor
    scale = b.factor / a.factor
    return expressions(theirs.value, f"\\frac{{{scale.numerator}}}{{{scale.denominator}}} \\cdot ({mine.value})")


def _in_radians(degrees: Fraction) -> str:
    return f"\\frac{{{degrees.numerator} \\pi}}{{{180 * degrees.denominator}}}"


def _listed(text: str, found: _measure.Measured | None) -> bool:
    """Whether a list of values was taken for one value."""
    return found is not None and found.exact is None and _shape.collection(text) is not None


def _percentage(text: str) -> Fraction | None:
    percent = _PERCENT.match(text)
    return plain_value(percent.group(1)) if percent else None
