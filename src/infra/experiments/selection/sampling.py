"""Samples of a fixed size whose lengths add up to a given total, as near to uniform as that allows.

Among all ways to draw ``n_s`` of each stratum ``s`` with a given expected total length, the one of largest
entropy includes item ``i`` with probability ``pi_i = sigmoid(a_s + tilt * L_i)`` (exponential tilting;
conditional Poisson sampling). Of several sets that must share one total, the total that distorts them least
together is the one at which their tilts add up to zero: the derivative of each set's entropy with respect
to its total is minus its tilt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_TILT = 40.0
"""Largest tilt, in units of one standard deviation of length; beyond it the sample is the sorted extreme."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Draw ``n`` of the items ``index`` (positions into an array of lengths)."""

    index: Ints
    n: int


@dataclass(frozen=True)
class Draw:
    """One set to draw: lengths of all candidates (float64 ``[N]``, tokens) and its strata."""

    lengths: Floats
    strata: tuple[Stratum, ...]

    @cached_property
    def scale(self) -> float:
        """Standard deviation of the candidates' lengths, at least 1 token."""
        used = np.concatenate([s.index for s in self.strata])
        return max(float(np.std(self.lengths[used])), 1.0)

    def bounds(self) -> tuple[float, float]:
        """Smallest and largest total that any sample can have, in tokens."""
        low = high = 0.0
        for stratum in self.strata:
            ordered = np.sort(self.lengths[stratum.index])
            low += float(ordered[: stratum.n].sum())
            high += float(ordered[len(ordered) - stratum.n :].sum())
        return low, high


def inclusion(lengths: Floats, n: int, tilt: float) -> Floats:
    """Inclusion probabilities ``sigmoid(a + tilt * lengths)`` with ``a`` chosen so that they sum to ``n``;
    ``[N]``.
    """
    size = len(lengths)
    if n >= size:
        return np.ones(size)
    if n <= 0:
        return np.zeros(size)
    x = tilt * (lengths - lengths.mean())
    low, high = -float(x.max()) - 50.0, -float(x.min()) + 50.0
    a = float(logit(n / size))
    for _ in range(100):
        p = expit(a + x)
        gap = float(p.sum()) - n
        if abs(gap) < 1e-7 * n:
            break
        low, high = (low, a) if gap > 0 else (a, high)
        slope = float((p * (1 - p)).sum())
        step = a - gap / slope if slope > 1e-12 else np.inf
        a = step if low < step < high else 0.5 * (low + high)
    return expit(a + x)


def expected_total(draw: Draw, tilt: float) -> float:
    """Expected total length of a draw at a tilt (per standard deviation of length), in tokens."""
    scale = draw.scale
    total = 0.0
    for stratum in draw.strata:
        lengths = draw.lengths[stratum.index]
        total += float(inclusion(lengths, stratum.n, tilt / scale) @ lengths)
    return total


def tilt_for(draw: Draw, total: float) -> float:
    """The tilt (per standard deviation) at which a draw's expected total is ``total``; clipped at
    ``MAX_TILT``.
    """

    def gap(tilt: float) -> float:
        return expected_total(draw, tilt) - total

    if gap(-MAX_TILT) >= 0:
        return -MAX_TILT
    if gap(MAX_TILT) <= 0:
        return MAX_TILT
    return float(brentq(gap, -MAX_TILT, MAX_TILT, xtol=1e-4))


def range_gap(draws: Sequence[Draw]) -> float:
    """By how many tokens the sets' possible totals fail to meet; 0 where one total suits all."""
    bounds = [draw.bounds() for draw in draws]
    return max(max(b[0] for b in bounds) - min(b[1] for b in bounds), 0.0)


def common_total(draws: Sequence[Draw]) -> float:
    """The total at which the sets together are least distorted, or the middle of the gap between them."""
    bounds = [draw.bounds() for draw in draws]
    low, high = max(b[0] for b in bounds), min(b[1] for b in bounds)
    if low >= high:
        return 0.5 * (low + high)

    def pull(total: float) -> float:
        return sum(tilt_for(draw, total) / draw.scale for draw in draws)

    if pull(low) >= 0:
        return low
    if pull(high) <= 0:
        return high
    return float(brentq(pull, low, high, xtol=2.0))


def draw_sample(draw: Draw, total: float | None, rng: np.random.Generator) -> tuple[Ints, float]:
    """Positions of one sample, ascending, and the tilt used.

    ``total`` None draws uniformly within strata (tilt 0). Logistic noise added to the log-odds and the
    ``n`` largest kept: Poisson sampling with the tilted probabilities, conditioned on its size to first
    order.
    """
    tilt = 0.0 if total is None else tilt_for(draw, total)
    scale = draw.scale
    chosen: list[Ints] = []
    for stratum in draw.strata:
        key = tilt / scale * draw.lengths[stratum.index] + rng.logistic(size=len(stratum.index))
        order = np.argsort(-key, kind="stable")[: stratum.n]
        chosen.append(stratum.index[order])
    return np.sort(np.concatenate(chosen)), tilt


def exchange(draw: Draw, chosen: Ints, total: float, tolerance: float, max_steps: int = 2000) -> tuple[Ints, int]:
    """Swap single items in and out, within strata, until the sample's total is within ``tolerance`` of
    ``total``.

    Each step takes the one swap that lands nearest, with changes capped at one standard deviation of length
    so that no extreme pair does the whole work; the cap is lifted when nothing within it helps. Returns the
    sample (ascending) and the number of swaps; the caller checks whether the total was reached.
    """
    inside = np.zeros(len(draw.lengths), dtype=bool)
    inside[chosen] = True
    steps = 0
    cap = draw.scale
    gap = total - float(draw.lengths[inside].sum())
    while abs(gap) > tolerance and steps < max_steps:
        best = (abs(gap) - 1e-9, -1, -1)
        wanted = float(np.clip(gap, -cap, cap))
        for stratum in draw.strata:
            ins = stratum.index[inside[stratum.index]]
            outs = stratum.index[~inside[stratum.index]]
            if len(ins) == 0 or len(outs) == 0:
                continue
            outs = outs[np.argsort(draw.lengths[outs], kind="stable")]
            lengths = draw.lengths[outs]
            near = np.searchsorted(lengths, draw.lengths[ins] + wanted)
            for candidate in (np.clip(near - 1, 0, len(outs) - 1), np.clip(near, 0, len(outs) - 1)):
                left = np.abs(gap - (lengths[candidate] - draw.lengths[ins]))
                i = int(np.argmin(left))
                if left[i] < best[0]:
                    best = (float(left[i]), int(ins[i]), int(outs[candidate[i]]))
        if best[1] < 0:
            if not np.isfinite(cap):
                break
            cap = np.inf
            continue
        inside[best[1]], inside[best[2]] = False, True
        gap = total - float(draw.lengths[inside].sum())
        steps += 1
    return np.flatnonzero(inside), steps
