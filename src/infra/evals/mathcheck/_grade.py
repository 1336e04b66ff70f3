"""Whether two written answers mean the same value. Runs inside a worker process that may be killed at any time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from . import _shape, _symbols
from ._number import exact_value, tidy

_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_UNIT_NAMES = {
    "in": "inch", "inches": "inch", "ft": "foot", "feet": "foot", "yd": "yard", "mi": "mile", "mm": "millimeter",
    "cm": "centimeter", "m": "meter", "km": "kilometer", "metre": "meter", "g": "gram", "kg": "kilogram",
    "s": "second", "sec": "second", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute",
    "l": "liter", "litre": "liter", "ml": "milliliter", "mph": "mile per hour", "cents": "cent",
}  # fmt: skip
_UNITS = {*_UNIT_NAMES, *_UNIT_NAMES.values(), *(name + "s" for name in _UNIT_NAMES.values())}
_ALONE = re.compile(r"^[A-Za-z][A-Za-z' \-]*$")
_CHOICE = re.compile(r"^\(?\s*([A-Za-z])\s*\)?\.?$")
_LABELLED = re.compile(r"^\(\s*([A-Z])\s*\)[\s:.]*(.+)$")
_ASSIGNED = re.compile(r"^(?:[a-zA-Z](?:_\{?\w+\}?)?|[a-zA-Z]\([a-z]\))\s*=\s*")
_PERCENT = re.compile(r"^(.*?)\s*(?:\\?%|percent|per cent|percentage)$", re.IGNORECASE)


def grade(gold: str, answer: str) -> str:
    """``correct``, ``wrong`` or ``ungradable`` (the gold itself cannot be read)."""
    mine, theirs = exact_value(answer), exact_value(gold)
    if mine is not None and theirs is not None:
        return "correct" if mine == theirs else "wrong"
    if tidy(gold) and tidy(gold) == tidy(answer):
        return "correct"
    if same(_shape.clean(gold), _shape.clean(answer)):
        return "correct"
    return "wrong" if readable(gold) else "ungradable"


def readable(gold: str) -> bool:
    """Whether a reference says anything that another answer could be compared with."""
    body = _shape.clean(gold)
    if not body:
        return False
    if exact_value(body) is not None or _ALONE.match(body) or _shape.matrix(body) or _shape.tuple_of(body):
        return True
    if _shape.collection(body) is not None or _shape.intervals(body) is not None:
        return True
    return _quiet(_symbols.read, body.rsplit("=", 1)[-1]) is not None or bool(re.search(r"[A-Za-z0-9]", body))


def same(gold: str, answer: str) -> bool:
    """Whether two cleaned answers agree: each rule settles the shapes it knows, symbols come last."""
    if not gold or not answer:
        return gold == answer
    if gold == answer:
        return True
    for rule in (_numbers, _matrices, _ratios, _bases, _interval_sets, _tuples, _collections, _choices, _words):
        settled = rule(gold, answer)
        if settled is not None:
            return settled
    return _expressions(gold, answer)


def _numbers(gold: str, answer: str) -> bool | None:
    """Plain numbers, money, degrees, percentages and units: the value counts, a missing or added unit does not."""
    theirs, mine = _quantity(gold), _quantity(answer)
    if theirs is None or mine is None:
        return None
    (value, unit), (other, other_unit) = theirs, mine
    if "%" in (unit, other_unit) and unit != other_unit:
        # one side has no per cent sign: it may state the percentage or the fraction
        return value == other or (value / 100 if unit == "%" else value) == (other / 100 if unit != "%" else other)
    if unit and other_unit and unit != other_unit:
        return False
    return value == other


def _quantity(text: str) -> tuple[Fraction, str] | None:
    body = _shape.without_degrees(_shape.strip_currency(_ASSIGNED.sub("", text)))
    body = re.sub(r"\s*(?:degrees?|dollars?|euros?|pounds)$", "", body)
    percent = _PERCENT.match(body)
    if percent:
        value = _value(percent.group(1))
        return (value, "%") if value is not None else None
    value = _value(body)
    if value is not None:
        return value, ""
    with_unit = re.match(r"^([-+.\d,/\s]+|.*\})\s*([A-Za-z][A-Za-z ./]*?)\s*(?:\^\{?[23]\}?)?$", body)
    if with_unit and (body[with_unit.start(2) - 1] == " " or with_unit.group(2).lower() in _UNITS):
        value = _value(with_unit.group(1))
        if value is not None:
            return value, _unit(with_unit.group(2))
    return None


def _value(text: str) -> Fraction | None:
    found = exact_value(text)
    if found is None:
        words = re.split(r"[\s-]+", text.strip().lower())
        if 0 < len(words) <= 2:
            tens = _TENS.get(words[0])
            if tens is not None and (len(words) == 1 or words[1] in _WORDS[1:10]):
                return Fraction(tens + (_WORDS.index(words[1]) if len(words) == 2 else 0))
            if len(words) == 1 and words[0] in _WORDS:
                return Fraction(_WORDS.index(words[0]))
    return found


def _unit(text: str) -> str:
    words = re.sub(r"[^a-z/ ]", "", text.lower().replace("/", " per ")).split()
    words = [_UNIT_NAMES.get(w, w) for w in words if w not in ("of",)]
    return " ".join(w[:-1] if len(w) > 3 and w.endswith("s") else w for w in words)


def _matrices(gold: str, answer: str) -> bool | None:
    theirs, mine = _shape.matrix(gold), _shape.matrix(answer)
    if theirs is None or mine is None:
        return None
    if [len(r) for r in theirs] != [len(r) for r in mine]:
        return False
    return all(same(a, b) for row, other in zip(theirs, mine) for a, b in zip(row, other))


def _ratios(gold: str, answer: str) -> bool | None:
    if gold.count(":") != 1 or answer.count(":") != 1:
        return None
    values = [exact_value(part) for part in (*gold.split(":"), *answer.split(":"))]
    if any(v is None for v in values):
        return None
    a, b, c, d = (v for v in values if v is not None)
    return a * d == b * c and bool(a or b)


def _bases(gold: str, answer: str) -> bool | None:
    """Digits with a base: ``1011_2``. The base may be left out of the answer."""
    theirs, mine = (re.fullmatch(r"([0-9A-Za-z]+)_\{?(\d+)\}?", t.replace(" ", "")) for t in (gold, answer))
    if theirs is None:
        return None
    if mine is None:
        return answer.replace(" ", "") == theirs.group(1) if re.fullmatch(r"\w+", answer) else None
    return theirs.groups() == mine.groups()


def _interval_sets(gold: str, answer: str) -> bool | None:
    theirs, mine = _shape.intervals(gold), _shape.intervals(answer)
    if theirs is None or mine is None:
        return None
    if len(theirs) != len(mine):
        return False
    return _matched(theirs, mine, _same_interval)


def _same_interval(a: _shape.Interval, b: _shape.Interval) -> bool:
    return (a.left, a.right) == (b.left, b.right) and same(a.low, b.low) and same(a.high, b.high)


def _tuples(gold: str, answer: str) -> bool | None:
    theirs, mine = _shape.tuple_of(gold), _shape.tuple_of(answer)
    if theirs is None and mine is None:
        return None
    theirs = theirs if theirs is not None else _bare_list(gold)
    mine = mine if mine is not None else _bare_list(answer)
    if theirs is None or mine is None:
        return None
    return len(theirs) == len(mine) and all(same(a, b) for a, b in zip(theirs, mine))


def _bare_list(text: str) -> list[str] | None:
    if text.startswith("\\{"):
        return None
    found = _shape.collection(text)
    return [_ASSIGNED.sub("", part) for part in found] if found else None


def _collections(gold: str, answer: str) -> bool | None:
    theirs, mine = _members(gold), _members(answer)
    if theirs is None and mine is None:
        return None
    theirs = theirs if theirs is not None else [gold]
    mine = mine if mine is not None else [answer]
    if _named(gold) and _named(answer):
        theirs, mine = sorted(_shape.pieces(gold)), sorted(_shape.pieces(answer))
    return _matched(theirs, mine, same)


def _named(text: str) -> bool:
    parts = _shape.pieces(text)
    names = {p.split("=")[0].strip() for p in parts}
    return len(parts) > 1 and len(names) == len(parts) and all("=" in p for p in parts)


def _members(text: str) -> list[str] | None:
    body = re.sub(r"^[a-zA-Z]\s*(?:=|\\in)\s*(?=\\\{|\\emptyset|\\pm|.*,)", "", text)
    found = _shape.collection(body)
    if found is not None:
        found = [part if _named(text) else _ASSIGNED.sub("", part) for part in found]
    if "\\pm" in body:
        return [v for part in (found or [body]) for v in _both_signs(part)]
    return found


def _both_signs(text: str) -> list[str]:
    if "\\pm" not in text:
        return [text]
    return [re.sub(r"\\pm\s*", "+", text, count=1).removeprefix("+"), re.sub(r"\\pm\s*", "-", text, count=1)]


def _matched(gold: Sequence[Any], answer: Sequence[Any], equal: Callable[[Any, Any], bool]) -> bool:
    """Whether the two hold the same members, in any order, each once."""
    theirs, mine = _distinct(gold, equal), _distinct(answer, equal)
    if len(theirs) != len(mine):
        return False
    left = list(mine)
    for one in theirs:
        hit = next((i for i, other in enumerate(left) if equal(one, other)), None)
        if hit is None:
            return False
        del left[hit]
    return True


def _distinct(members: Sequence[Any], equal: Callable[[Any, Any], bool]) -> list[Any]:
    out: list[Any] = []
    for member in members:
        if not any(equal(member, other) for other in out):
            out.append(member)
    return out


def _choices(gold: str, answer: str) -> bool | None:
    """Letters of multiple-choice answers, with or without brackets and the choice's own content."""
    letter, content = _choice(gold)
    other, other_content = _choice(answer)
    if letter is None or other is None:
        return None
    if content is None and other_content is None and not (letter.isupper() or other.isupper()):
        return None  # two lower-case letters are variables
    return letter.upper() == other.upper()


