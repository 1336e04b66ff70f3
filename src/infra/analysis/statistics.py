"""The small statistics that every table here rests on; pure functions over arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL = 0.05
"""Two-sided level of every interval and test."""

POWER = 0.8
"""Power at which a minimum detectable effect is stated."""


def benjamini_hochberg(p: Floats) -> Floats:
    """q values (Benjamini and Hochberg 1995), same shape as ``p``; NaN entries are left out and stay NaN."""
    q = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    q[known] = stats.false_discovery_control(p[known]) if known.any() else p[known]
    return q


def holm(p: Floats) -> Floats:
    """Holm-adjusted p values (Holm 1979), same shape as ``p``; NaN entries are left out and stay NaN.

    By hand because scipy has no Holm, and statsmodels would be a large dependency for these lines.
    """
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0) if len(order) else p[order]
    return adjusted


def satterthwaite(variances: Floats, dfs: Floats) -> Floats:
    """Degrees of freedom of a sum of independent variances (Satterthwaite 1946), summed over the last axis.

    A component of zero variance or infinite df adds nothing; df is at least 1.
    """
    total = variances.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(variances > 0, variances**2 / np.maximum(dfs, 1.0), 0.0).sum(axis=-1)
        df = np.where(parts > 0, total**2 / parts, np.inf)
    return np.maximum(df, 1.0)


def t_interval(effect: Floats, se: Floats, df: Floats) -> tuple[Floats, Floats, Floats]:
    """``low, high, p`` of a two-sided t interval at :data:`LEVEL`; NaN where ``se`` is zero or not finite."""
    good = np.isfinite(se) & (se > 0)
    safe = np.where(good, se, np.nan)
    half = stats.t.ppf(1 - LEVEL / 2, df) * safe
    p = 2 * stats.t.sf(np.abs(effect) / safe, df)
    return effect - half, effect + half, p


def minimum_detectable(se: Floats, df: Floats) -> Floats:
    """The effect found with :data:`POWER` by a two-sided test at :data:`LEVEL`: ``(t_.975 + t_.8) se``."""
    return (stats.t.ppf(1 - LEVEL / 2, df) + stats.t.ppf(POWER, df)) * se


def deciles(values: Floats, n_bins: int = 10) -> Ints:
    """Quantile bin of each value, int64 ``[N]`` in ``0..n_bins-1``; equal values share a bin."""
    if len(values) == 0:
        return np.zeros(0, dtype=np.int64)
    edges = np.unique(np.quantile(values, np.arange(1, n_bins) / n_bins))
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def split_half(scores: Floats, left: Floats, right: Floats) -> float:
    """Spearman-Brown corrected rank agreement of ``scores @ left`` and ``scores @ right``.

    ``scores`` float64 ``[N, F]``; ``left`` and ``right`` float64 ``[F, S]``, the weights of S pairs of
    halves. Mean of ``2 r / (1 + r)`` over the pairs, NaN where a half is constant or N < 3.
    """
    if len(scores) < 3:
        return float("nan")
    a = stats.rankdata(scores @ left, axis=0)
    b = stats.rankdata(scores @ right, axis=0)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norm = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(norm > 0, (a * b).sum(axis=0) / norm, np.nan)
        corrected = np.where(r > -1, 2 * r / (1 + r), np.nan)
    # 2r / (1 + r) runs off to minus infinity as r nears -1, which means no more than "no agreement"
    return float(np.mean(np.maximum(corrected, -1.0)))
