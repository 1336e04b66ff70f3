"""Numbers and other values written in words."""

from __future__ import annotations

import re
from fractions import Fraction

from infra.data.number_words import NUMBER_WORDS

from ._number import exact_value

SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_IRREGULAR = {
    "first": "one",
    "second": "two",
    "third": "three",
    "fifth": "five",
    "eighth": "eight",
    "ninth": "nine",
    "twelfth": "twelve",
}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4}
_SUFFIX = re.compile(r"^([+-]?[\d,]+)\s*(?:\^\s*\{?\s*)?(?:st|nd|rd|th)\s*\}?$")
_TIMES = re.compile(r"^(.*?\d)\s*(hundred|thousand|million|billion|trillion)s?$", re.IGNORECASE)


def value(text: str) -> Fraction | None:
    """The number that words say: ``forty-two``, ``one hundred and five``, ``two thirds``, ``minus three``, ``21st``,
    ``2.5 million``; None for anything else."""
    plain = text.strip().lower()
    if match := _SUFFIX.match(plain):
        return Fraction(int(match.group(1).replace(",", "")))
    if match := re.fullmatch(r"(\d+) out of (\d+)", plain):
        return Fraction(int(match.group(1)), int(match.group(2))) if int(match.group(2)) else None
    if match := _TIMES.match(plain):
        number = exact_value(match.group(1))
        return number * SCALES[match.group(2)] if number is not None else None
    if match := re.match(r"^(?:minus|negative)\s+(\S.*)$", plain):
        size = exact_value(match.group(1))
        size = value(match.group(1)) if size is None else size
        return -size if size is not None else None
    if not re.fullmatch(r"[a-z][a-z ,-]*", plain):
        return None
    words = [w for w in re.split(r"[\s,-]+", plain) if w and w != "and"]
    return _cardinal(words) if _cardinal(words) is not None else _fraction(words) or _ordinal(words)


def _cardinal(words: list[str]) -> Fraction | None:
    if words and words[0] in ("a", "an"):
        words = ["one", *words[1:]] if len(words) > 1 and words[1] in SCALES else []
    if words and words[0] in SCALES:
        words = ["one", *words]
    if not words:
        return None
    total = part = 0
    last = "scale"
    for word in words:
        if word in NUMBER_WORDS:
            small = NUMBER_WORDS[word]
            if last == "one" or (last == "ten" and not 1 <= small <= 9):
                return None
            part += small
            last = "ten" if small >= 20 else "one"
        elif word == "hundred" and 0 < part < 100:
            part, last = part * 100, "scale"
        elif word in SCALES and word != "hundred" and part:
            total, part, last = total + part * SCALES[word], 0, "scale"
        else:
            return None
    return Fraction(total + part)


def _base(word: str) -> str | None:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ieth"):
        return word[:-4] + "y"
    return word[:-2] if word.endswith("th") else None


def _ordinal(words: list[str]) -> Fraction | None:
    base = _base(words[-1]) if words else None
    return _cardinal([*words[:-1], base]) if base is not None else None


def _fraction(words: list[str]) -> Fraction | None:
    if words in (["half"], ["a", "half"]):
        return Fraction(1, 2)
    if len(words) < 2:
        return None
    last = words[-1]
    below = _PARTS.get(last)
    if below is None and last not in ("second", "seconds"):
        found = _ordinal([last.removesuffix("s")])
        below = int(found) if found is not None else None
    head = ["one"] if words[:-1] in (["a"], ["an"]) else words[:-1]
    above = _cardinal(head)
    if not below or above is None or (above != 1 and not last.endswith("s")) or above >= 20:
        return None  # "twenty third" is an ordinal
    return above / below


_SAME = {
    "none": "no solution",
    "no solutions": "no solution",
    "no real solution": "no solution",
    "empty set": "no solution",
    "no real solutions": "no solution",
    "there is no solution": "no solution",
    "\\emptyset": "no solution",
    "there are no solutions": "no solution",
    "no real roots": "no solution",
    "no such value": "no solution",
    "null set": "no solution",
    "there are none": "no solution",
    "\\{\\}": "no solution",
    "\\{ \\}": "no solution",
    "no values": "no solution",
    "no value": "no solution",
    "no such number": "no solution",
    "no roots": "no solution",
    "dne": "undefined",
    "does not exist": "undefined",
    "not defined": "undefined",
    "limit does not exist": "undefined",
    "infinite": "infinitely many",
    "infinitely many solutions": "infinitely many",
    "infinite solutions": "infinitely many",
    "infinitely many": "infinitely many",
    "infinite number": "infinitely many",
    "infinite number of solutions": "infinitely many",
    "mon": "monday",
    "tue": "tuesday",
    "tues": "tuesday",
    "wed": "wednesday",
    "thu": "thursday",
    "thur": "thursday",
    "thurs": "thursday",
    "fri": "friday",
    "sat": "saturday",
    "sun": "sunday",
    "all reals": "all real numbers",
    "all real number": "all real numbers",
    "real numbers": "all real numbers",
    "t": "true",
    "f": "false",
}


def plain(text: str) -> str:
    """Words for comparison: lower case, without hyphens, articles and punctuation, synonyms made one."""
    said = " ".join(re.sub(r"[-.,!?;:\"'`]+", " ", text.casefold().replace("'s", "s")).split())
    said = re.sub(r"^(?:it is|on|in|at)\s+", "", said)
    said = re.sub(r"^(?:the|an?)\s+(?=[a-z]{2})", "", said)
    return _SAME.get(said, said)