def _choice(text: str) -> tuple[str | None, str | None]:
    alone = _CHOICE.match(text)
    if alone:
        return alone.group(1), None
    labelled = _LABELLED.match(text)
    return (labelled.group(1), labelled.group(2)) if labelled else (None, None)


def _words(gold: str, answer: str) -> bool | None:
    if not _ALONE.match(gold) or len(gold) < 2:
        return None
    if not _ALONE.match(answer):
        return None
    if len(gold) <= 3 and len(answer) <= 3 and gold.islower() and answer.islower() and gold not in ("no", "yes", "odd"):
        return None  # a product of variables
    return _plain_words(gold) == _plain_words(answer)


def _plain_words(text: str) -> str:
    return " ".join(text.casefold().replace("-", " ").split())


def _expressions(gold: str, answer: str) -> bool:
    theirs, mine = _shape.without_degrees(gold), _shape.without_degrees(answer)
    theirs, mine = _without_unit(_shape.strip_currency(theirs)), _without_unit(_shape.strip_currency(mine))
    if _is_equation(theirs) and _is_equation(mine):
        a, b = _moved(theirs), _moved(mine)
        if a is not None and b is not None and (_quiet(_symbols.proportional, a, b) or False):
            return True
        if _ASSIGNED.match(theirs) is None or _ASSIGNED.match(mine) is None:
            return False
    theirs, mine = _ASSIGNED.sub("", theirs), _ASSIGNED.sub("", mine)
    if exact_value(theirs) is not None and exact_value(mine) is not None:
        return exact_value(theirs) == exact_value(mine)
    a, b = _quiet(_symbols.read, theirs), _quiet(_symbols.read, mine)
    if a is not None and b is not None and _quiet(_symbols.same_value, a, b):
        return True
    return bool(_quiet(_by_math_verify, theirs, mine))


