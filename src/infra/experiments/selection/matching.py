"""Pairs of records of nearly the same length: the most pairs first, then the nearest partners."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def match_lengths(out_lengths: Floats, in_lengths: Floats, tolerance: float = 0.1) -> Ints:
    """For each record out, the position of its partner with ``|in - out| <= tolerance * out``, or -1; int64
    ``[n_out]``.

    Both ends of the allowed interval grow with the length of the record out, so giving each one in
    ascending order the shortest free partner makes as many pairs as any matching can (Glover 1967, convex
    bipartite graphs). A second sweep, from the longest down, moves every pair to the nearest partner still
    free. Cost O(n log n).
    """
    partner = np.full(len(out_lengths), -1, dtype=np.int64)
    in_order = np.argsort(in_lengths, kind="stable")
    out_order = np.argsort(out_lengths, kind="stable")
    used = np.zeros(len(in_lengths), dtype=bool)
    cursor = 0
    for i in out_order:
        low, high = (1 - tolerance) * out_lengths[i], (1 + tolerance) * out_lengths[i]
        while cursor < len(in_order) and in_lengths[in_order[cursor]] < low - 1e-9:
            cursor += 1
        if cursor < len(in_order) and in_lengths[in_order[cursor]] <= high + 1e-9:
            partner[i] = in_order[cursor]
            used[in_order[cursor]] = True
            cursor += 1
    free = sorted((float(in_lengths[j]), int(j)) for j in np.flatnonzero(~used))
    for i in out_order[::-1]:
        if partner[i] < 0 or not free:
            continue
        length = float(out_lengths[i])
        at = bisect_left(free, (length, -1))
        nearest = min(range(max(at - 1, 0), min(at + 1, len(free))), key=lambda k: abs(free[k][0] - length))
        if abs(free[nearest][0] - length) < abs(float(in_lengths[partner[i]]) - length):
            old = int(partner[i])
            partner[i] = free.pop(nearest)[1]
            insort(free, (float(in_lengths[old]), old))
    return partner


def pair_by_rank(out_lengths: Floats, in_lengths: Floats, out_group: Ints, in_group: Ints) -> list[tuple[int, int]]:
    """Pair two sets of one size, the k-th shortest with the k-th shortest inside each group; positions, by
    out.

    Rank pairing minimises the summed length difference. Groups must hold equally many records on both sides.
    """
    pairs: list[tuple[int, int]] = []
    for group in np.unique(out_group):
        outs, ins = np.flatnonzero(out_group == group), np.flatnonzero(in_group == group)
        outs = outs[np.argsort(out_lengths[outs], kind="stable")]
        ins = ins[np.argsort(in_lengths[ins], kind="stable")]
        pairs.extend((int(o), int(i)) for o, i in zip(outs, ins))
    return sorted(pairs)
