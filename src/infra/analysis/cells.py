"""Effects of cells of a partition from sums: the three forms, and the sums under resampling.

Every form is a function of sums over (value, length bin) groups of three quantities: influence, number of
units and number of tokens. The same function therefore serves the point estimate, each query fold and every
bootstrap draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from infra.analysis.statistics import Floats, Ints

FORMS = ("raw", "per_token", "length_matched")


@dataclass(frozen=True, slots=True)
class Units:
    """R units (examples, steps, token classes) of one domain.

    ``cluster`` int64 ``[R]``: position of the unit's example, the thing that is resampled; ``value`` int64
    ``[R]`` in ``0..V-1``; ``bin`` int64 ``[R]``, its length bin; ``tokens`` float64 ``[R]``; ``scores``
    float64 ``[R, F]``, influence summed over the unit's tokens.
    """

    cluster: Ints
    value: Ints
    bin: Ints
    tokens: Floats
    scores: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """(V, D): numbers of values and of length bins."""
        return int(self.value.max()) + 1, int(self.bin.max()) + 1


def forms(sums: Floats, counts: Floats, tokens: Floats) -> Floats:
    """Effect of each cell against the other cells of its domain, in the three forms; float64 ``[3, V, ...]``.

    ``sums`` float64 ``[V, D, ...]``; ``counts`` and ``tokens`` broadcast against it. For a cell c and the
    rest r:

    - raw: ``sum_c / n_c - sum_r / n_r``, influence per unit;
    - per token: ``sum_c / tokens_c - sum_r / tokens_r``;
    - length-matched: the mean over length bins d of ``sum_cd / n_cd - sum_rd / n_rd`` with the common weights
      ``h_d = n_cd n_rd / (n_cd + n_rd)`` (overlap weights, Li, Morgan and Zaslavsky 2018), which are zero,
      so the bin is dropped, where either side is empty.

    A form without units on one side is NaN.
    """
    rest_sums, rest_counts, rest_tokens = (x.sum(axis=0, keepdims=True) - x for x in (sums, counts, tokens))
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = sums.sum(axis=1) / counts.sum(axis=1) - rest_sums.sum(axis=1) / rest_counts.sum(axis=1)
        per_token = sums.sum(axis=1) / tokens.sum(axis=1) - rest_sums.sum(axis=1) / rest_tokens.sum(axis=1)
        overlap = np.where((counts > 0) & (rest_counts > 0), counts * rest_counts / (counts + rest_counts), 0.0)
        both = np.broadcast_to(overlap > 0, sums.shape)
        difference = np.where(both, sums / counts - rest_sums / rest_counts, 0.0)
        matched = (overlap * difference).sum(axis=1) / overlap.sum(axis=1)
    return np.stack([raw, per_token, np.broadcast_to(matched, raw.shape)])


def group_sums(units: Units, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Sums over groups: of ``scores`` (float64 ``[R, X]``) ``[V, D, X]``, counts and tokens ``[V, D]``."""
    n_values, n_bins = units.shape
    group = units.value * n_bins + units.bin
    size = n_values * n_bins
    sums = np.zeros((size, scores.shape[1]))
    np.add.at(sums, group, scores)
    counts = np.bincount(group, minlength=size).astype(np.float64)
    tokens = np.bincount(group, weights=units.tokens, minlength=size).astype(np.float64)
    return (
        sums.reshape(n_values, n_bins, -1),
        counts.reshape(n_values, n_bins),
        tokens.reshape(n_values, n_bins),
    )


def resampled_sums(units: Units, scores: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """The same sums with every example counted ``weights`` times.

    ``scores`` float64 ``[R, K]``, ``weights`` float64 ``[C, B]`` (example, draw). Returns sums ``[V, D, B,
    K]`` and counts and tokens ``[V, D, B, 1]``. Units are first added up per example, so the cost is one
    product of ``[K + 2, examples]`` with ``[examples, B]`` per group.
    """
    n_values, n_bins = units.shape
    group = units.value * n_bins + units.bin
    columns = np.column_stack([scores, np.ones(len(group)), units.tokens])
    order = np.lexsort((units.cluster, group))
    key_group, key_cluster = group[order], units.cluster[order]
    fresh = np.r_[True, (key_group[1:] != key_group[:-1]) | (key_cluster[1:] != key_cluster[:-1])]
    starts = np.flatnonzero(fresh)
    added = np.add.reduceat(columns[order], starts, axis=0)
    group_of, cluster_of = key_group[starts], key_cluster[starts]
    edges = np.searchsorted(group_of, np.arange(n_values * n_bins + 1))
    out = np.zeros((n_values * n_bins, weights.shape[1], columns.shape[1]))
    for g, (a, b) in enumerate(pairwise(edges)):
        if b > a:
            out[g] = weights[cluster_of[a:b]].T @ added[a:b]
    out = out.reshape(n_values, n_bins, weights.shape[1], -1)
    return out[..., :-2], out[..., -2:-1], out[..., -1:]


def overlap_counts(counts: Floats) -> tuple[Ints, Ints]:
    """Units of the cell and of the rest that lie in bins where both have some; ``counts`` ``[V, D]`` -> two
    ``[V]``.
    """
    rest = counts.sum(axis=0, keepdims=True) - counts
    both = (counts > 0) & (rest > 0)
    return (counts * both).sum(axis=1).astype(np.int64), (rest * both).sum(axis=1).astype(np.int64)
