"""The arms of a reweighting experiment: the flip, its matched control, and the two dose checks.

Every arm takes the same number of records of a domain out and puts the same number of pool problems in.
Where it is token-matched, the response tokens of the domain stay within 1% of the original; where it is
length-matched, every record put in is within 10% of the length of the one it replaces, and records without
a partner are not swapped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from infra.errors import InputError
from infra.experiments.selection.items import ARM_NAMES, DIRECTIONS, Arm, ArmItem, build_arm, check_items
from infra.experiments.selection.matching import pair_by_rank
from infra.experiments.selection.plan import (
    BAND,
    DomainPlan,
    Swap,
    plan_flip,
    plan_plain,
    side,
)
from infra.experiments.selection.plan_lengths import plan_length_matched

LENGTH_TOLERANCE = 0.1
"""Length-matched: the record put in is within this share of the length of the one it replaces."""

REASONS = {
    "flip": "{out} {domain} out, {put} {domain} in",
    "same-difficulty-swap": "{out} {domain} out, a new problem of the same level in",
    "random-swap": "drawn uniformly within {domain}",
    "reverse-flip": "{out} {domain} out, {put} {domain} in",
}


def make_arm(
    name: str,
    train: Sequence[ArmItem],
    pool: Sequence[ArmItem],
    *,
    fraction: float = 0.3,
    seed: int = 0,
    token_matched: bool = True,
    length_matched: bool = False,
    easy: Sequence[int] = (1, 2),
    hard: Sequence[int] = (4, 5),
    domains: Mapping[str, str] = DIRECTIONS,
) -> Arm:
    """Swap ``fraction`` of each domain's training records for pool records.

    ``flip`` takes easy records out of a domain whose direction is ``harder`` and puts hard ones in, the
    other way round where it is ``easier``. ``same-difficulty-swap`` takes the very same records out and
    puts in pool records of the same level, one for one. ``random-swap`` draws both sides from the whole
    domain. ``reverse-flip`` is the flip with out and in levels exchanged; where the training set has too
    few such records, or their lengths cannot be matched, its levels are widened by as few steps as will do
    and the manifest says so.

    Records of domains not named in ``domains`` stay untouched. The same arguments give the same arm,
    whatever the order of ``pool``.

    Raises:
        InputError: an unknown arm, a fraction out of (0, 1], records without level, a pool smaller than the
        swap, a
            swap that changes nothing, or tokens that cannot be matched (the message says how far off).
    """
    if name not in ARM_NAMES:
        raise InputError(f"unknown arm '{name}'; the arms are {', '.join(ARM_NAMES)}.")
    if not 0 < fraction <= 1:
        raise InputError(f"fraction is {fraction}; it must be above 0 and at most 1.")
    if not easy or not hard or set(easy) & set(hard):
        raise InputError(f"easy levels {tuple(easy)} and hard levels {tuple(hard)} must be non-empty and disjoint.")
    check_items(train, pool, domains)
    pairs: list[tuple[str, str]] = []
    reports: dict[str, Any] = {}
    changes: list[dict[str, Any]] = []
    for domain in sorted(domains):
        mine, theirs = side(train, domain), side(pool, domain)
        n = round(fraction * len(mine.items))
        if n == 0:
            raise InputError(
                f"{domain}: a fraction of {fraction:g} of {len(mine.items)} records is none, so the swap "
                f"changes nothing; raise `fraction`."
            )
        low, high = tuple(sorted(easy)), tuple(sorted(hard))
        out_levels, in_levels = (low, high) if domains[domain] == "harder" else (high, low)
        swap = Swap(name, domain, mine, theirs, out_levels, in_levels, n, seed, token_matched)
        plan = _plan(swap, length_matched)
        ids = _pair(swap, plan, length_matched)
        if token_matched:
            _check_band(swap, plan)
        pairs.extend(ids)
        changes.extend(_changes(swap, ids))
        reports[domain] = _report(swap, plan, len(ids), domains[domain])
    manifest = {
        "arm": name,
        "settings": {
            "fraction": fraction,
            "seed": seed,
            "token_matched": token_matched,
            "length_matched": length_matched,
            "easy": sorted(easy),
            "hard": sorted(hard),
            "domains": dict(sorted(domains.items())),
            "band": BAND,
        },
        "n_swapped": len(pairs),
        "n_unmatched": sum(r["n_unmatched"] for r in reports.values()),
        "untouched_domains": sorted({i.domain for i in train} - set(domains)),
        "domains": reports,
        "changes": changes,
    }
    return build_arm(name, train, pool, pairs, manifest)


def _plan(swap: Swap, length_matched: bool) -> DomainPlan:
    every = tuple(sorted({int(k) for k in np.concatenate([swap.train.levels, swap.pool.levels])}))
    ladder = [(every, every)]
    if swap.name != "random-swap":
        ladder = reverse_ladder(swap.in_levels, swap.out_levels, every)
    if length_matched:
        levels = (swap.out_levels, swap.in_levels) if swap.shares_out else ladder[0]
        return plan_length_matched(replace(swap, out_levels=levels[0], in_levels=levels[1]), LENGTH_TOLERANCE)
    return plan_flip(swap) if swap.shares_out else plan_plain(swap, ladder)


def reverse_ladder(
    out_levels: tuple[int, ...], in_levels: tuple[int, ...], every: tuple[int, ...]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(out, in) levels from the strict reverse flip to the whole domain, widened by the nearest level, out
    side first.
    """

    def widen(levels: tuple[int, ...]) -> tuple[int, ...]:
        rest = [k for k in every if k not in levels]
        nearest = min(rest, key=lambda k: (min(abs(k - j) for j in levels), k)) if rest else None
        return levels if nearest is None else tuple(sorted((*levels, nearest)))

    ladder = [(out_levels, in_levels)]
    while True:
        out_levels = widen(out_levels)
        ladder.append((out_levels, in_levels))
        in_levels = widen(in_levels)
        if (out_levels, in_levels) == ladder[-1] == ladder[-2]:
            return ladder[:-1]
        ladder.append((out_levels, in_levels))


