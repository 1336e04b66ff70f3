"""Which records of one domain leave and enter, for each arm: levels, strata, shared totals.

The flip and the same-difficulty swap take the same records out, so their plan is made for both at once: one
out set ``O``, the flip's in set ``F`` and the swap's in set ``S``, whose level counts are those of ``O``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError
from infra.experiments.selection.items import ArmItem
from infra.experiments.selection.sampling import (
    Draw,
    Ints,
    Stratum,
    common_total,
    draw_sample,
    exchange,
    range_gap,
    tilt_for,
)

BAND = 0.01
"""Token-matched: response tokens of a domain within this share of the original."""

SLACK = 0.9
"""Share of the band that may be used up where no choice of records makes the totals meet."""

MILD_TILT = 4.0
"""Largest tilt (per standard deviation of length) at which levels are kept in proportion; beyond it they
give way.
"""


@dataclass(frozen=True, slots=True)
class Side:
    """One domain's records on one side, sorted by id: items, levels int64 ``[N]``, response tokens float64
    ``[N]``.
    """

    items: tuple[ArmItem, ...]
    levels: Ints
    lengths: NDArray[np.float64]

    def at(self, levels: Sequence[int]) -> Ints:
        """Positions of the records at these levels."""
        return np.flatnonzero(np.isin(self.levels, list(levels)))


@dataclass(frozen=True, slots=True)
class Swap:
    """One domain's part of the arm ``name``: ``n`` of its records out at some levels, as many of the pool's in."""

    name: str
    domain: str
    train: Side
    pool: Side
    out_levels: tuple[int, ...]
    in_levels: tuple[int, ...]
    n: int
    seed: int
    token_matched: bool

    @property
    def shares_out(self) -> bool:
        """Whether the arm is the flip or its control, which take the same records out."""
        return self.name in ("flip", "same-difficulty-swap")

    def stream(self, *key: str) -> np.random.Generator:
        """The domain's random stream for ``key``."""
        return stream(self.seed, self.domain, *key)


@dataclass(frozen=True, slots=True)
class DomainPlan:
    """What leaves and enters in one domain: positions into the two sides, pairs already aligned, and how it
    was found.
    """

    out: Ints
    put: Ints
    out_levels: tuple[int, ...]
    in_levels: tuple[int, ...]
    tilt_out: float
    tilt_in: float
    exchanges: int
    unmatched: int
    note: str


def side(items: Sequence[ArmItem], domain: str) -> Side:
    """The records of one domain, sorted by id so that the order of a file does not change a draw."""
    mine = tuple(sorted((i for i in items if i.domain == domain), key=lambda i: i.id))
    return Side(
        mine,
        np.array([-1 if i.difficulty is None else i.difficulty for i in mine], dtype=np.int64),
        np.array([i.n_response_tokens for i in mine], dtype=np.float64),
    )


