"""Scores of a labelling against a reference: F1 = 2PR / (P + R), macro F1 the plain mean over classes that count."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError

Labels = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label: ``n`` reference cases, ``predicted`` cases, and the usual three figures (NaN where
    undefined)."""

    label: str
    n: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class LabelReport:
    """Scores per label and macro F1 over labels with at least ``min_cases`` cases, with a 95% interval.

    The interval is a percentile bootstrap over groups (traces or problems), classes held fixed.
    """

    scores: tuple[LabelScore, ...]
    macro_f1: float
    low: float
    high: float
    counted: tuple[str, ...]
    min_cases: int
    steps: int
    groups: int


def score_labels(
    truth: Labels,
    predicted: Labels,
    labels: Sequence[str],
    groups: Sequence[Hashable] | None = None,
    min_cases: int = 15,
    resamples: int = 2000,
    seed: int = 0,
) -> LabelReport:
    """Precision, recall, F1 and n per label, macro F1 over those with ``n >= min_cases``.

    ``groups``: what a step belongs to (its trace or problem); the bootstrap draws groups with replacement.
    Raises :class:`InputError` when lengths differ.
    """
    if len(truth) != len(predicted) or (groups is not None and len(groups) != len(truth)):
        raise InputError(f"{len(truth)} reference steps but {len(predicted)} predicted; label the same steps")
    t, p = _table(truth, labels), _table(predicted, labels)
    names = list(range(len(truth))) if groups is None else list(groups)
    index = {g: i for i, g in enumerate(dict.fromkeys(names))}
    counts = np.zeros((len(index), 3, len(labels)))
    np.add.at(counts, [index[g] for g in names], np.stack([t & p, p, t], axis=1).astype(float))
    total = counts.sum(0)
    counted = total[2] >= min_cases
    rng = np.random.default_rng(seed)
    macros = np.full(resamples, np.nan)
    if counted.any():
        for i in range(resamples):
            drawn = rng.multinomial(len(index), np.full(len(index), 1 / len(index)))
            macros[i] = np.nanmean(_f1(np.tensordot(drawn, counts, 1))[counted])
    f1 = _f1(total)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = total[0] / total[1], total[0] / total[2]
    low, high = np.nanpercentile(macros, [2.5, 97.5]) if counted.any() else (math.nan, math.nan)
    return LabelReport(
        scores=tuple(
            LabelScore(x, int(total[2, i]), int(total[1, i]), float(precision[i]), float(recall[i]), float(f1[i]))
            for i, x in enumerate(labels)
        ),
        macro_f1=float(f1[counted].mean()) if counted.any() else math.nan,
        low=float(low),
        high=float(high),
        counted=tuple(x for i, x in enumerate(labels) if counted[i]),
        min_cases=min_cases,
        steps=len(truth),
        groups=len(index),
    )


def _table(rows: Labels, labels: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([[x in row for x in labels] for row in rows], dtype=bool).reshape(len(rows), len(labels))


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 per label from rows (true positives, predicted, actual); 0 where there are cases but no hit."""
    hits, predicted, actual = counts
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(predicted + actual > 0, 2 * hits / (predicted + actual), np.nan)
