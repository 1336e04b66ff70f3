"""Copies within a data set, and evaluation problems that leak into training text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from infra.data.schema import Record
from infra.data.splits import normalise

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\w+|[-+*/^<>=%]")
_SHORTEST = 5


@dataclass(frozen=True, slots=True)
class Overlap:
    """``kind`` is ``exact`` (same question) or ``ngram``; ``text`` is the shared n-gram, '' for exact."""

    train_id: str
    eval_id: str
    kind: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """``id`` repeats the record ``of``: the same messages (``kind`` is ``record``) or only the same ``question``."""

    id: str
    of: str
    kind: str


def words(text: str) -> list[str]:
    """Lower-case runs of letters, digits and underscores."""
    return _WORD.findall(text.lower())


def tokens(text: str) -> list[str]:
    """Words and the operators between them, so that ``3 + 4`` and ``3 * 4`` differ."""
    return _TOKEN.findall(text.lower())


def _grams(items: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(items[i:] for i in range(n)))


def overlaps(train: Iterable[Record], evaluation: Sequence[Record], n: int = 13) -> list[Overlap]:
    """Training records that hold an evaluation problem: its whole question, or some words of it in a row.

    The n-grams of every evaluation question are looked up in the question and the response of each training record (13
    words as in the GPT-3 report's contamination study). A question shorter than ``n`` words is found only whole: the
    training question equals it, or it stands in the text, operators included, with at least 5 words and operators.

    Cost: two dictionary look-ups a training word. Memory: the evaluation n-grams.

    Args:
        train: records to look in.
        evaluation: problems to look for.
        n: words in a row that count.

    Returns:
        One entry a pair of records.
    """
    index = _Index(evaluation, n)
    return [overlap for record in train for overlap in index.hits(record)]


class _Index:
    """The evaluation questions by whole text, by n-gram, and the short ones by their first five tokens."""

    def __init__(self, evaluation: Sequence[Record], n: int) -> None:
        self.n = n
        self.exact: dict[str, list[str]] = {}
        self.grams: dict[tuple[str, ...], list[str]] = {}
        self.short: dict[tuple[str, ...], list[tuple[list[str], str]]] = {}
        for problem in evaluation:
            question = problem.question
            self.exact.setdefault(normalise(question), []).append(problem.id)
            if len(words(question)) >= n:
                for gram in set(_grams(words(question), n)):
                    self.grams.setdefault(gram, []).append(problem.id)
            elif len(whole := tokens(question)) >= _SHORTEST:
                self.short.setdefault(tuple(whole[:_SHORTEST]), []).append((whole, problem.id))

    def hits(self, record: Record) -> list[Overlap]:
        found = {e: Overlap(record.id, e, "exact") for e in self.exact.get(normalise(record.question), ())}
        for message in record.messages:
            if message.role == "system":
                continue
            if self.grams:
                for gram in _grams(words(message.content), self.n):
                    for e in self.grams.get(gram, ()):
                        found.setdefault(e, Overlap(record.id, e, "ngram", " ".join(gram)))
            if self.short:
                text = tokens(message.content)
                for at, gram in enumerate(_grams(text, _SHORTEST)):
                    for whole, e in self.short.get(gram, ()):
                        if text[at : at + len(whole)] == whole:
                            found.setdefault(e, Overlap(record.id, e, "ngram", " ".join(whole)))
        return list(found.values())


def duplicates(records: Iterable[Record]) -> list[Duplicate]:
    """Every record whose messages, or else whose question, appeared before.

    Args:
        records: in the order in which the first of equals counts.

    Returns:
        One entry a repeated record, with the id of the first such record.
    """
    by_messages: dict[tuple[tuple[str, str], ...], str] = {}
    by_question: dict[str, str] = {}
    found = []
    for record in records:
        whole = tuple((m.role, normalise(m.content)) for m in record.messages)
        question = normalise(record.question)
        if whole in by_messages:
            found.append(Duplicate(record.id, by_messages[whole], "record"))
        elif question in by_question:
            found.append(Duplicate(record.id, by_question[question], "question"))
        by_messages.setdefault(whole, record.id)
        by_question.setdefault(question, record.id)
    return found


def drop(records: Iterable[Record], ids: Iterable[str]) -> list[Record]:
    """The records whose ids are not listed, in their order.

    Args:
        records: to choose from.
        ids: of those to leave out.
    """
    gone = set(ids)
    return [r for r in records if r.id not in gone]
