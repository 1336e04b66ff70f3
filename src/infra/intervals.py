"""The interval of an accuracy, from however many problems and samples there are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from infra.errors import InputError

LEVEL = 0.95
"""Confidence of every interval, unless another is asked for."""


class Interval(NamedTuple):
    """A mean over ``n`` problems with its interval."""

    value: float
    low: float
    high: float
    n: int


def wilson(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share of ``n`` independent trials (Wilson 1927); never empty, also at 0 and 1.

    By hand because scipy's (``binomtest(...).proportion_ci``) takes whole counts only, and here ``n`` may be the
    effective number of trials of a clustered sample.
    """
    z = float(stats.norm.ppf((1 + level) / 2))
    spread = z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * float(np.sqrt(share * (1 - share) / n + spread / (4 * n)))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def accuracy_interval(correct: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Mean accuracy with a Wilson interval that counts problems, not samples.

    With one sample a problem this is Wilson's interval itself. Samples of one problem are alike, so several of them
    count as the number of independent trials with the same variance of the mean (the sample size over its design
    effect, Kish 1965): at least the number of problems, at most the number of samples. Where everything is right or
    everything wrong, that variance says nothing and only problems are counted.

    Args:
        correct: ``[problems]`` or ``[problems, samples]``, each 0 to 1.
        level: confidence, 0.95 by default.

    Returns:
        The mean, the ends of its interval and the number of problems.

    Raises:
        InputError: no problem or no sample.
    """
    table = verdict_table(correct)
    per_problem = table.mean(axis=1)
    n, share, variance = len(table), float(per_problem.mean()), float(per_problem.var())
    independent = share * (1 - share)  # the variance of one trial
    if independent <= 0:
        trials = float(n)
    elif variance * table.size <= n * independent:
        trials = float(table.size)
    else:
        trials = max(n * independent / variance, float(n))
    low, high = wilson(share, trials, level)
    return Interval(share, low, high, n)


def verdict_table(correct: ArrayLike) -> NDArray[np.float64]:
    """Verdicts as float64 ``[problems, samples]``. Raises :class:`InputError` when there are none."""
    table = np.asarray(correct, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.size == 0:
        raise InputError(f"accuracy needs a table [problems, samples] that is not empty, got shape {table.shape}")
    return table
