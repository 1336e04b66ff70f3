"""Rules for notations of whole numbers: residue classes, ratios, digits with a base."""

from __future__ import annotations

import re

from ._equations import expressions
from ._number import exact_value
from ._reading import ASSIGNED, Same, plain_value

_CONGRUENCE = re.compile(
    r"^(?:[a-zA-Z]\s*(?:\\equiv|=)\s*)?(-?\d+)\s*(?:\\pmod\s*\{?\s*(\d+)\s*\}?|\(?\s*\\?(?:b?mod|modulo)\s*(\d+)\s*\)?)$"
)


def congruences(gold: str, answer: str, same: Same) -> bool | None:
    """Residue classes: ``x \\equiv 3 \\pmod 7`` says the same as ``10 mod 7`` and as the bare residue."""
    theirs, mine = (_CONGRUENCE.match(t) for t in (gold, answer))
    if theirs is None and mine is None:
        return None
    if theirs is None or mine is None:
        left = (theirs or mine).group(1)  # type: ignore[union-attr]
        return plain_value(ASSIGNED.sub("", answer if mine is None else gold)) == int(left) or None
    modulus, other = (int(m.group(2) or m.group(3)) for m in (theirs, mine))
    return modulus == other and modulus > 0 and (int(theirs.group(1)) - int(mine.group(1))) % modulus == 0


def ratios(gold: str, answer: str, same: Same) -> bool | None:
    """``a : b (: c)`` or ``a to b``, up to a common factor; a ratio of two against its quotient."""
    theirs, mine = _terms(gold), _terms(answer)
    if theirs is None and mine is None:
        return None
    if theirs is None or mine is None:
        terms, other = (theirs, answer) if mine is None else (mine, gold)
        if terms is None or len(terms) != 2 or ":" in other or "," in other:
            return None
        return expressions(f"\\frac{{{terms[0]}}}{{{terms[1]}}}", other)
    if len(theirs) != len(mine):
        return False
    a, b = ([exact_value(t) for t in terms] for terms in (theirs, mine))
    if any(v is None for v in (*a, *b)):
        cross = [(rf"({x}) \cdot ({mine[0]})", rf"({y}) \cdot ({theirs[0]})") for x, y in zip(theirs[1:], mine[1:])]
        return all(expressions(p, q) for p, q in cross)
    x, y = ([v for v in vs if v is not None] for vs in (a, b))
    return all(x[0] * y[i] == y[0] * x[i] for i in range(1, len(x))) and [bool(v) for v in x] == [bool(v) for v in y]


def _terms(text: str) -> list[str] | None:
    body = ASSIGNED.sub("", text)
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


def bases(gold: str, answer: str, same: Same) -> bool | None:
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
    body = re.sub(r"[\s,]|\\(?=_)", "", ASSIGNED.sub("", text))
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
