"""Choosing data by influence: the best of a pool, what to drop, and swaps guided by it with their random
control.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Selection:
    """Chosen ids, best first, and a plain JSON account of the choice."""

    ids: tuple[str, ...]
    manifest: dict[str, Any] = field(default_factory=dict)


def utility(scores: NDArray[np.floating[Any]], targets: Sequence[str], target: str | None = None) -> Floats:
    """One number per example, float64 ``[N]``, from its influence on each target, ``[N, K]``.

    A named ``target`` gives its column; None balances: the mean over targets of influence divided by the
    target's standard deviation over examples, so that no target counts more because its numbers are larger.

    Raises:
        InputError: a shape that does not fit, an unknown target, scores that are not finite or all alike.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(targets):
        raise InputError(f"scores have shape {values.shape}; {len(targets)} targets are named.")
    if not np.isfinite(values).all():
        raise InputError(f"row {int(np.argmin(np.isfinite(values).all(axis=1)))} of the scores is not finite.")
    if target is not None:
        if target not in targets:
            raise InputError(f"unknown target '{target}'; the scores have {list(targets)}.")
        return values[:, list(targets).index(target)]
    spread = values.std(axis=0)
    if not np.all(spread > 0):
        name = targets[int(np.argmin(spread))]
        raise InputError(f"every example has the same influence on target '{name}'; leave it out of the balance.")
    return (values / spread).mean(axis=1)


def select(
    ids: Sequence[str],
    scores: NDArray[np.floating[Any]],
    targets: Sequence[str],
    k: int,
    *,
    target: str | None = None,
    groups: Sequence[str] | None = None,
    max_share: float = 1.0,
) -> Selection:
    """The ``k`` examples of highest :func:`utility`, at most ``max_share`` of them from any one group
    (diversity).

    ``groups`` names each example's group (its family, cluster or source). Ties go by id.

    Raises:
        InputError: ``k`` out of range, ``max_share`` out of (0, 1], or groups too few for the cap.
    """
    if not 1 <= k <= len(ids):
        raise InputError(f"k is {k}; there are {len(ids)} examples to select from.")
    worth = utility(scores, targets, target)
    cap = group_cap(k, max_share)
    chosen = top(worth, ids, k, groups, cap)
    if len(chosen) < k:
        raise InputError(
            f"only {len(chosen)} of {k} examples can be selected with at most {cap} from a group; "
            f"raise max_share above {max_share:g}."
        )
    manifest = {
        "strategy": "select",
        "k": k,
        "target": target or "balanced",
        "targets": list(targets),
        "max_share": max_share,
        "threshold": float(worth[chosen].min()),
        "mean_selected": float(worth[chosen].mean()),
        "mean_all": float(worth.mean()),
        "groups": dict(Counter(groups[i] for i in chosen).most_common()) if groups is not None else {},
    }
    return Selection(tuple(ids[i] for i in chosen), manifest)


def prune(
    ids: Sequence[str],
    scores: NDArray[np.floating[Any]],
    targets: Sequence[str],
    *,
    fraction: float,
    low_benefit: float = 0.5,
) -> Selection:
    """The examples to drop: low benefit and high harm, worst first, at most ``fraction`` of all.

    Influence is divided by each target's standard deviation; an example's benefit is the sum of its
    positive parts over targets, its harm the sum of its negative parts. Only examples whose benefit is in
    the lowest ``low_benefit`` share and whose harm is above zero are dropped, in order of harm minus
    benefit, so an example that helps one target much is not dropped for hurting another.

    Raises:
        InputError: a fraction out of (0, 1), or nothing to drop.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction is {fraction}; it must lie between 0 and 1.")
    values = np.asarray(scores, dtype=np.float64)
    utility(values, targets)
    scaled = values / values.std(axis=0)
    benefit, harm = np.maximum(scaled, 0).sum(axis=1), np.maximum(-scaled, 0).sum(axis=1)
    candidates = (benefit <= np.quantile(benefit, low_benefit)) & (harm > 0)
    k = min(round(fraction * len(ids)), int(candidates.sum()))
    if k == 0:
        raise InputError("no example has low benefit and any harm, so there is nothing to prune.")
    worth = np.where(candidates, harm - benefit, -np.inf)
    chosen = top(worth, ids, k)
    manifest = {
        "strategy": "prune",
        "fraction": fraction,
        "low_benefit": low_benefit,
        "targets": list(targets),
        "n_candidates": int(candidates.sum()),
        "n_dropped": k,
        "mean_harm_dropped": float(harm[chosen].mean()),
        "mean_benefit_dropped": float(benefit[chosen].mean()),
    }
    return Selection(tuple(ids[i] for i in chosen), manifest)


def top(
    worth: Floats, ids: Sequence[str], k: int, groups: Sequence[str] | None = None, cap: int | None = None
) -> NDArray[np.int64]:
    """Positions of the ``k`` of highest worth, best first, at most ``cap`` from a group; fewer where groups
    run out.
    """
    order = np.lexsort((np.asarray(ids, dtype=str), -worth))
    if groups is None or cap is None or cap >= k:
        return order[:k]
    chosen: list[int] = []
    taken: Counter[str] = Counter()
    for i in order:
        if taken[groups[i]] < cap:
            taken[groups[i]] += 1
            chosen.append(int(i))
            if len(chosen) == k:
                break
    return np.array(chosen, dtype=np.int64)


def group_cap(n: int, max_share: float) -> int:
    """How many of ``n`` may come from one group; at least 1."""
    if not 0 < max_share <= 1:
        raise InputError(f"max_share is {max_share}; it must be above 0 and at most 1.")
    return max(int(np.ceil(max_share * n)), 1)
