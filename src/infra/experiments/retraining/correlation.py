"""The linear datamodeling score and its uncertainty.

LDS (Park et al. 2023, TRAK) is the Spearman correlation, over subsets, between the summed scores of what a subset
keeps and f after retraining on it. ``same_seed`` measures f under the recorded data order: its ceiling is 1.
``seed_mean`` averages fresh orders; its ceiling is the square root of the averaged measurement's reliability,
sqrt(2r / (1 + r)) with r the split-half agreement of the measurements. Intervals resample subsets and queries
together, and differences between methods are taken on the same resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from infra.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PointEstimate:
    """A value with its percentile interval; the bootstrap draws are kept for paired differences."""

    value: float
    low: float
    high: float
    draws: Array

    @property
    def touches_zero(self) -> bool:
        """Whether the interval holds 0, or is no number."""
        return not (self.low > 0 or self.high < 0)


def estimate(value: float, draws: Array, level: float = 0.95) -> PointEstimate:
    """Percentile interval of bootstrap draws ``[B]``."""
    finite = draws[np.isfinite(draws)]
    if not len(finite) or not np.isfinite(value):
        return PointEstimate(float("nan"), float("nan"), float("nan"), draws)
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return PointEstimate(float(value), float(low), float(high), draws)


def spearman(a: Array, b: Array) -> Array:
    """Spearman correlation along the first axis: ``[S, ...] x [S, ...] -> [...]``; NaN where one side is constant."""
    x, y = (rankdata(v, axis=0) for v in np.broadcast_arrays(a, b))
    x, y = x - x.mean(0), y - y.mean(0)
    scale = np.sqrt((x * x).sum(0) * (y * y).sum(0))
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Array = np.where(scale > 0, (x * y).sum(0) / scale, np.nan)
    return out


def predict(keep: NDArray[np.bool_], scores: Array) -> Array:
    """Summed scores of what each subset keeps: ``[S, U] x [U, F] -> [S, F]``."""
    if keep.shape[1] != len(scores):
        raise InputError(f"{len(scores)} scores for subsets of {keep.shape[1]} units; score every unit once")
    return keep.astype(np.float64) @ scores.astype(np.float64)


@dataclass(frozen=True)
class Resamples:
    """``rows`` int ``[B, S]``: subsets drawn; ``weights`` ``[B, F]``: query weights drawn, each row adding up to 1."""

    rows: NDArray[np.int64]
    weights: Array


def resamples(subsets: int, weights: Array, n: int = 1000, seed: int = 0) -> Resamples:
    """Subsets with replacement, and query folds with replacement (``weights [F]``: each fold's share of f)."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, subsets, (n, subsets))
    used = np.flatnonzero(weights)
    counts = np.zeros((n, len(weights)))
    counts[:, used] = rng.multinomial(len(used), np.full(len(used), 1 / len(used)), n)
    drawn = counts * weights
    return Resamples(rows, drawn / drawn.sum(1, keepdims=True))


def lds(
    predictions: Mapping[str, Array], measured: Array, weights: Array, *, n_boot: int = 1000, seed: int = 0
) -> dict[str, PointEstimate]:
    """LDS of several methods on the same runs.

    ``predictions``: method -> summed scores ``[S, F]`` per subset and query fold. ``measured``: f ``[S, F]`` (seeds
    averaged). ``weights [F]``: how the folds add up to the target's f. The estimates share their resamples, so their
    draws may be subtracted.
    """
    drawn = resamples(len(measured), weights, n_boot, seed)
    truth = _resampled(measured, drawn)
    out = {}
    for name, predicted in predictions.items():
        value = float(spearman(predicted @ weights, measured @ weights))
        out[name] = estimate(value, spearman(_resampled(predicted, drawn), truth))
    return out


def _resampled(values: Array, drawn: Resamples) -> Array:
    """``[S, F] -> [S, B]``: the target under each resample."""
    mixed = values @ drawn.weights.T
    return np.take_along_axis(mixed, drawn.rows.T, axis=0)


def difference(a: PointEstimate, b: PointEstimate) -> PointEstimate:
    """a - b with its paired-bootstrap interval."""
    return estimate(a.value - b.value, a.draws - b.draws)


def split_half(measured: Array) -> Array:
    """Agreement r of half-sized seed means: ``[S, seeds, ...] -> [...]``.

    The Spearman correlation between the means of two disjoint halves of the seeds, averaged over every split. With an
    odd number n of seeds the halves are unequal, of a and b seeds, and their correlation 1 / sqrt((1 + k/a)(1 + k/b)),
    k the ratio of seed to subset variance, is turned into that of two halves of n/2: 1 / (1 + 2k/n).
    """
    n = measured.shape[1]
    if n < 2:
        raise InputError("split-half agreement needs at least two seeds a subset; use seed_mean with 3 or more")
    half = n // 2
    found = []
    for chosen in combinations(range(n), half):
        if 2 * half == n and 0 not in chosen:
            continue  # each split into equal halves once
        rest = [i for i in range(n) if i not in chosen]
        found.append(spearman(measured[:, list(chosen)].mean(1), measured[:, rest].mean(1)))
    r: Array = np.mean(found, axis=0)
    if 2 * half == n:
        return r
    return _even_halves(r, half, n - half)


def _even_halves(r: Array, a: int, b: int) -> Array:
    """From the correlation of means of a and b seeds to that of two halves of (a + b) / 2 seeds."""
    with np.errstate(invalid="ignore", divide="ignore"):
        # (1 + k/a)(1 + k/b) = 1 / r^2: a quadratic in k with one root that is not negative for 0 < r <= 1
        p, q = a + b, a * b * (1 - 1 / (r * r))
        k = (-p + np.sqrt(np.maximum(p * p - 4 * q, 0))) / 2
        out: Array = np.where(r > 0, 1 / (1 + 2 * k / (a + b)), r)
    return out


def ceiling(measured: Array, weights: Array, *, n_boot: int = 1000, seed: int = 0) -> PointEstimate:
    """sqrt(2r / (1 + r)) of ``measured [S, seeds, F]`` under the same resamples as :func:`lds`; 0 where r <= 0."""
    drawn = resamples(len(measured), weights, n_boot, seed)
    mixed = measured @ drawn.weights.T
    taken = np.take_along_axis(mixed, drawn.rows.T[:, None, :], axis=0)
    return estimate(float(_from_half(split_half(measured @ weights))), _from_half(split_half(taken)))


def _from_half(r: Array) -> Array:
    positive = np.maximum(r, 0.0)  # NaN stays NaN: no agreement could be measured
    out: Array = np.sqrt(2 * positive / (1 + positive))
    return out


def ratio(score: PointEstimate, top: PointEstimate) -> PointEstimate | None:
    """LDS as a share of its ceiling, or None when the ceiling's interval touches 0: then no ratio means anything."""
    if top.touches_zero:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        return estimate(score.value / top.value, np.where(top.draws > 0, score.draws / top.draws, np.nan))


def tracking(f: Array, accuracy: Array, *, n_boot: int = 1000, seed: int = 0) -> PointEstimate:
    """How well f follows held-out accuracy over retrains: Spearman of two ``[runs]``, interval over runs."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(f), (n_boot, len(f)))
    return estimate(float(spearman(f, accuracy)), spearman(f[rows].T, accuracy[rows].T))
