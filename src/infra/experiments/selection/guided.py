"""Swaps guided by influence, and the random swap that controls for them, at equal tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from infra.errors import InputError
from infra.experiments.selection.items import Arm, ArmItem, build_arm
from infra.experiments.selection.matching import pair_by_rank
from infra.experiments.selection.plan import BAND, side, stream
from infra.experiments.selection.sampling import Draw, Floats, Ints, Stratum, draw_sample, exchange
from infra.experiments.selection.select import Selection, group_cap, top

CONTROLS = {
    "select": "random-selection",
    "prune": "random-prune",
    "weights": "shuffled-weights",
    "truncate": "random-truncate",
}
"""Each strategy and the control it is judged against."""

Choice = Callable[[str, Floats, Sequence[str], int, float, float], Ints]
"""(domain, lengths, ids, n, tokens, band) of the pool's domain -> positions of the ``n`` records to put in.
"""


def influence_swap(
    train: Sequence[ArmItem],
    pool: Sequence[ArmItem],
    influence: Mapping[str, float],
    out_ids: Sequence[str],
    *,
    name: str = "influence-swap",
    groups: Mapping[str, str] | None = None,
    max_share: float = 1.0,
    token_matched: bool = True,
) -> Arm:
    """Take ``out_ids`` out (another arm's, for a fair comparison) and put in the pool records of highest
    influence.

    Per domain the number is that of the records out; ``token_matched`` keeps the domain's response tokens
    within 1% by pricing tokens: the ``n`` largest of ``influence - price * tokens``, the price found by
    bisection. At most ``max_share`` of a domain's records come from one group (``groups``: id -> group).

    Raises:
        InputError: a pool record without influence, a pool too small, or tokens that cannot be matched.
    """

    def choose(domain: str, lengths: Floats, ids: Sequence[str], n: int, tokens: float, band: float) -> Ints:
        unknown = [i for i in ids if i not in influence]
        if unknown:
            raise InputError(
                f"pool record '{unknown[0]}' has no influence ({len(unknown)} such); score the pool first."
            )
        worth = np.array([influence[i] for i in ids], dtype=np.float64)
        named = None if groups is None else [groups.get(i, i) for i in ids]
        return priced_top(worth, lengths, ids, n, tokens, band, named, group_cap(n, max_share))

    return _guided(name, train, pool, out_ids, choose, token_matched, "highest influence at the price of its tokens")


def random_selection(
    train: Sequence[ArmItem],
    pool: Sequence[ArmItem],
    out_ids: Sequence[str],
    *,
    name: str = "random-selection",
    seed: int = 0,
    token_matched: bool = True,
) -> Arm:
    """The control of :func:`influence_swap`: the same records out, as many drawn at random from the pool in.

    Raises:
        InputError: a pool too small, or tokens that cannot be matched.
    """

    def choose(domain: str, lengths: Floats, ids: Sequence[str], n: int, tokens: float, band: float) -> Ints:
        draw = Draw(lengths, (Stratum(np.arange(len(lengths)), n),))
        rng = stream(seed, domain, name)
        if not np.isfinite(band):
            return draw_sample(draw, None, rng)[0]
        low, high = draw.bounds()
        goal = float(np.clip(tokens, low, high))
        return exchange(draw, draw_sample(draw, goal, rng)[0], goal, 0.1 * band)[0]

    return _guided(name, train, pool, out_ids, choose, token_matched, "drawn at random")


def random_prune(
    train: Sequence[ArmItem], dropped: Sequence[str], *, seed: int = 0, token_matched: bool = True
) -> Selection:
    """The control of :func:`infra.experiments.selection.prune`: as many records of each domain dropped at random.

    ``token_matched`` keeps the dropped response tokens of a domain within 1% of its total of those in ``dropped``.

    Raises:
        InputError: a dropped record that is not in the training set, or none.
    """
    known = {i.id: i for i in train}
    missing = [i for i in dropped if i not in known]
    if missing or not dropped:
        what = f"record '{missing[0]}' is not in the training set" if missing else "no record was dropped"
        raise InputError(f"the random control of a pruning has nothing to follow: {what}.")
    ids: list[str] = []
    domains: dict[str, Any] = {}
    for domain in sorted({known[i].domain for i in dropped}):
        mine = side(train, domain)
        gone = [known[i] for i in dropped if known[i].domain == domain]
        tokens, band = sum(i.n_response_tokens for i in gone), BAND * float(mine.lengths.sum())
        draw = Draw(mine.lengths, (Stratum(np.arange(len(mine.items)), len(gone)),))
        goal = float(tokens) if token_matched else None
        chosen, _ = draw_sample(draw, goal, stream(seed, domain, "random-prune"))
        if goal is not None:
            chosen, _ = exchange(draw, chosen, goal, 0.1 * band)
        ids += [mine.items[i].id for i in chosen]
        domains[domain] = {"n_dropped": len(gone), "tokens": int(mine.lengths[chosen].sum()), "tokens_followed": tokens}
    manifest = {"strategy": "random-prune", "seed": seed, "token_matched": token_matched, "domains": domains}
    return Selection(tuple(ids), manifest)


def priced_top(
    worth: Floats,
    lengths: Floats,
    ids: Sequence[str],
    n: int,
    tokens: float,
    band: float,
    groups: Sequence[str] | None = None,
    cap: int | None = None,
) -> Ints:
    """The ``n`` of highest ``worth - price * lengths`` with a total length within ``band`` of ``tokens``.

    The Lagrangian of choosing ``n`` of largest total worth under a length budget; the total falls as the
    price rises. The nearest total met on the way is returned where none is within the band; ``band``
    infinite means no budget.
    """
    best = top(worth, ids, n, groups, cap)
    if not np.isfinite(band):
        return best
    scale = max(float(worth.std()), 1e-300) / max(float(lengths.std()), 1e-9)
    low, high = -1e6 * scale, 1e6 * scale
    price = 0.0
    gap = np.inf
    for _ in range(200):
        chosen = top(worth - price * lengths, ids, n, groups, cap)
        excess = float(lengths[chosen].sum()) - tokens
        if abs(excess) < gap:
            best, gap = chosen, abs(excess)
        if abs(excess) <= band:
            return chosen
        low, high = (price, high) if excess > 0 else (low, price)
        # prices span many orders of magnitude: halve on a signed logarithmic scale
        price = scale * float(np.sinh(0.5 * (np.arcsinh(low / scale) + np.arcsinh(high / scale))))
    return best


def _guided(
    name: str,
    train: Sequence[ArmItem],
    pool: Sequence[ArmItem],
    out_ids: Sequence[str],
    choose: Choice,
    token_matched: bool,
    reason: str,
) -> Arm:
    """An arm from a given out set and a way to choose what comes in, domain by domain."""
    known = {i.id: i for i in train}
    missing = [i for i in out_ids if i not in known]
    if missing:
        raise InputError(f"arm '{name}': record '{missing[0]}' is not in the training set, so it cannot be taken out.")
    if not out_ids:
        raise InputError(f"arm '{name}': no record is taken out, so the swap changes nothing.")
    pairs: list[tuple[str, str]] = []
    reports: dict[str, Any] = {}
    for domain in sorted({known[i].domain for i in out_ids}):
        outs = sorted((known[i] for i in out_ids if known[i].domain == domain), key=lambda item: item.id)
        theirs = side(pool, domain)
        n, total = len(outs), float(sum(i.n_response_tokens for i in train if i.domain == domain))
        if len(theirs.items) < n:
            raise InputError(f"pool, {domain}: {len(theirs.items)} records where the swap needs {n}.")
        out_lengths = np.array([i.n_response_tokens for i in outs], dtype=np.float64)
        tokens = float(out_lengths.sum())
        band = BAND * total if token_matched else np.inf
        put = choose(domain, theirs.lengths, [i.id for i in theirs.items], n, tokens, band)
        gap = float(theirs.lengths[put].sum()) - tokens
        if len(put) < n or abs(gap) > band:
            raise InputError(
                f"{domain}: arm '{name}' finds {len(put)} of {n} records, {gap:+.0f} tokens from the {tokens:.0f} "
                f"taken out; raise max_share, add pool records of other lengths, or set token_matched to false."
            )
        zeros = np.zeros(n, dtype=np.int64)
        pairs += [
            (outs[o].id, theirs.items[put[i]].id)
            for o, i in pair_by_rank(out_lengths, theirs.lengths[put], zeros, zeros)
        ]
        reports[domain] = {
            "n_swapped": n,
            "tokens_before": int(total),
            "tokens_after": int(total + gap),
            "tokens_change": gap / total,
            "levels_out": _levels(outs),
            "levels_in": _levels([theirs.items[i] for i in put]),
        }
    manifest = {"arm": name, "settings": {"token_matched": token_matched}, "n_swapped": len(pairs), "domains": reports}
    manifest["changes"] = [{"out": o, "in": i, "reason": reason} for o, i in pairs]
    return build_arm(name, train, pool, pairs, manifest)


def _levels(items: Sequence[ArmItem]) -> dict[str, int]:
    counts = Counter(str(i.difficulty) for i in items)
    return {k: counts[k] for k in sorted(counts)}