def stream(seed: int, *key: str) -> np.random.Generator:
    """One random stream per (seed, key)."""
    digest = hashlib.sha256("/".join((str(seed), *key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def quotas(counts: Sequence[int], n: int, caps: Sequence[int]) -> list[int]:
    """Share ``n`` out in proportion to ``counts``, none above its cap (largest remainders; ties to the
    first).

    Raises:
        ValueError: the caps together are below ``n``.
    """
    limit = [min(c, k) for c, k in zip(counts, caps)]
    if sum(limit) < n:
        raise ValueError(f"caps {limit} hold fewer than {n}")
    ideal = [0.0] * len(counts)
    open_, left = set(range(len(counts))), float(n)
    while left > 0:
        rate = left / sum(counts[i] for i in open_)
        full = {i for i in open_ if counts[i] * rate >= limit[i]}
        for i in full or open_:
            ideal[i] = float(limit[i]) if full else counts[i] * rate
        if not full:
            break
        open_ -= full
        left = n - sum(ideal)
    share = [int(x + 1e-9) for x in ideal]
    by_remainder = sorted(range(len(counts)), key=lambda i: (share[i] - ideal[i], i))
    for i in by_remainder[: n - sum(share)]:
        share[i] += 1
    return share


def need(found: int, n: int, what: str, n_records: int) -> None:
    """Refuse a swap that is larger than what there is to swap."""
    if found == 0:
        raise InputError(f"{what}: the bin is empty; choose other easy or hard levels, or add such records.")
    if found < n:
        raise InputError(
            f"{what}: {found} records where the swap needs {n} ({n - found} short); "
            f"set fraction to at most {int(1000 * found / n_records) / 1000:g} or add records."
        )


def _level_strata(where: Side, levels: Sequence[int], shares: Sequence[int]) -> tuple[Stratum, ...]:
    return tuple(Stratum(where.at([level]), n) for level, n in zip(levels, shares) if n > 0)


def _free(where: Side, levels: Sequence[int], n: int) -> tuple[Stratum, ...]:
    return (Stratum(where.at(levels), n),)


def flip_options(
    train: Side, pool: Side, out_levels: Sequence[int], in_levels: Sequence[int], n: int
) -> Iterator[tuple[str, bool, Draw, Draw, Draw]]:
    """Ways to stratify ``(O, F, S)``, those that keep levels in proportion first: (note, free, O, F, S).

    Levels in proportion on both sides; then the in levels free; then the out levels moved, step by step,
    toward the in levels, which is what makes lengths meet where harder means longer.
    """
    has = [len(train.at([level])) for level in out_levels]
    caps = [len(pool.at([level])) for level in out_levels]
    base = quotas(has, n, caps)
    toward = sorted(range(len(out_levels)), key=lambda i: min(abs(out_levels[i] - k) for k in in_levels))
    moved, left = [0] * len(has), n
    for i in toward:
        moved[i] = min(has[i], caps[i], left)
        left -= moved[i]
    in_has = [len(pool.at([level])) for level in in_levels]
    proportional = _level_strata(pool, in_levels, quotas(in_has, n, in_has))
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        want = [(1 - part) * b + part * m for b, m in zip(base, moved)]
        share = quotas([max(int(1000 * w), 1) for w in want], n, [min(h, c) for h, c in zip(has, caps)])
        out = Draw(train.lengths, _level_strata(train, out_levels, share))
        same = Draw(pool.lengths, _level_strata(pool, out_levels, share))
        shift = "levels in proportion" if part == 0 else f"out levels moved {part:.0%} of the way toward the in levels"
        yield f"{shift}; in levels in proportion", False, out, Draw(pool.lengths, proportional), same
        yield f"{shift}; in levels free", True, out, Draw(pool.lengths, _free(pool, in_levels, n)), same


def _settle(
    draws: Sequence[Draw], total_tokens: float, rngs: Sequence[np.random.Generator], token_matched: bool
) -> list[tuple[Ints, float, int]]:
    """Draw the sets; the first one sets the total that the others are brought to: (positions, tilt,
    exchanges) each.
    """
    if not token_matched:
        return [(*draw_sample(d, None, rng), 0) for d, rng in zip(draws, rngs)]
    tolerance = 0.1 * BAND * total_tokens
    total = common_total(draws)
    settled: list[tuple[Ints, float, int]] = []
    for d, rng in zip(draws, rngs):
        chosen, tilt = draw_sample(d, total, rng)
        chosen, steps = exchange(d, chosen, total, tolerance)
        settled.append((chosen, tilt, steps))
        if len(settled) == 1:
            total = float(d.lengths[chosen].sum())
    return settled


def plan_flip(swap: Swap) -> DomainPlan:
    """The flip or its control, from the one plan that serves both.

    Raises:
        InputError: too few records at a level, or no choice of records brings the tokens within the band.
    """
    domain, train, pool, n = swap.domain, swap.train, swap.pool, swap.n
    out_levels, in_levels = swap.out_levels, swap.in_levels
    size = len(train.items)
    need(len(train.at(out_levels)), n, f"train, {domain}, levels {out_levels}", size)
    need(len(pool.at(in_levels)), n, f"pool, {domain}, levels {in_levels}", size)
    shared = sum(min(len(train.at([k])), len(pool.at([k]))) for k in out_levels)
    need(shared, n, f"pool, {domain}, same levels {out_levels} as the records out", size)

    def nearest(size: int) -> tuple[float, str, list[Draw]]:
        """The first way whose totals meet, mildly where levels are kept in proportion; else the nearest
        miss.
        """
        found: tuple[float, str, list[Draw]] = (np.inf, "", [])
        for note, free, *draws in flip_options(train, pool, out_levels, in_levels, size):
            gap = range_gap(draws) if swap.token_matched else 0.0
            if gap < found[0]:
                found = (gap, note, draws)
            if gap == 0 and (free or not swap.token_matched or largest_tilt(draws) <= MILD_TILT):
                return gap, note, draws
        return found

    gap, note, draws = nearest(n)
    total_tokens = float(train.lengths.sum())
    if gap > SLACK * BAND * total_tokens:
        raise too_far(domain, gap, total_tokens, size, largest_size(n, total_tokens, lambda k: nearest(k)[0]))
    rngs = [swap.stream(key) for key in ("flip/out", "flip/in", "same/in")]
    out, put, control = _settle(draws, total_tokens, rngs, swap.token_matched)
    mine, levels = (put, in_levels) if swap.name == "flip" else (control, out_levels)
    return DomainPlan(out[0], mine[0], out_levels, levels, out[1], mine[1], out[2] + mine[2], 0, note)


def plan_plain(swap: Swap, ladder: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> DomainPlan:
    """An arm whose out set is its own: the first (out levels, in levels) of ``ladder`` that can be done.

    Raises:
        InputError: none can.
    """
    domain, train, pool, n = swap.domain, swap.train, swap.pool, swap.n
    size, total_tokens = len(train.items), float(train.lengths.sum())
    gap, draws = np.inf, [Draw(train.lengths, ())]
    for step, (out_levels, in_levels) in enumerate(ladder):
        last = step == len(ladder) - 1
        if not last and min(len(train.at(out_levels)), len(pool.at(in_levels))) < n:
            continue
        need(len(train.at(out_levels)), n, f"train, {domain}, levels {out_levels}", size)
        need(len(pool.at(in_levels)), n, f"pool, {domain}, levels {in_levels}", size)
        draws = [
            Draw(train.lengths, _free(train, out_levels, n)),
            Draw(pool.lengths, _free(pool, in_levels, n)),
        ]
        gap = range_gap(draws) if swap.token_matched else 0.0
        if gap > 0 and not (last and gap <= SLACK * BAND * total_tokens):
            continue
        rngs = [swap.stream(f"{swap.name}/{key}") for key in ("out", "in")]
        out, put = _settle(draws, total_tokens, rngs, swap.token_matched)
        note = "levels free"
        if step > 0:
            note = f"levels widened to {out_levels} out and {in_levels} in, as few as would do"
        return DomainPlan(out[0], put[0], out_levels, in_levels, out[1], put[1], out[2] + put[2], 0, note)

    def narrower(k: int) -> float:
        return range_gap([Draw(d.lengths, (Stratum(d.strata[0].index, k),)) for d in draws])

    raise too_far(domain, gap, total_tokens, size, largest_size(n, total_tokens, narrower))


def largest_tilt(draws: Sequence[Draw]) -> float:
    """The strongest of the tilts with which the sets share one total, per standard deviation of length."""
    total = common_total(draws)
    return max(abs(tilt_for(draw, total)) for draw in draws)


def largest_size(n: int, total_tokens: float, gap_at: Callable[[int], float]) -> int:
    """The largest swap below ``n`` records whose tokens can be matched; 0 where there is none."""
    works, fails = 0, n
    while fails - works > 1:
        middle = (works + fails) // 2
        works, fails = (middle, fails) if gap_at(middle) <= SLACK * BAND * total_tokens else (works, middle)
    return works


def too_far(domain: str, gap: float, total_tokens: float, n_records: int, works: int) -> InputError:
    """The sentence for tokens that cannot be matched: how far off, and what to change."""
    fraction = int(1000 * works / n_records) / 1000
    lower = f"set `fraction` to at most {fraction:g}" if works > 0 else "no smaller fraction helps: change the levels"
    return InputError(
        f"{domain}: no choice of records keeps the response tokens within {BAND:.0%} of the original "
        f"{total_tokens:.0f}: the totals of the records out and in stay at least {gap:.0f} tokens "
        f"({gap / total_tokens:.1%}) apart; {lower}, add pool records of the missing lengths, or set "
        f"token_matched to false."
    )
