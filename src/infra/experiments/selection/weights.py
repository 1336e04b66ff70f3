"""Influence to bounded loss weights, per example or per token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from infra.data.schema import Record
from infra.errors import InputError

Floats = NDArray[np.float64]


def example_weights(
    influence: NDArray[np.floating[Any]],
    tokens: NDArray[np.integer[Any]] | None = None,
    *,
    strength: float = 1.0,
    low: float = 0.5,
    high: float = 2.0,
) -> Floats:
    """Weights in ``[low, high]`` that grow with influence, float64 ``[N]``, with mean 1.

    ``w = clip(c * exp(strength * z), low, high)`` with ``z`` the influence in robust standard deviations
    from its median (1.4826 times the median absolute deviation, or the standard deviation where that is
    zero) and ``c`` such that the mean weight is 1, weighted by response ``tokens`` where given: the summed
    loss keeps its size.

    Raises:
        InputError: bounds that do not hold 1 between them, a negative strength, influence that is not
        finite or empty.
    """
    values = np.asarray(influence, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise InputError(f"influence of shape {values.shape} must be a non-empty row of finite numbers.")
    share = np.ones(len(values)) if tokens is None else np.asarray(tokens, dtype=np.float64)
    if share.shape != values.shape or not np.all(share > 0):
        raise InputError("each example needs a positive count of response tokens.")
    _check(low, high, strength)
    return _bounded(robust_z(values), share / share.sum(), strength, low, high)


@dataclass(frozen=True, slots=True)
class Weighting:
    """The same records in the same order with new weights, and a plain JSON account of them."""

    records: tuple[Record, ...]
    manifest: dict[str, Any]


def weigh(
    records: Sequence[Record],
    influence: Mapping[str, float],
    tokens: Mapping[str, int] | None = None,
    *,
    strength: float = 1.0,
    low: float = 0.5,
    high: float = 2.0,
    shuffle: int | None = None,
) -> Weighting:
    """Records whose ``weight`` is :func:`example_weights` of their influence (in place of the weight they
    had). The control is the same call with a ``shuffle`` seed: influence is dealt out anew in each domain.

    Raises:
        InputError: a record without influence or tokens, and as :func:`example_weights`.
    """
    for record in records:
        if record.id not in influence or (tokens is not None and record.id not in tokens):
            what = "influence" if record.id not in influence else "count of response tokens"
            raise InputError(f"record '{record.id}' has no {what}; score the whole training set first.")
    values = np.array([influence[r.id] for r in records], dtype=np.float64)
    if shuffle is not None:
        values = dealt_anew(values, [r.domain for r in records], shuffle)
    counts = None if tokens is None else np.array([tokens[r.id] for r in records], dtype=np.int64)
    weights = example_weights(values, counts, strength=strength, low=low, high=high)
    changes = [{"id": r.id, "influence": float(v), "weight": float(w)} for r, v, w in zip(records, values, weights)]
    manifest = {
        "strategy": "weights",
        "strength": strength,
        "low": low,
        "high": high,
        "shuffle": shuffle,
        "n_records": len(records),
        "n_at_low": int((weights <= low).sum()),
        "n_at_high": int((weights >= high).sum()),
        "effective_n": float(weights.sum() ** 2 / (weights**2).sum()),
        "changes": changes,
    }
    return Weighting(tuple(replace(r, weight=float(w)) for r, w in zip(records, weights)), manifest)


def dealt_anew(values: Floats, domains: Sequence[str], seed: int) -> Floats:
    """The same values with another owner each, inside every domain: what weights by influence are compared with."""
    rng, domain, out = np.random.default_rng([seed, 8]), np.array(domains), values.copy()
    for name in sorted(set(domain)):
        mine = np.flatnonzero(domain == name)
        out[mine] = values[rng.permutation(mine)]
    return out


def token_weights(
    influence: Sequence[NDArray[np.floating[Any]]],
    masks: Sequence[NDArray[np.bool_]],
    *,
    strength: float = 1.0,
    low: float = 0.5,
    high: float = 2.0,
) -> list[NDArray[np.float32]]:
    """The same per token: for each example float32 ``[T]`` with mean 1 over all tokens under the loss, 1
    elsewhere.

    Raises:
        InputError: as :func:`example_weights`; arrays and masks that do not fit; no token under the loss.
    """
    _check(low, high, strength)
    if len(influence) != len(masks) or any(len(v) != len(m) for v, m in zip(influence, masks)):
        raise InputError("token influence and loss masks must have the same examples and lengths.")
    flat = np.concatenate([np.asarray(v, dtype=np.float64)[m] for v, m in zip(influence, masks)] or [np.zeros(0)])
    if len(flat) == 0 or not np.isfinite(flat).all():
        raise InputError("there must be tokens under the loss, with finite influence.")
    weights = _bounded(robust_z(flat), np.full(len(flat), 1 / len(flat)), strength, low, high)
    out: list[NDArray[np.float32]] = []
    at = 0
    for mask in masks:
        row = np.ones(len(mask), dtype=np.float32)
        row[mask] = weights[at : at + int(mask.sum())]
        at += int(mask.sum())
        out.append(row)
    return out


def robust_z(values: Floats) -> Floats:
    """Distance from the median in robust standard deviations; all zero for a constant."""
    centred = values - np.median(values)
    largest = float(np.abs(centred).max())
    if largest < 1e-200:
        return np.zeros_like(values)
    centred = centred / largest
    scale = 1.4826 * float(np.median(np.abs(centred)))
    return centred / (scale if scale > 1e-9 else float(centred.std()))


def _check(low: float, high: float, strength: float) -> None:
    if not 0 <= low <= 1 <= high:
        raise InputError(f"weights in [{low}, {high}] cannot have mean 1; choose bounds on both sides of 1.")
    if strength < 0:
        raise InputError(f"strength is {strength}; it must not be negative, which would reward harm.")


def _bounded(z: Floats, share: Floats, strength: float, low: float, high: float) -> Floats:
    grown = np.clip(strength * z, -30, 30)

    def mean(log_c: float) -> float:
        return float(share @ np.clip(np.exp(grown + log_c), low, high)) - 1

    if mean(-60.0) >= 0 or mean(60.0) <= 0:  # a bound of 1 leaves nothing to shift
        return np.ones_like(z)
    return np.clip(np.exp(grown + brentq(mean, -60.0, 60.0, xtol=1e-14)), low, high)
