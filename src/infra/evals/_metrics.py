"""Accuracy of samples. Arrays are ``[problems, samples]``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from infra.errors import InputError
from infra.intervals import LEVEL, Interval, accuracy_interval, verdict_table


def pass_at_k(correct: ArrayLike, k: int) -> float:
    """Mean over problems of the chance that one of ``k`` samples is right, unbiased (Chen et al., 2021, eq.
    1).

    ``1 - C(n - c, k) / C(n, k)`` for ``c`` right answers among ``n`` samples. Raises ``InputError`` when k
    > n.
    """
    table = verdict_table(correct)
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
    return float(verdict_table(correct).mean())


def majority_vote(answers: Sequence[Sequence[str | None]], correct: ArrayLike) -> float:
    """Share of problems whose most frequent answer is right (maj@k).

    Missing answers do not vote; ties go to the answer that was given first. Answers count as equal when
    their text is; ``correct[i, j]`` says whether answer ``j`` to problem ``i`` is right.
    """
    table = verdict_table(correct)
    right = 0.0
    for row, marks in zip(answers, table):
        votes = Counter(a for a in row if a is not None)
        if votes:
            winner = votes.most_common(1)[0][0]
            right += float(marks[list(row).index(winner)])
    return right / len(table)


def accuracy_by(correct: ArrayLike, groups: Sequence[object], *, level: float = LEVEL) -> dict[str, Interval]:
    """:func:`accuracy_interval` within each group of problems (difficulty, platform, month), sorted by
    name.
    """
    table = verdict_table(correct)
    if len(groups) != len(table):
        raise InputError(f"{len(groups)} groups for {len(table)} problems; give one group per problem")
    names = np.asarray([str(g) for g in groups])
    return {name: accuracy_interval(table[names == name], level=level) for name in sorted(set(names.tolist()))}
