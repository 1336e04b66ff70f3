"""Targets as weighted means of query folds, and their resamples.

A fold is a group of a target's queries whose gradient was kept apart. ``f = sum_j n_j f_j / sum_j n_j`` and
influence is linear in the gradient of ``f``, so an example's influence on a target is the same weighted
mean of its influences on the folds, and resampling queries is reweighting folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from infra.analysis.statistics import Floats
from infra.errors import InputError

Targets = Mapping[str, Sequence[str] | Mapping[str, float]] | None
"""Target name -> its folds, or fold -> weight. None: the targets of the folds' ``target`` column."""

MIN_RESPONSES = 20
"""Fewer verified responses than this in a target: 'too few'."""


@dataclass(frozen=True, slots=True)
class TargetFolds:
    """Fold weights of K targets over F fold columns.

    ``base`` float64 ``[F, K]`` (columns sum to 1); ``draws`` float64 ``[B, F, K]``, resamples of the same;
    ``halves`` a pair of float64 ``[F, S]`` per target (None where it has a single fold); ``n_folds`` and
    ``n_seeds`` distinct ones; ``n_responses`` queries in all.
    """

    names: tuple[str, ...]
    base: Floats
    draws: Floats
    halves: tuple[tuple[Floats, Floats] | None, ...]
    n_folds: tuple[int, ...]
    n_seeds: tuple[int, ...]
    n_responses: tuple[int, ...]

    @property
    def df(self) -> Floats:
        """Degrees of freedom of the query (and seed) variance of each target, float64 ``[K]``."""
        smallest = [min(f, s) if s > 1 else f for f, s in zip(self.n_folds, self.n_seeds)]
        return np.array(smallest, dtype=np.float64) - 1

    def half_width(self, influence: NDArray[np.floating[Any]], parts: Mapping[str, float]) -> Floats:
        """Half of the 95% t interval of each example's influence on a weighted sum of targets, float64 ``[N]``.

        Args:
            influence: of each example on every fold, ``[N, F]``.
            parts: target -> its weight in the sum. NaN where one of them has a single fold.
        """
        which = [self.names.index(name) for name in parts]
        df = float(self.df[which].min())
        if df < 1:
            return np.full(len(influence), np.nan)
        draws = self.draws[:, :, which] @ np.array(list(parts.values()), dtype=np.float64)
        blocks = [np.asarray(influence[i : i + 4096], np.float64) @ draws.T for i in range(0, len(influence), 4096)]
        spread = np.concatenate([b.std(axis=1, ddof=1) for b in blocks] or [np.zeros(0)])
        return np.asarray(stats.t.ppf(0.975, df) * spread)


