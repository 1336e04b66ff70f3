"""Whether two written answers mean the same value. Runs inside a worker process that may be killed at any time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from . import _counting, _equality, _qualifiers, _quantities, _regions, _several, _shape, _symbols, _texts
from ._clean import clean
from ._equations import expressions, several_curves
from ._number import exact_value, tidy
from ._reading import quiet

_REMARK = re.compile(r"^(.+?)\s*\((?:or|i\.?e\.?|approx|about|which|that is|where|since)\b.*\)$", re.IGNORECASE)


RULES = (
    _texts.nothing,
    _quantities.numbers,
    _quantities.dates,
    _quantities.times,
    _texts.choices,
    _quantities.measures,
    _several.vectors,
    _several.matrices,
    _counting.congruences,
    _counting.ratios,
    _counting.bases,
    several_curves,
    _several.named_values,
    _several.interval_sets,
    _several.all_regions,
    _several.tuples,
    _several.collections,
    _texts.words_alone,
)


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
    if given and _beside_conditions(wanted, given):
        return "correct"
    return "wrong" if readable(gold) else "ungradable"


def _beside_conditions(gold: str, answer: str) -> bool:
    """Whether the two agree once bound names and conditions on one side ("for all x") are out of the way."""
    given = _qualifiers.renamed(gold, answer)
    (theirs, wanted), (mine, stated) = _qualifiers.split(gold), _qualifiers.split(given)
    if (gold, answer) == (theirs, mine) or _contradict(wanted, stated):
        return False
    if same(theirs, mine):
        return True
    a, b = quiet(_symbols.read, theirs), quiet(_symbols.read, mine)
    return any(quiet(_equality.same_family, a, b, name) for name in _qualifiers.whole_names(gold))


def _contradict(wanted: Sequence[str], stated: Sequence[str]) -> bool:
    """Whether both sides restrict a name to parts of the line that differ."""
    regions = [[quiet(_regions.region, c) for c in conditions] for conditions in (wanted, stated)]
    theirs, mine = ([r for r in side if r is not None] for side in regions)
    return bool(theirs and mine) and not any(quiet(_regions.same_region, a, b) for a in theirs for b in mine)


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
    if exact_value(body) is not None or _texts.ALONE.match(body) or _shape.matrix(body) or _shape.tuple_of(body):
        return True
    if _shape.collection(body) is not None or _shape.intervals(body) is not None:
        return True
    return quiet(_symbols.read, body.rsplit("=", 1)[-1]) is not None or bool(re.search(r"[A-Za-z0-9]", body))


def same(gold: str, answer: str) -> bool:
    """Whether two cleaned answers agree: each rule settles the shapes it knows, symbols come last."""
    if not gold or not answer:
        return gold == answer
    if gold == answer:
        return True
    for rule in RULES:
        settled = rule(gold, answer, same)
        if settled is not None:
            return settled
    return expressions(gold, answer)