def _is_equation(text: str) -> bool:
    return text.count("=") == 1 and not re.search(r"[<>]|\\[lg]e(?![a-z])|\\ne", text)


def _moved(text: str) -> Any:
    left, right = (_quiet(_symbols.read, side) for side in text.split("="))
    return left - right if left is not None and right is not None else None


def _without_unit(text: str) -> str:
    """``24\\pi cm^3`` without its unit: known ones, or a word of three letters or more set off by a space."""
    unit = r"((?:(?:square|cubic|sq)\s+)?[A-Za-z]{1,14})\.?(?:\s*\^\s*\{?[23]\}?)?$"
    found = re.match(r"^(.*?[\d}\])a-z])(\s*)" + unit, text)
    if found is None or not (found.group(2) or found.group(1)[-1] in ")}]" or found.group(1)[-1].isdigit()):
        return text
    word = found.group(3).lower().split()[-1]
    known = word in _UNITS and (len(word) > 1 or found.group(2) != "")
    return found.group(1).strip() if known or (found.group(2) and len(word) > 3) else text


def _by_math_verify(gold: str, answer: str) -> bool:
    from math_verify import verify

    theirs, mine = _symbols.read(gold), _symbols.read(answer)
    if theirs is None or mine is None:
        return False
    return bool(verify([theirs], [mine], float_rounding=12, numeric_precision=30, timeout_seconds=None))


def _quiet(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or None where the mathematics library gives up on what it was handed."""
    try:
        return function(*arguments)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, NotImplementedError):
        return None