def _pair(swap: Swap, plan: DomainPlan, length_matched: bool) -> list[tuple[str, str]]:
    """Ids of (out, in); a length-matched plan is aligned already, others pair by rank of length (within
    level).
    """
    train, pool = swap.train, swap.pool
    if length_matched:
        aligned = list(zip(range(len(plan.out)), range(len(plan.put))))
    else:
        by_level = swap.name == "same-difficulty-swap"
        zeros = np.zeros(len(plan.out), dtype=np.int64)
        aligned = pair_by_rank(
            train.lengths[plan.out],
            pool.lengths[plan.put],
            train.levels[plan.out] if by_level else zeros,
            pool.levels[plan.put] if by_level else zeros,
        )
    return [(train.items[plan.out[o]].id, pool.items[plan.put[i]].id) for o, i in aligned]


def _check_band(swap: Swap, plan: DomainPlan) -> None:
    total = float(swap.train.lengths.sum())
    gap = abs(float(swap.pool.lengths[plan.put].sum() - swap.train.lengths[plan.out].sum()))
    if gap > BAND * total:
        raise AssertionError(f"{swap.domain}: planned within the band, yet {gap:.0f} of {total:.0f} tokens off")


def _report(swap: Swap, plan: DomainPlan, n_swapped: int, direction: str) -> dict[str, Any]:
    """One domain's part of the manifest; plain JSON."""
    train, pool = swap.train, swap.pool
    before = Counter(int(k) for k in train.levels)
    after = before - Counter(int(k) for k in train.levels[plan.out]) + Counter(int(k) for k in pool.levels[plan.put])
    tokens = int(train.lengths.sum())
    change = int(pool.lengths[plan.put].sum() - train.lengths[plan.out].sum())
    return {
        "direction": direction,
        "n_records": len(train.items),
        "n_wanted": swap.n,
        "n_swapped": n_swapped,
        "n_unmatched": plan.unmatched,
        "out_levels": list(plan.out_levels),
        "in_levels": list(plan.in_levels),
        "levels_before": {str(k): before[k] for k in sorted(before)},
        "levels_after": {str(k): after[k] for k in sorted(after)},
        "tokens_before": tokens,
        "tokens_after": tokens + change,
        "tokens_change": change / tokens,
        "mean_tokens_out": float(train.lengths[plan.out].mean()),
        "mean_tokens_in": float(pool.lengths[plan.put].mean()),
        "tilt_out": round(plan.tilt_out, 6),
        "tilt_in": round(plan.tilt_in, 6),
        "exchanges": plan.exchanges,
        "note": plan.note,
    }


def _changes(swap: Swap, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """One line per swap: what left, what came, and why; plain JSON."""
    known = {i.id: i for i in (*swap.train.items, *swap.pool.items)}
    return [
        {
            "domain": swap.domain,
            "out": o,
            "in": i,
            "level_out": known[o].difficulty,
            "level_in": known[i].difficulty,
            "tokens_out": known[o].n_response_tokens,
            "tokens_in": known[i].n_response_tokens,
            "reason": REASONS[swap.name].format(
                domain=swap.domain, out=f"level {known[o].difficulty}", put=f"level {known[i].difficulty}"
            ),
        }
        for o, i in pairs
    ]
