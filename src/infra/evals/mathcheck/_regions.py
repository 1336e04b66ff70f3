"""Subsets of the real line: intervals, inequalities, set builders, unions and complements, as sympy sets."""

from __future__ import annotations

import re
from typing import Any

from . import _shape, _symbols

_REALS = re.compile(r"\\mathbb\s*\{?R\}?|\\mathbf\s*\{?R\}?|\\reals|\\Reals|\\R(?![a-zA-Z])")
_ALL = re.compile(
    r"^(?:for\s+)?(?:the\s+)?(?:set of\s+)?(?:all\s+)?(?:the\s+)?(?:reals|real numbers?|real values?|real)"
    r"(?:\s+(?:of\s+)?[a-z])?\b\s*"
)
_WITHOUT = re.compile(
    r"^(.*?)\s*(?:\\setminus|\\cap|\\wedge| and |,?\s*\b(?:except|excluding|but not|other than)\b(?: for)?)\s*(.*)$"
)
_BUILDER = re.compile(r"^\\\{\s*([a-zA-Z])\s*(?:\\in\s*(.+?))?\s*(?:\||:|\\colon|such that)\s*(.+?)\s*\\\}$")
_NE = re.compile(r"\s*\\ne(?![a-z])\s*")
_ABSOLUTE = re.compile(r"^\|\s*([a-zA-Z])\s*(?:([+-])\s*([^|]+))?\|\s*(<|>|\\le|\\ge)\s*(.+)$")


def region(text: str) -> Any:
    """The set of real numbers that ``text`` describes, or None. Ends must be real numbers or infinite."""
    import sympy

    body = _REALS.sub("R ", text.strip()).strip()
    body = re.sub(r"^[A-Za-z]\s*\\in\s*(?![^|:]*[|:])", "", body)
    if body == "R":
        return sympy.S.Reals
    if body.count("\\{") == 1 and (match := _BUILDER.match(body)):
        inside = region(match.group(3))
        within = region(match.group(2)) if match.group(2) else sympy.S.Reals
        return None if inside is None or within is None else sympy.Intersection(inside, within)
    if match := _WITHOUT.match(body):
        left, right = match.group(1).strip(), match.group(2).strip()
        joined = re.search(r"\\cap|\\wedge| and ", body[match.end(1) : match.start(2)]) is not None
        first, second = region(left), region(right) if joined else _points(right)
        if first is None or second is None:
            return None
        return sympy.Intersection(first, second) if joined else sympy.Complement(first, second)
    if match := re.match(r"^R\s*-\s*(\\\{.*\\\})$", body):
        points = _points(match.group(1))
        return sympy.Complement(sympy.S.Reals, points) if points is not None else None
    parts = re.split(r"\\cup(?![a-z])|\bor\b|\\vee(?![a-z])|(?<=[\])\[])\s*U\s*(?=[\[(\]\\])", body)
    if len(parts) > 1:
        sets = [region(p.strip().strip(",").strip()) for p in parts]
        return None if any(s is None for s in sets) else sympy.Union(*sets)
    if match := _ALL.match(body.lower()):
        rest = body[match.end() :].strip()
        return sympy.S.Reals if not rest or rest == "R" else None
    if _NE.search(body):
        sides = [re.split(_NE, p) for p in _shape.pieces(body)]
        values = [_end(s[-1].strip()) for s in sides]
        named = re.fullmatch(r"[a-zA-Z]|\\[a-z]+", sides[0][0]) is not None
        if not named or any(len(s) > 2 for s in sides) or any(v is None for v in values):
            return None
        return sympy.Complement(sympy.S.Reals, sympy.FiniteSet(*values))
    if match := _ABSOLUTE.match(body):
        return _absolute(match)
    if body.startswith("\\{"):
        return _points(body)
    found = _shape.intervals(body)
    if found is None or len(found) != 1:
        return None
    low, high = _end(found[0].low), _end(found[0].high)
    if low is None or high is None or not low <= high:
        return None
    return sympy.Interval(low, high, found[0].left == "(", found[0].right == ")")


def _points(text: str) -> Any:
    import sympy

    body = text.strip()
    inner = body[2:-2] if body.startswith("\\{") and body.endswith("\\}") else body
    parts = [re.sub(r"^[a-zA-Z]\s*=\s*", "", p) for q in _shape.pieces(inner) for p in re.split(r"\s+(?:and|or)\s+", q)]
    values = [v for p in parts for v in _ends(p.strip())]
    return None if not values or any(v is None for v in values) else sympy.FiniteSet(*values)


def _ends(text: str) -> list[Any]:
    if "\\pm" in text:
        return [_end(text.replace("\\pm", sign).removeprefix("+").strip()) for sign in "+-"]
    return [_end(text)]


def _end(text: str) -> Any:
    """A real number or an infinity, else None."""
    import sympy

    plain = text.replace(" ", "")
    if plain in ("\\infty", "+\\infty", "oo", "inf"):
        return sympy.oo
    if plain in ("-\\infty", "-oo", "-inf"):
        return -sympy.oo
    try:
        value = _symbols.read(text)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
    if not isinstance(value, sympy.Expr) or value.free_symbols or not value.is_real:
        return None
    return sympy.nsimplify(value) if value.is_Rational else value


def _absolute(match: re.Match[str]) -> Any:
    import sympy

    _, sign, shift, relation, bound = match.groups()
    radius, moved = _end(bound), _end(shift) if shift else sympy.Integer(0)
    if radius is None or moved is None or not radius >= 0:
        return None
    centre = -moved if sign == "+" else moved
    strict = relation in "<>"
    if relation in (">", "\\ge"):
        outside = sympy.Interval(centre - radius, centre + radius, not strict, not strict)
        return sympy.Complement(sympy.S.Reals, outside)
    return sympy.Interval(centre - radius, centre + radius, strict, strict)


def same_region(a: Any, b: Any) -> bool:
    """Whether two regions hold the same numbers."""
    import sympy

    return (
        a == b
        or sympy.SymmetricDifference(a, b) == sympy.S.EmptySet
        or bool(sympy.Complement(a, b) == sympy.S.EmptySet and sympy.Complement(b, a) == sympy.S.EmptySet)
    )
