"""Length-matched plans: every record put in is nearly as long as the one it replaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError
from infra.experiments.selection.matching import match_lengths
from infra.experiments.selection.plan import BAND, DomainPlan, Side, Swap
from infra.experiments.selection.sampling import Ints


def plan_length_matched(swap: Swap, tolerance: float) -> DomainPlan:
    """Pairs within ``tolerance`` of each other's length; at most ``n``, the rest not swapped and counted.

    For the flip and its control a record leaves only if it has a partner in both arms, so that they share the
    out set. Records are drawn among those with partners and then paired anew, which brings the partners
    nearer. Where token-matched, the pairs that push the total furthest off are given up until the band
    holds.

    Raises:
        InputError: not a single pair is left.
    """
    train, pool, out_levels, in_levels = swap.train, swap.pool, swap.out_levels, swap.in_levels
    shared = swap.shares_out
    key = "flip" if shared else swap.name
    eligible = train.at(out_levels)
    found = [_partners(train, pool, eligible, [(out_levels, in_levels)], tolerance)]
    if shared:
        mine = np.where(found[0] >= 0)[0]
        same = np.full(len(eligible), -1, dtype=np.int64)
        levels = [((k,), (k,)) for k in out_levels]
        same[mine] = _partners(train, pool, eligible[mine], levels, tolerance)
        found.append(same)
    matched = eligible[np.all([f >= 0 for f in found], axis=0)]
    outs = np.sort(swap.stream(f"{key}/matched").permutation(matched)[: swap.n])
    sets = [_partners(train, pool, outs, [(out_levels, in_levels)], tolerance)]
    if shared:
        sets.append(_partners(train, pool, outs, [((k,), (k,)) for k in out_levels], tolerance))
    partners = np.stack(sets)
    if swap.token_matched:
        kept = within_band(pool.lengths[partners] - train.lengths[outs], BAND * float(train.lengths.sum()))
        outs, partners = outs[kept], partners[:, kept]
    if len(outs) == 0:
        raise InputError(
            f"{swap.domain}: no record at levels {out_levels} has a partner at levels {in_levels} within "
            f"{tolerance:.0%} of its length; set length_matched to false or add pool records of those lengths."
        )
    control = swap.name == "same-difficulty-swap"
    return DomainPlan(
        outs,
        partners[1] if control else partners[0],
        out_levels,
        out_levels if control else in_levels,
        0.0,
        0.0,
        0,
        swap.n - len(outs),
        f"pairs within {tolerance:.0%}",
    )


def within_band(changes: NDArray[np.float64], band: float) -> Ints:
    """Positions of the pairs to keep so that each arm's summed change, float64 ``[arms, pairs]``, is within
    ``band``.

    Gives up, one at a time, the pair that moves the arm furthest off most.
    """
    kept = np.arange(changes.shape[1])
    while len(kept) and np.max(np.abs(total := changes[:, kept].sum(axis=1))) > band:
        worst = int(np.argmax(np.abs(total)))
        kept = np.delete(kept, int(np.argmax(changes[worst, kept] * np.sign(total[worst]))))
    return kept


def _partners(
    train: Side,
    pool: Side,
    outs: Ints,
    levels: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    tolerance: float,
) -> Ints:
    """Partner positions into ``pool`` (or -1) for the records ``outs``, matched apart for each (out, in)
    levels.
    """
    partner = np.full(len(outs), -1, dtype=np.int64)
    for out_levels, in_levels in levels:
        mine, ins = np.flatnonzero(np.isin(train.levels[outs], list(out_levels))), pool.at(in_levels)
        found = match_lengths(train.lengths[outs[mine]], pool.lengths[ins], tolerance)
        if len(ins):
            partner[mine] = np.where(found >= 0, ins[np.maximum(found, 0)], -1)
    return partner
