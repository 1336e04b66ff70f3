"""Difficulty from a model: a judge's rating on the AoPS scale, a label of its own.

A rating is asked several times over; the median is the label and Krippendorff's alpha says how far the votes agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from infra.data.difficulty import with_attributes
from infra.data.schema import Message, Record
from infra.models.generation import Generator, Prompt, Sampling, generate_cached

SCALE = """\
Rate how hard the problem below is, on the Art of Problem Solving scale of competition problems, from 1 to 10:
1 primary and early middle school, a step or two; 2 harder middle school, easiest AMC; 3 late AMC 10 and 12
questions that need one idea; 4 the last AMC questions, middle AIME; 5 hard AIME, easy national olympiad; 6 the
hardest AIME, easiest international olympiad; 7 and 8 middle olympiad problems that need several ideas; 9 hard
international olympiad; 10 the hardest ever set. Rate programming problems by the thought they need, on the same
scale.
Think briefly. End with one line: Rating: N"""
_RATING = re.compile(r"rating\W*(\d+(?:\.\d+)?)(?:\s*/\s*10)?", re.I)


@dataclass(frozen=True, slots=True)
class Ratings:
    """``votes``: readable ratings by record id; ``unread``: how many votes had none; ``alpha``: Krippendorff's,
    interval scale, over records with at least two votes (None when there are none, or all ratings are equal)."""

    votes: dict[str, tuple[float, ...]]
    unread: int
    alpha: float | None


def judge_messages(record: Record) -> tuple[Message, ...]:
    """What the judge is asked: the scale and the question, without the response."""
    return (Message("user", f"{SCALE}\n\nProblem:\n{record.question}"),)


def parse_rating(text: str) -> float | None:
    """The last ``Rating: N`` with N from 1 to 10, else None."""
    found = [float(m) for m in _RATING.findall(text)]
    return found[-1] if found and 1 <= found[-1] <= 10 else None


def judge_difficulty(
    records: Sequence[Record],
    judge: Generator,
    *,
    cache_file: str | Path,
    votes: int = 3,
    temperature: float = 0.7,
    max_new_tokens: int = 1024,
    seed: int = 0,
) -> tuple[list[Record], Ratings]:
    """Records with ``difficulty_judge`` (median rating) and ``difficulty_judge_votes`` (how many), and the ratings.

    ``judge`` is any generator, such as ``OpenAIServer``; finished votes are in ``cache_file`` and are not asked
    again. A record without a readable vote keeps neither attribute. Raises what the generator raises.
    """
    prompts = [Prompt(r.id, judge_messages(r)) for r in records]
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens, n=votes)
    texts: dict[str, list[str]] = {r.id: [] for r in records}
    for generation in generate_cached(judge, prompts, sampling, seed, cache_file):
        texts[generation.prompt_id].append(generation.text)
    return label_ratings(records, texts)


def label_ratings(records: Sequence[Record], texts: Mapping[str, Sequence[str]]) -> tuple[list[Record], Ratings]:
    """The same from the judge's texts by record id."""
    parsed = {r.id: [parse_rating(t) for t in texts.get(r.id, ())] for r in records}
    readable = {id: tuple(v for v in values if v is not None) for id, values in parsed.items()}
    labelled = [
        with_attributes(
            r, {"difficulty_judge": float(median(readable[r.id])), "difficulty_judge_votes": len(readable[r.id])}
        )
        if readable[r.id]
        else r
        for r in records
    ]
    unread = sum(v is None for values in parsed.values() for v in values)
    return labelled, Ratings(readable, unread, interval_alpha(list(readable.values())))


def interval_alpha(units: Sequence[Sequence[float]]) -> float | None:
    """Krippendorff's alpha with the squared difference: 1 - observed / expected disagreement.

    ``units`` holds each unit's values, any number of them; units with one value do not count. None when no unit has two
    values, or when all values are equal. Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011).
    """
    pairable = [np.asarray(u, dtype=np.float64) for u in units if len(u) >= 2]
    if not pairable:
        return None
    values = np.concatenate(pairable)
    expected = float(((values[:, None] - values[None, :]) ** 2).sum()) / (len(values) * (len(values) - 1))
    if expected == 0:
        return None
    observed = sum(float(((u[:, None] - u[None, :]) ** 2).sum()) / (len(u) - 1) for u in pairable) / len(values)
    return 1 - observed / expected
