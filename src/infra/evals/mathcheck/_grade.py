"""Whether two written answers mean the same value. Runs inside a worker process that may be killed at any time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from . import _measure, _regions, _shape, _symbols, _words
from ._clean import clean
from ._number import exact_value, tidy

_ALONE = re.compile(r"^[A-Za-z][A-Za-z' \-,.]*$")
_CHOICE = re.compile(r"^(?:(?:option|choice|answer|point)\s+)?\(?\s*([A-Za-z])\s*\)?[.:]?$", re.IGNORECASE)
_LABELLED = re.compile(r"^(?:\(\s*([A-Z])\s*\)[\s:.]*|([A-Z])(?:\s*[.):]\s+|\)\s*|:\s*))(.+)$")
_ASSIGNED = re.compile(
    r"^(?:(?:\\angle|\\triangle|m\\angle)?\s*(?:[a-zA-Z](?:_\s*\{?\s*\w+\s*\}?)?|[A-Z]{2,4}|\\overline\s*\{[A-Z]+\}|\\[a-z]+"
    r"|[a-zA-Z](?:'|\^\s*\{?-1\}?)?\s*\([a-z]\)|y'|\\frac\s*\{d[a-z]\}\s*\{d[a-z]\}|[A-Za-z][A-Za-z ]*))\s*=\s*(?![=])"
)
_PERCENT = re.compile(
    r"^(.*?)\s*(?:\\?%|percent(?:age)?|per cent)(?:\s+(?:of|increase|decrease|chance|probability)\b.*)?$", re.IGNORECASE
)
_REMARK = re.compile(r"^(.+?)\s*\((?:or|i\.?e\.?|approx|about|which|that is|where|since)\b.*\)$", re.IGNORECASE)
_CONSTANT = re.compile(r"\+\s*[CcKk]$|^[CcKk]\s*\+")


def grade(gold: str, answer: str) -> str:
    """``correct``, ``wrong`` or ``ungradable`` (the gold itself cannot be read)."""
    mine, theirs = exact_value(answer), exact_value(gold)
    if mine is not None and theirs is not None:
        return "correct" if mine == theirs else "wrong"
    if tidy(gold) and tidy(gold) == tidy(answer):
        return "correct"
    wanted, given = clean(gold), clean(answer)
    if given and any(same(wanted, reading) for reading in readings(wanted, given)):
        return "correct"
    return "wrong" if readable(gold) else "ungradable"


def readings(gold: str, answer: str) -> list[str]:
    """The cleaned answer and what it says besides: the value before an approximation or a remark in brackets, and a
    chain of equal values as one of them (all of them have to agree)."""
    out = [answer]
    near = re.split(r"\\approx(?![a-z])", answer)
    if len(near) > 1 and near[0].strip():
        out.append(near[0].strip())
    remark = _REMARK.match(answer)
    if remark:
        out.append(remark.group(1))
    links = [part.strip() for part in answer.split("=")]
    if len(links) == 2 and "=" not in gold and all(links) and _same_links(links):
        out.append(links[0])
    return out


def _same_links(links: Sequence[str]) -> bool:
    if re.fullmatch(r"[A-Za-z]\w*(?:\([a-z]\))?", links[0]):
        return False
    return all(same(a, b) for a, b in itertools.pairwise(links))


def readable(gold: str) -> bool:
    """Whether a reference says anything that another answer could be compared with."""
    body = clean(gold)
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
    for rule in (
        _nothing,
        _numbers,
        _dates,
        _times,
        _choices,
        _measures,
        _vectors,
        _matrices,
        _congruences,
        _ratios,
        _bases,
        _named_values,
        _interval_sets,
        _all_regions,
        _tuples,
        _collections,
        _words_alone,
    ):
        settled = rule(gold, answer)
        if settled is not None:
            return settled
    return _expressions(gold, answer)


def _nothing(gold: str, answer: str) -> bool | None:
    """No solution, in words or as the empty set."""
    said = [_words.plain(text) == "no solution" for text in (gold, answer)]
    return True if all(said) else None


def _numbers(gold: str, answer: str) -> bool | None:
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
    body = _ASSIGNED.sub("", text)
    percent = _PERCENT.match(body)
    value = _value(percent.group(1) if percent else body)
    return None if value is None else (value, percent is not None)


def _value(text: str) -> Fraction | None:
    body = text
    while len(body) > 2 and body[0] == "(" and body[-1] == ")" and "(" not in body[1:]:
        body = body[1:-1].strip()
    found = exact_value(body)
    return found if found is not None else _words.value(body)


def _dates(gold: str, answer: str) -> bool | None:
    theirs, mine = _measure.date(gold), _measure.date(answer)
    if theirs is None or mine is None:
        return None
    return theirs[:2] == mine[:2] and (theirs[2] == mine[2] or theirs[2] is None or mine[2] is None)


def _times(gold: str, answer: str) -> bool | None:
    """Times of day; a missing half of the day is forgiven. Two bare ``a:b`` are ratios."""
    theirs, mine = _measure.clock(gold), _measure.clock(answer)
    bare = all(re.fullmatch(r"\d+ ?: ?\d+", text) for text in (gold, answer))
    if (theirs is None and mine is None) or (bare and "0" not in gold + answer):
        return None
    if theirs is None or mine is None:
        hour, known = _value(answer if mine is None else gold), mine or theirs
        if hour is None or known is None:
            return None
        return hour.denominator == 1 and (hour * 3600 - known[0]) % 43_200 == 0
    if bare:
        return theirs[0] == mine[0] or None
    gap = theirs[0] - mine[0]
    return gap % 86_400 == 0 if theirs[1] and mine[1] else gap % 43_200 == 0


def _measures(gold: str, answer: str) -> bool | None:
    """Quantities with units and money: a unit that is missing or added does not matter, a different one does."""
    if _shape.tuple_of(gold) or _shape.tuple_of(answer):
        return None
    gold, answer = _ASSIGNED.sub("", gold), _ASSIGNED.sub("", answer)
    theirs, mine = (_measure.measured(t) for t in (gold, answer))
    theirs, mine = (None if _listed(t, m) else m for t, m in ((gold, theirs), (answer, mine)))
    if theirs is None and mine is None:
        return None
    if theirs is None or mine is None:
        other, measured = (gold, mine) if theirs is None else (answer, theirs)
        assert measured is not None
        value = _value(other)
        if value is not None and measured.exact is not None:
            return value == measured.exact
        if measured.exact is not None and _percentage(other) is not None:
            return _percentage(other) == measured.exact
        if "radian" in dict(measured.unit.dimension) or measured.exact is None:
            return same(other, measured.value) or None
        if dict(measured.unit.dimension) == {"angle": 1} and "\\pi" in other:
            return _expressions(_in_radians(measured.exact), other)
        return None
    a, b = theirs.unit, mine.unit
    pounds = {(("sterling", 1),), (("mass", 1),)} == {a.dimension, b.dimension}  # money or weight
    alike = a.dimension == b.dimension and (a.words <= b.words or b.words <= a.words)
    money = {"dollar", "euro", "sterling", "yen", "rupee"} & dict(a.dimension).keys() & dict(b.dimension).keys()
    if money and len(a.dimension) != len(b.dimension):
        return same(theirs.value, mine.value)  # "an hour" is missing
    if not (pounds or alike or a.empty() or b.empty()):
        if {("angle", 1), ("radian", 1)} == {*a.dimension, *b.dimension} and theirs.exact is not None:
            return _expressions(_in_radians(theirs.exact), mine.value)
        return False
    if a.empty() or b.empty() or a.factor == b.factor or a.dimension != b.dimension:
        return same(theirs.value, mine.value)
    if theirs.exact is not None and mine.exact is not None:
        return theirs.exact * a.factor == mine.exact * b.factor
    scale = b.factor / a.factor
    return _expressions(theirs.value, f"\\frac{{{scale.numerator}}}{{{scale.denominator}}} \\cdot ({mine.value})")


def _in_radians(degrees: Fraction) -> str:
    return f"\\frac{{{degrees.numerator} \\pi}}{{{180 * degrees.denominator}}}"


def _listed(text: str, found: _measure.Measured | None) -> bool:
    """Whether a list of values was taken for one value."""
    return found is not None and found.exact is None and _shape.collection(text) is not None


def _percentage(text: str) -> Fraction | None:
    percent = _PERCENT.match(text)
    return _value(percent.group(1)) if percent else None


def _vectors(gold: str, answer: str) -> bool | None:
    """A vector in any notation against a vector or a point. Columns and rows of matrices are compared as matrices."""
    theirs, mine = _shape.vector(gold), _shape.vector(answer)
    if (theirs is None and mine is None) or (_shape.matrix(gold) is not None and _shape.matrix(answer) is not None):
        return None
    if all(_shape.bracketed(t) for t in (gold, answer)) or all("\\binom" in t for t in (gold, answer)):
        return None
    theirs = theirs if theirs is not None else _shape.tuple_of(gold)
    mine = mine if mine is not None else _shape.tuple_of(answer)
    if theirs is None or mine is None:
        return None
    for one, other in ((gold, answer), (answer, gold)):
        if _shape.intervals(one) is not None and _shape.bracketed(other):
            return None
    return len(theirs) == len(mine) and all(same(a, b) for a, b in zip(theirs, mine))


def _matrices(gold: str, answer: str) -> bool | None:
    theirs, mine = _shape.matrix(gold), _shape.matrix(answer)
    if theirs is not None and mine is None and re.fullmatch(r"I(?:_\s*\{?\d\}?)?", answer):
        return theirs == [["1" if i == j else "0" for j in range(len(theirs))] for i in range(len(theirs))]
    if theirs is None or mine is None:
        return None
    if [len(r) for r in theirs] != [len(r) for r in mine]:
        return False
    return all(same(a, b) for row, other in zip(theirs, mine) for a, b in zip(row, other))


_CONGRUENCE = re.compile(
    r"^(?:[a-zA-Z]\s*(?:\\equiv|=)\s*)?(-?\d+)\s*(?:\\pmod\s*\{?\s*(\d+)\s*\}?|\(?\s*\\?(?:b?mod|modulo)\s*(\d+)\s*\)?)$"
)


def _congruences(gold: str, answer: str) -> bool | None:
    """Residue classes: ``x \\equiv 3 \\pmod 7`` says the same as ``10 mod 7`` and as the bare residue."""
    theirs, mine = (_CONGRUENCE.match(t) for t in (gold, answer))
    if theirs is None and mine is None:
        return None
    if theirs is None or mine is None:
        left = (theirs or mine).group(1)  # type: ignore[union-attr]
        return _value(_ASSIGNED.sub("", answer if mine is None else gold)) == int(left) or None
    modulus, other = (int(m.group(2) or m.group(3)) for m in (theirs, mine))
    return modulus == other and modulus > 0 and (int(theirs.group(1)) - int(mine.group(1))) % modulus == 0


def _ratios(gold: str, answer: str) -> bool | None:
    """``a : b (: c)`` or ``a to b``, up to a common factor; a ratio of two against its quotient."""
    theirs, mine = _terms(gold), _terms(answer)
    if theirs is None and mine is None:
        return None
    if theirs is None or mine is None:
        terms, other = (theirs, answer) if mine is None else (mine, gold)
        if terms is None or len(terms) != 2 or ":" in other or "," in other:
            return None
        return _expressions(f"\\frac{{{terms[0]}}}{{{terms[1]}}}", other)
    if len(theirs) != len(mine):
        return False
    a, b = ([exact_value(t) for t in terms] for terms in (theirs, mine))
    if any(v is None for v in (*a, *b)):
        cross = [(rf"({x}) \cdot ({mine[0]})", rf"({y}) \cdot ({theirs[0]})") for x, y in zip(theirs[1:], mine[1:])]
        return all(_expressions(p, q) for p, q in cross)
    x, y = ([v for v in vs if v is not None] for vs in (a, b))
    return all(x[0] * y[i] == y[0] * x[i] for i in range(1, len(x))) and [bool(v) for v in x] == [bool(v) for v in y]


def _terms(text: str) -> list[str] | None:
    body = _ASSIGNED.sub("", text)
    if re.search(r"[\[\]|<>]|\\[{}]|\\(?:in|to)(?![a-z])", body):
        return None
    parts = [p.strip() for p in re.split(r":|\s+to\s+", body)]
    return parts if len(parts) > 1 and all(re.search(r"[\da-z]", p) for p in parts) else None


_BASES = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "twelve": 12,
    "sixteen": 16,
}


def _bases(gold: str, answer: str) -> bool | None:
    """Digits with a base: ``1011_2``, by value. The base may be left out of the answer."""
    theirs, mine = _in_base(gold), _in_base(answer)
    if theirs is None and mine is None:
        return None
    if theirs is not None and mine is not None:
        return int(*theirs) == int(*mine)
    if theirs is None and mine is not None:
        return exact_value(gold) == int(*mine) or None
    assert theirs is not None
    return answer.replace(" ", "").upper() == theirs[0].upper()


def _in_base(text: str) -> tuple[str, int] | None:
    body = re.sub(r"[\s,]|\\(?=_)", "", _ASSIGNED.sub("", text))
    match = re.fullmatch(r"\(?([0-9A-Za-z]+)\)?_\{?(\d+|[a-z]+)\}?", body)
    match = match or re.fullmatch(r"\(?([0-9A-Z]+)\)?\(?(?:in)?base(\d+|[a-z]+)\)?", body)
    if match is None:
        prefixed = re.fullmatch(r"0([bxo])([0-9A-Fa-f]+)", body)
        if prefixed is None:
            return None
        digits, base = prefixed.group(2), {"b": 2, "o": 8, "x": 16}[prefixed.group(1)]
    else:
        digits = match.group(1)
        base = int(match.group(2)) if match.group(2).isdigit() else _BASES.get(match.group(2), 0)
    try:
        int(digits, base if 2 <= base <= 36 else 2)
    except ValueError:
        return None
    return (digits.upper(), base) if 2 <= base <= 36 and (digits[0].isdigit() or base > 10) else None


def _named_values(gold: str, answer: str) -> bool | None:
    """``x=2, y=-1`` against the same in any order, or against the point ``(2,-1)`` (names in alphabetical order)."""
    theirs, mine = _by_name(gold), _by_name(answer)
    if theirs is None and mine is None:
        return None
    if theirs is not None and mine is not None:
        return theirs.keys() == mine.keys() and all(same(theirs[k], mine[k]) for k in theirs)
    named, other = (theirs, answer) if theirs is not None else (mine, gold)
    point = _shape.tuple_of(other)
    if named is None or point is None:
        return None
    return len(named) == len(point) and all(
        same(a, b) if theirs is not None else same(b, a) for a, b in zip([named[k] for k in sorted(named)], point)
    )


def _by_name(text: str) -> dict[str, str] | None:
    body = re.sub(r"\\(?:begin|end)\{(?:cases|aligned|align\*?)\}|&", "", text.strip())
    parts = [p for q in (_shape.collection(body.replace("\\\\", ",")) or []) for p in [q.strip()] if p]
    pairs = [re.fullmatch(r"([a-zA-Z](?:_\{?\w\}?)?)\s*=\s*([^=]+)", p) for p in parts]
    if len(pairs) < 2 or any(p is None for p in pairs):
        return None
    found = {p.group(1): p.group(2).strip() for p in pairs if p is not None}
    indexed = {re.split("_", name)[0] for name in found}
    return found if len(found) == len(pairs) and len(indexed) == len(found) else None


def _interval_sets(gold: str, answer: str) -> bool | None:
    theirs, mine = _shape.intervals(gold), _shape.intervals(answer)
    if theirs is None or mine is None:
        return None
    if len(theirs) == len(mine) and _matched(theirs, mine, _same_interval):
        return True
    return None if max(len(theirs), len(mine)) > 1 else False


def _all_regions(gold: str, answer: str) -> bool | None:
    """Subsets of the real line in any notation."""
    theirs, mine = _quiet(_regions.region, gold), _quiet(_regions.region, answer)
    if theirs is None or mine is None or not (_spans(gold) or _spans(answer)):
        return None
    return bool(_quiet(_regions.same_region, theirs, mine))


def _spans(text: str) -> bool:
    return re.search(r"[<>|\[\]]|\\(?:le|ge|ne|cup|cap|infty|mathbb|setminus)(?![a-z])|real", text) is not None


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
    return _matched(theirs, mine, same)


def _members(text: str) -> list[str] | None:
    body = re.sub(r"^(?:[a-zA-Z]|\([a-z](?:,\s*[a-z])+\))\s*(?:=|\\in)\s*(?=\\\{|\\emptyset|\\pm|.*,|.* or )", "", text)
    found = _shape.collection(body)
    if found is None and "\\cup" in body:
        parts = [_shape.collection(p.strip()) for p in body.split("\\cup") if p.strip().startswith("\\{")]
        if len(parts) == body.count("\\cup") + 1:
            found = [m for part in parts for m in part or []]
    if found is not None:
        found = [_ASSIGNED.sub("", part) for part in found]
    if found is None and re.fullmatch(r"[A-E]{2,5}", body):
        return sorted(body)  # letters of choices
    if "\\pm" in body or "\\mp" in body:
        return [v for part in (found or [_ASSIGNED.sub("", body)]) for v in _both_signs(part)]
    return found


def _both_signs(text: str) -> list[str]:
    if "\\pm" not in text and "\\mp" not in text:
        return [text]
    out = []
    for up, down in ("+-", "-+"):
        one = re.sub(r"\\mp\s*", down, re.sub(r"\\pm\s*", up, text))
        out.append(one.removeprefix("+"))
    return out


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
    if letter is not None and content is not None and other is None:
        return same(content, answer)
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
    if labelled is None or ("," in labelled.group(3) and "(" in labelled.group(3)):
        return None, None
    return labelled.group(1) or labelled.group(2), labelled.group(3)


def _words_alone(gold: str, answer: str) -> bool | None:
    said, mine = _words.plain(gold), _words.plain(answer)
    if not _ALONE.match(gold) or len(gold) < 2 or not _ALONE.match(answer):
        return None
    if len(gold) <= 3 and len(answer) <= 3 and gold.islower() and answer.islower() and gold not in ("no", "yes", "odd"):
        return None  # a product of variables
    if said == mine:
        return True
    pair = [sorted(p for p in re.split(r"\s+and\s+|,\s*", t.casefold()) if p) for t in (gold, answer)]
    return len(pair[0]) > 1 and pair[0] == pair[1]


def _expressions(gold: str, answer: str) -> bool:
    theirs, mine = _symbols.degrees_in_trig(gold), _symbols.degrees_in_trig(answer)
    theirs, mine = _shape.without_degrees(theirs), _shape.without_degrees(mine)
    if _CONSTANT.search(theirs) and _CONSTANT.search(mine):
        theirs, mine = (_CONSTANT.sub("", t).strip() + " + C" for t in (theirs, mine))
    if _is_equation(theirs) and _is_equation(mine):
        a, b = _moved(theirs), _moved(mine)
        if a is not None and b is not None and (_quiet(_symbols.proportional, a, b) or False):
            return True
        if _ASSIGNED.match(theirs) is None or _ASSIGNED.match(mine) is None or _different_unknowns(theirs, mine):
            return False
    theirs, mine = _infinite(_ASSIGNED.sub("", theirs)), _infinite(_ASSIGNED.sub("", mine))
    if theirs == mine:
        return True
    if exact_value(theirs) is not None and exact_value(mine) is not None:
        return exact_value(theirs) == exact_value(mine)
    a, b = _quiet(_symbols.read, theirs), _quiet(_symbols.read, mine)
    if a is not None and b is not None:
        settled = _quiet(_symbols.same_value, a, b)
        if settled is not None:
            return bool(settled)
    return bool(_quiet(_by_math_verify, theirs, mine))


def _different_unknowns(gold: str, answer: str) -> bool:
    """``x = 3`` and ``y = 3`` are different answers; names of functions do not matter."""
    left, other = (t.split("=")[0].strip() for t in (gold, answer))
    return left != other and {left, other} <= {"x", "y", "z"} and not re.search(r"[a-z]", gold.split("=")[1])


def _infinite(text: str) -> str:
    plain = text.lower().strip()
    if plain.replace("positive ", "") in ("infinity", "+\\infty"):
        return "\\infty"
    return "-\\infty" if plain in ("negative infinity", "minus infinity", "-infinity", "- \\infty") else text.strip()


def _is_equation(text: str) -> bool:
    return text.count("=") == 1 and not re.search(r"[<>]|\\[lg]e(?![a-z])|\\ne", text)


def _moved(text: str) -> Any:
    left, right = (_quiet(_symbols.read, side) for side in text.split("="))
    return left - right if left is not None and right is not None else None


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
