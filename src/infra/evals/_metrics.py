"""Accuracy and its uncertainty. Arrays are ``[problems, samples]``; the unit of resampling is the problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infra.errors import InputError


class Interval(NamedTuple):
    """A mean over ``n`` problems with a bootstrap interval."""

    value: float
    low: float
    high: float
    n: int


def _table(correct: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(correct, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.size == 0:
        raise InputError(f"accuracy needs a table [problems, samples] that is not empty, got shape {table.shape}")
    return table


def pass_at_k(correct: ArrayLike, k: int) -> float:
    """Mean over problems of the chance that one of ``k`` samples is right, unbiased (Chen et al., 2021, eq.
    1).

    ``1 - C(n - c, k) / C(n, k)`` for ``c`` right answers among ``n`` samples. Raises ``InputError`` when k
    > n.
    """
    table = _table(correct)
    n = table.shape[1]
    if not 1 <= k <= n:
        raise InputError(f"pass@{k} needs at least {k} samples per problem and there are {n}")
    wrong = n - (table > 0).sum(1)
    misses = np.ones(len(table))
    for j in range(k):
        misses *= np.maximum(wrong - j, 0) / (n - j)
    return float((1 - misses).mean())


def avg_at_k(correct: ArrayLike) -> float:
    """Mean over problems of the share of right samples (avg@k, also written mean@k)."""
    return float(_table(correct).mean())


def majority_vote(answers: Sequence[Sequence[str | None]], correct: ArrayLike) -> float:
    """Share of problems whose most frequent answer is right (maj@k).

    Missing answers do not vote; ties go to the answer that was given first. Answers count as equal when
    their text is; ``correct[i, j]`` says whether answer ``j`` to problem ``i`` is right.
    """
    table = _table(correct)
    right = 0.0
    for row, marks in zip(answers, table):
        votes = Counter(a for a in row if a is not None)
        if votes:
            winner = votes.most_common(1)[0][0]
            right += float(marks[list(row).index(winner)])
    return right / len(table)


def accuracy_interval(correct: ArrayLike, seed: int = 0, *, level: float = 0.95, resamples: int = 2000) -> Interval:
    """Mean accuracy with a percentile bootstrap interval over problems; ``correct`` is ``[problems,
    samples]``.
    """
    per_problem = _table(correct).mean(1)
    means = _resampled(per_problem, seed, resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(per_problem.mean()), float(low), float(high), len(per_problem))


def accuracy_by(
    correct: ArrayLike, groups: Sequence[object], seed: int = 0, *, level: float = 0.95
) -> dict[str, Interval]:
    """:func:`accuracy_interval` within each group of problems (difficulty, platform, month), sorted by
    name.
    """
    table = _table(correct)
    if len(groups) != len(table):
        raise InputError(f"{len(groups)} groups for {len(table)} problems; give one group per problem")
    names = np.asarray([str(g) for g in groups])
    return {name: accuracy_interval(table[names == name], seed, level=level) for name in sorted(set(names.tolist()))}


def paired_difference(
    a: ArrayLike, b: ArrayLike, seed: int = 0, *, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """Mean of ``a - b`` over the same problems in the same order, resampled problem by problem."""
    first, second = _table(a), _table(b)
    if len(first) != len(second):
        raise InputError(f"a paired difference needs the same problems: {len(first)} and {len(second)} rows")
    difference = first.mean(1) - second.mean(1)
    low, high = np.quantile(_resampled(difference, seed, resamples), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(difference.mean()), float(low), float(high), len(difference))


def seed_mean(per_seed: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and its standard error (nan for a single seed)."""
    values = np.asarray(per_seed, dtype=np.float64)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


def summarise(per_seed: Mapping[int, ArrayLike]) -> dict[str, float]:
    """Mean accuracy over seeds, its standard error over seeds, and their number."""
    mean, error = seed_mean([avg_at_k(c) for c in per_seed.values()])
    return {"mean": mean, "standard_error": error, "seeds": float(len(per_seed))}


def _resampled(values: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    return counts @ values / len(values)
