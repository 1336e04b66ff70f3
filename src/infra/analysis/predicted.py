"""A change's predicted effect, the sum of weight change times influence, beside what retraining measured.

For a swap that is sum I(in) - sum I(out).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from infra.analysis.arms import crossed_mean, held_out, paired
from infra.analysis.statistics import Floats, t_interval
from infra.errors import InputError

MIN_SWAPS = 10
"""Fewer swaps than this: no correlation."""

Change = Mapping[str, float]
"""Record id -> change of its weight in the loss: -1 taken out, 1 put in, w - 1 weighted."""


def predicted_vs_measured(
    changes: Mapping[str, Change],
    ids: Sequence[str],
    scores: NDArray[np.floating[Any]],
    targets: Sequence[str],
    *,
    f_values: pd.DataFrame | None = None,
    eval_rows: pd.DataFrame | None = None,
    tasks: Mapping[str, str] | None = None,
    reference: str = "sft",
) -> pd.DataFrame:
    """One row per arm and target: ``arm, target, predicted, measured_f, f_low, f_high, n_seeds,
    measured_accuracy, acc_low, acc_high, n_swapped``.

    ``changes`` names each arm's changed records; ``n_swapped`` counts the larger of those that gain and lose weight.
    ``scores`` ``[N, K]`` is the influence of training and pool examples ``ids`` on ``targets``;
    ``predicted`` is in units of f if the influence is in units of f per unit of example weight, else up to
    the scale of the method. ``f_values`` has ``arm, seed, target, f``: the target measured on the retrained
    model; the change is against the arm ``reference`` of the same seed, with a t interval over seeds (NaN
    with a single seed). ``tasks`` maps a target to the task whose held-out accuracy is shown beside it
    (``eval_rows`` as for :func:`infra.analysis.arm_contrasts`). Anything not measured is NaN.

    Raises:
        InputError: a swapped id without scores, scores of the wrong shape, a repeated id, malformed tables.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(ids), len(targets)):
        raise InputError(f"scores have shape {values.shape}; {len(ids)} ids and {len(targets)} targets are named.")
    position = {id_: i for i, id_ in enumerate(ids)}
    if len(position) != len(ids):
        raise InputError("an id is scored twice; the prediction of a swap needs one score per example and target.")
    rows = None if eval_rows is None else held_out(eval_rows)
    out: list[dict[str, Any]] = []
    for arm, change in changes.items():
        predicted = _sum(values, position, change, arm)
        size = max(sum(w > 0 for w in change.values()), sum(w < 0 for w in change.values()))
        for k, target in enumerate(targets):
            row: dict[str, Any] = {"arm": arm, "target": target, "predicted": predicted[k]}
            row |= _change_in_f(f_values, arm, target, reference)
            row |= _change_in_accuracy(rows, arm, (tasks or {}).get(target), reference)
            out.append({**row, "n_swapped": size})
    columns = ["arm", "target", "predicted", "measured_f", "f_low", "f_high", "n_seeds"]
    return pd.DataFrame(out, columns=[*columns, "measured_accuracy", "acc_low", "acc_high", "n_swapped"])


def swap_correlation(table: pd.DataFrame, measured: str = "measured_f") -> pd.DataFrame:
    """Spearman correlation of predicted and measured over swaps: ``target, rho, low, high, n, note``.

    With fewer than 10 swaps of a target there is no correlation: ``rho`` is NaN and ``note`` says so. The
    interval is Fisher's with Bonett and Wright's (2000) variance for ranks.
    """
    out: list[dict[str, Any]] = []
    for target, mine in table.groupby("target", sort=False):
        both = mine[["predicted", measured]].dropna().to_numpy(dtype=np.float64)
        n = len(both)
        row: dict[str, Any] = {"target": target, "rho": np.nan, "low": np.nan, "high": np.nan, "n": n}
        if n < MIN_SWAPS:
            row["note"] = f"{n} swaps, no correlation under {MIN_SWAPS}"
        else:
            rho = float(stats.spearmanr(both[:, 0], both[:, 1]).statistic)
            half = stats.norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / (n - 3))
            middle = np.arctanh(np.clip(rho, -0.999999, 0.999999))
            row |= {"rho": rho, "low": np.tanh(middle - half), "high": np.tanh(middle + half), "note": ""}
        out.append(row)
    return pd.DataFrame(out, columns=["target", "rho", "low", "high", "n", "note"])


def _sum(values: Floats, position: Mapping[str, int], change: Change, arm: str) -> Floats:
    ids = list(change)
    unknown = [i for i in ids if i not in position]
    if unknown:
        raise InputError(
            f"arm '{arm}': record '{unknown[0]}' has no score ({len(unknown)} such records); "
            f"score the pool as well as the training data."
        )
    weights = np.array([change[i] for i in ids], dtype=np.float64)
    return weights @ values[[position[i] for i in ids]]


def _change_in_f(f_values: pd.DataFrame | None, arm: str, target: str, reference: str) -> dict[str, Any]:
    nothing = {"measured_f": np.nan, "f_low": np.nan, "f_high": np.nan, "n_seeds": 0}
    if f_values is None:
        return nothing
    missing = [c for c in ("arm", "seed", "target", "f") if c not in f_values.columns]
    if missing:
        raise InputError(f"the table of f lacks the column(s) {missing}; it has {list(f_values.columns)}.")
    mine = f_values[f_values["target"] == target].pivot_table(index="seed", columns="arm", values="f")
    if arm not in mine.columns or reference not in mine.columns:
        return nothing
    change = (mine[arm] - mine[reference]).dropna().to_numpy(dtype=np.float64)
    n = len(change)
    if n == 0:
        return nothing
    se = np.array(change.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan)
    low, high, _ = t_interval(np.array(change.mean()), se, np.array(max(n - 1.0, 1.0)))
    return {"measured_f": change.mean(), "f_low": float(low), "f_high": float(high), "n_seeds": n}


def _change_in_accuracy(rows: pd.DataFrame | None, arm: str, task: str | None, reference: str) -> dict[str, Any]:
    table = None if rows is None or task is None else paired(rows, arm, reference, task)
    if table is None:
        return {"measured_accuracy": np.nan, "acc_low": np.nan, "acc_high": np.nan}
    fit = crossed_mean(table)
    low, high, _ = t_interval(np.array(fit.mean), np.array(fit.se), np.array(fit.df))
    return {"measured_accuracy": fit.mean, "acc_low": float(low), "acc_high": float(high)}
