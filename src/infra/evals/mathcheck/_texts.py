"""Rules for answers in words: no solution, letters of choices, names."""

from __future__ import annotations

import re

from . import _words
from ._reading import Same

ALONE = re.compile(r"^[A-Za-z][A-Za-z' \-,.]*$")


_CHOICE = re.compile(r"^(?:(?:option|choice|answer|point)\s+)?\(?\s*([A-Za-z])\s*\)?[.:]?$", re.IGNORECASE)


_LABELLED = re.compile(r"^(?:\(\s*([A-Z])\s*\)[\s:.]*|([A-Z])(?:\s*[.):]\s+|\)\s*|:\s*))(.+)$")


def nothing(gold: str, answer: str, same: Same) -> bool | None:
    """No solution, in words or as the empty set."""
    said = [_words.plain(text) == "no solution" for text in (gold, answer)]
    return True if all(said) else None


def choices(gold: str, answer: str, same: Same) -> bool | None:
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


def words_alone(gold: str, answer: str, same: Same) -> bool | None:
    said, mine = _words.plain(gold), _words.plain(answer)
    if not ALONE.match(gold) or len(gold) < 2 or not ALONE.match(answer):
        return None
    if len(gold) <= 3 and len(answer) <= 3 and gold.islower() and answer.islower() and gold not in ("no", "yes", "odd"):
        return None  # a product of variables
    if said == mine:
        return True
    pair = [sorted(p for p in re.split(r"\s+and\s+|,\s*", t.casefold()) if p) for t in (gold, answer)]
    return len(pair[0]) > 1 and pair[0] == pair[1]