def target_folds(
    folds: pd.DataFrame, n_columns: int, targets: Targets, n_boot: int, seed: int, n_halves: int = 20
) -> TargetFolds:
    """Check the folds' table (one row per column of the fold scores) and draw resamples.

    ``folds`` has ``fold``, ``target``, ``n_queries`` and, where influence was computed for several training
    seeds, ``seed`` (the same fold name once per seed). A resample draws ``m - 1`` of ``m`` folds with
    replacement, which makes the bootstrap variance of a mean unbiased for few folds, and the same for
    seeds.

    Raises:
        InputError: a missing column, a table whose rows do not match the columns, an unknown fold or an
        empty target.
    """
    missing = [c for c in ("fold", "target", "n_queries") if c not in folds.columns]
    if missing:
        raise InputError(f"the folds table lacks the column(s) {missing}; it has {list(folds.columns)}.")
    if len(folds) != n_columns:
        raise InputError(f"the folds table has {len(folds)} rows for {n_columns} columns of scores; they must match.")
    size = folds["n_queries"].to_numpy(dtype=np.float64)
    if not np.all(size > 0):
        bad = folds["fold"].iloc[int(np.argmin(size > 0))]
        raise InputError(f"fold '{bad}' has no queries; leave it out of the folds table.")
    fold = folds["fold"].astype(str).to_numpy()
    run = folds["seed"].astype(str).to_numpy() if "seed" in folds.columns else np.full(len(folds), "0")
    if len(set(zip(fold, run))) != len(folds):
        raise InputError("the folds table names a fold (with its seed) twice; each is one column of scores.")
    chosen = _members(folds, targets)
    rng = np.random.default_rng([seed, 1])
    base = np.zeros((n_columns, len(chosen)))
    draws = np.zeros((n_boot, n_columns, len(chosen)))
    halves: list[tuple[Floats, Floats] | None] = []
    counts: list[tuple[int, int, int]] = []
    for k, (name, weights) in enumerate(chosen.items()):
        rows = np.flatnonzero(np.isin(fold, list(weights)))
        unknown = sorted(set(weights) - set(fold))
        if unknown or len(rows) == 0:
            raise InputError(
                f"target '{name}' names the fold(s) {unknown or list(weights)}, which the folds table lacks."
            )
        weight = np.array([weights[fold[r]] for r in rows]) * 1.0
        base[rows, k] = weight / weight.sum()
        which_fold, n_fold = _codes(fold[rows])
        which_run, n_run = _codes(run[rows])
        w = weight * _resample(rng, n_fold, n_boot)[:, which_fold] * _resample(rng, n_run, n_boot)[:, which_run]
        total = w.sum(axis=1, keepdims=True)
        draws[:, rows, k] = np.divide(w, total, out=np.full_like(w, np.nan), where=total > 0)
        halves.append(_halves(rng, n_columns, rows, weight, (which_fold, n_fold), (which_run, n_run), n_halves))
        counts.append((n_fold, n_run, int(size[rows][which_run == 0].sum())))
    names = tuple(chosen)
    n_folds, n_seeds, n_responses = zip(*counts)
    return TargetFolds(names, base, draws, tuple(halves), n_folds, n_seeds, n_responses)


def _members(folds: pd.DataFrame, targets: Targets) -> dict[str, dict[str, float]]:
    """Target -> fold -> weight; the weight defaults to the fold's number of queries."""
    size = dict(zip(folds["fold"].astype(str), folds["n_queries"].astype(float)))
    if targets is None:
        groups = folds.groupby(folds["target"].astype(str), sort=False)["fold"]
        return {str(name): {str(f): size[str(f)] for f in members} for name, members in groups}
    if not targets:
        raise InputError("`targets` is empty; name at least one target or leave it out.")
    return {
        name: {str(f): float(w) for f, w in members.items()}
        if isinstance(members, Mapping)
        else {str(f): size.get(str(f), 0.0) for f in members}
        for name, members in targets.items()
    }


def _codes(labels: np.ndarray) -> tuple[np.ndarray, int]:
    values, codes = np.unique(labels, return_inverse=True)
    return codes, len(values)


def _resample(rng: np.random.Generator, n: int, n_boot: int) -> Floats:
    """How often each of ``n`` units is drawn, float64 ``[B, n]``; ``n - 1`` draws, all ones for a single
    unit.
    """
    if n == 1:
        return np.ones((n_boot, 1))
    return rng.multinomial(n - 1, np.full(n, 1 / n), size=n_boot).astype(np.float64)


def _halves(
    rng: np.random.Generator,
    n_columns: int,
    rows: np.ndarray,
    weight: Floats,
    by_fold: tuple[np.ndarray, int],
    by_run: tuple[np.ndarray, int],
    n_halves: int,
) -> tuple[Floats, Floats] | None:
    """Weights ``[F, S]`` of random halves of the folds; the halves also use different seeds where there are
    several.
    """
    which_fold, n_fold = by_fold
    which_run, n_run = by_run
    if n_fold < 2:
        return None
    left, right = np.zeros((n_columns, n_halves)), np.zeros((n_columns, n_halves))
    for s in range(n_halves):
        first_fold = rng.permutation(n_fold)[which_fold] < n_fold // 2
        first_run = rng.permutation(n_run)[which_run] < n_run // 2
        apart = n_run > 1
        for half, side in ((left, True), (right, False)):
            mine = (first_fold == side) & ((first_run == side) if apart else True)
            half[rows[mine], s] = weight[mine] / weight[mine].sum() if weight[mine].sum() > 0 else np.nan
    return left, right
