"""Removal and retraining: what f loses when the best and the worst of the training data are taken out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.experiments.retraining.correlation import estimate, resamples
from infra.experiments.retraining.measure import run_retrains
from infra.experiments.retraining.plan import RECORDED, PlannedRun, SubsetPlan
from infra.experiments.retraining.problem import Problem
from infra.experiments.retraining.scores import MethodScores, QueryFolds
from infra.train.flat_model import loss_weights, query_values
from infra.train.replay import train

KIND_OF_UNIT = {"example": "half", "step": "step_mask", "token": "token"}


def extremes(scores: NDArray[np.float64], fraction: float, side: str) -> NDArray[np.bool_]:
    """Keep mask ``[U]`` without the ``top`` or ``bottom`` share of units by score ``[U]`` (ties by place)."""
    n = max(1, round(fraction * len(scores)))
    order = np.argsort(-scores if side == "top" else scores, kind="stable")
    keep = np.ones(len(scores), bool)
    keep[order[:n]] = False
    return keep


def removal(
    problem: Problem,
    scores: Mapping[str, MethodScores],
    targets: QueryFolds,
    folder: Path,
    *,
    unit: str = "example",
    fractions: Sequence[float] = (0.01, 0.05, 0.1, 0.2, 0.4),
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """Retrain without the top and bottom shares of each method's ranking, under the recorded order.

    One row per target, method, side and fraction: ``query_loss_change`` = f of the full run less f without them (more
    than 0: the queries' loss went up), ``low`` and ``high`` its interval over resampled query folds, ``fold_changes``
    its parts. One fraction is the published drop-1% test, several are a removal curve. The subsets are written
    to ``folder/plan.json`` before any run.
    """
    kind = KIND_OF_UNIT[unit]
    rows: list[NDArray[np.bool_]] = []
    labels: list[tuple[str, str, str, float]] = []
    for method, method_scores in scores.items():
        per_unit = method_scores.of_units(kind, problem.units[unit], problem.examples)
        for target, weights in targets.weights.items():
            for side in ("top", "bottom"):
                for fraction in fractions:
                    rows.append(extremes(per_unit @ weights, fraction, side))
                    labels.append((method, target, side, fraction))
    settings: dict[str, Any] = {
        **problem.described(),
        "unit": unit,
        "labels": labels,
        "seeds": [],
        "blocks": [],
    }
    plan = SubsetPlan(settings, {kind: np.stack(rows)}, tuple(PlannedRun(kind, s, RECORDED) for s in range(len(rows))))
    journal = run_retrains(problem, plan, folder, progress=progress)
    theta = train(problem.flat, problem.training, problem.examples, loss_weights(problem.examples))
    full = targets.folded(query_values(problem.flat, theta, problem.queries, problem.form))
    out = []
    for s, (method, target, side, fraction) in enumerate(labels):
        change = full - targets.folded(journal.values[PlannedRun(kind, s, RECORDED).id])
        weights = targets.weights[target]
        drawn = resamples(1, weights).weights @ change
        e = estimate(float(change @ weights), drawn)
        out.append(
            {
                "method": method,
                "target": target,
                "unit": unit,
                "side": side,
                "fraction": fraction,
                "query_loss_change": e.value,
                "low": e.low,
                "high": e.high,
                "fold_changes": change[weights > 0].tolist(),
            }
        )
    return pd.DataFrame(out)
