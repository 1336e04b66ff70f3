"""Search: words that must begin a word of the text, and phrases in quotes, as conditions of a question to DuckDB.

The words of every text are (word number, row) pairs in word order, so that a prefix is one range. A phrase is looked
for in the texts of those rows that have all of its words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.errors import InputError
from infra.report.explorer.index import MOST_LETTERS, RunIndex

MAX_WORDS = 32
"""Words of one search; each is a question of its own to the index."""


@dataclass(frozen=True)
class Wanted:
    """``prefixes`` each begin a word of the text; ``phrases`` are whole words next to each other."""

    prefixes: Sequence[str]
    phrases: Sequence[Sequence[str]]


def parse_search(text: str) -> Wanted:
    """What a search asks for. Raises :class:`InputError` for more than :data:`MAX_WORDS` words."""
    pieces = text.split('"')
    prefixes = few_words([w for piece in pieces[::2] for w in words_of(piece)])
    phrases = [tuple(words) for piece in pieces[1::2] if (words := words_of(piece))]
    few_words([*prefixes, *(w for phrase in phrases for w in phrase)])
    return Wanted(prefixes, list(dict.fromkeys(phrases)))


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case, as the index cuts them."""
    return [w[:MOST_LETTERS] for w in re.split(r"[^\w]+", text.lower()) if w]


def few_words(words: Sequence[str]) -> list[str]:
    """The words, each once. Raises :class:`InputError` for more than :data:`MAX_WORDS`."""
    found = list(dict.fromkeys(words))
    if len(found) > MAX_WORDS:
        raise InputError(f"the search has {len(found)} words; give at most {MAX_WORDS}")
    return found


def search_conditions(run: RunIndex, con: Any, text: str) -> tuple[list[str], list[Any]]:
    """SQL conditions on ``examples`` and their values; a whole id finds that example alone."""
    text = text.strip()
    if not text:
        return [], []
    hit = con.execute("SELECT _row FROM examples WHERE id = ?", [text]).fetchone()
    if hit:
        return ["_row = ?"], [hit[0]]
    wanted = parse_search(text)
    if not wanted.prefixes and not wanted.phrases:
        return ["preview LIKE '%' || ? || '%'"], [text]
    if not run.searchable.is_set():
        shown = [*wanted.prefixes, *(" ".join(phrase) for phrase in wanted.phrases)]
        return ["lower(preview) LIKE '%' || ? || '%'"] * len(shown), shown
    ranges = [_numbers(con, "word >= ? AND word < ? || chr(1114111)", [w, w]) for w in wanted.prefixes]
    phrases = [[_numbers(con, "word = ?", [w]) for w in phrase] for phrase in wanted.phrases]
    if None in ranges or any(None in words for words in phrases):
        return ["false"], []
    parts = [_ROWS] * len(ranges)
    values: list[Any] = [bound for found in ranges for bound in found or ()]
    for phrase, words in zip(wanted.phrases, phrases):
        all_words = " AND ".join([_ROWS] * len(words))
        values += [bound for found in words for bound in found or ()]
        if len(phrase) == 1:
            parts.append(all_words)
        else:
            parts.append(f"_row IN (SELECT _row FROM texts WHERE {all_words} AND contains(text, ?))")
            values.append(f" {' '.join(phrase)} ")
    return parts, values


_ROWS = "_row IN (SELECT _row FROM postings WHERE number BETWEEN ? AND ?)"


def _numbers(con: Any, condition: str, values: list[str]) -> tuple[int, int] | None:
    """The first and last number of the words for which a condition on the vocabulary holds."""
    found = con.execute(f"SELECT min(number), max(number) FROM vocabulary WHERE {condition}", values).fetchone()
    return None if found is None or found[0] is None else (int(found[0]), int(found[1]))
