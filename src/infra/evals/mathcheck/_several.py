"""Rules for answers of several parts: vectors, matrices, tuples, sets, lists, named values, regions of the line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from . import _regions, _shape
from ._reading import ASSIGNED, Same, both_signs, quiet

_IDENTITY = re.compile(r"([^I]*?)\s*(?:\\cdot\s*)?I(?:_\s*\{?\d\}?)?")


def vectors(gold: str, answer: str, same: Same) -> bool | None:
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


def matrices(gold: str, answer: str, same: Same) -> bool | None:
    theirs, mine = _shape.matrix(gold), _shape.matrix(answer)
    if theirs is not None and mine is None and (match := _IDENTITY.fullmatch(answer)):
        scale = match.group(1).strip("() ") or "1"
        mine = [
            ["0" if i != j else {"-": "-1"}.get(scale, scale) for j in range(len(theirs))] for i in range(len(theirs))
        ]
    if theirs is None or mine is None:
        return None
    if [len(r) for r in theirs] != [len(r) for r in mine]:
        return False
    return all(same(a, b) for row, other in zip(theirs, mine) for a, b in zip(row, other))


def named_values(gold: str, answer: str, same: Same) -> bool | None:
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


def interval_sets(gold: str, answer: str, same: Same) -> bool | None:
    theirs, mine = _shape.intervals(gold), _shape.intervals(answer)
    if theirs is None or mine is None:
        return None

    def alike(a: _shape.Interval, b: _shape.Interval) -> bool:
        return (a.left, a.right) == (b.left, b.right) and same(a.low, b.low) and same(a.high, b.high)

    if len(theirs) == len(mine) and _matched(theirs, mine, alike):
        return True
    return None if max(len(theirs), len(mine)) > 1 else False


def all_regions(gold: str, answer: str, same: Same) -> bool | None:
    """Subsets of the real line in any notation."""
    theirs, mine = quiet(_regions.region, gold), quiet(_regions.region, answer)
    if theirs is None or mine is None or not (_spans(gold) or _spans(answer)):
        return None
    return bool(quiet(_regions.same_region, theirs, mine))


def _spans(text: str) -> bool:
    return re.search(r"[<>|\[\]]|\\(?:le|ge|ne|cup|cap|infty|mathbb|setminus)(?![a-z])|real", text) is not None


def tuples(gold: str, answer: str, same: Same) -> bool | None:
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
    return [ASSIGNED.sub("", part) for part in found] if found else None


def collections(gold: str, answer: str, same: Same) -> bool | None:
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
        found = [ASSIGNED.sub("", part) for part in found]
    if found is None and re.fullmatch(r"[A-E]{2,5}", body):
        return sorted(body)  # letters of choices
    if "\\pm" in body or "\\mp" in body:
        return [v for part in (found or [ASSIGNED.sub("", body)]) for v in both_signs(part)]
    return found


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
