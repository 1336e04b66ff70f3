"""From measured runs and scores to the tables that say how good the scores are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from infra.experiments.retraining.correlation import (
    Array,
    PointEstimate,
    ceiling,
    difference,
    estimate,
    lds,
    ratio,
    tracking,
)
from infra.experiments.retraining.measure import Journal, gathered
from infra.experiments.retraining.plan import RECORDED, UNIT_OF, PlannedRun, SubsetPlan
from infra.experiments.retraining.problem import Problem
from infra.experiments.retraining.scores import MethodScores, QueryFolds

MEAN = "mean"
"""Name of the row that averages the targets (those of single levels left out)."""
LEVEL = ":"
"""Stands in the name of a target that is one level of another, as in ``math:3``."""


def mean_of(estimates: Sequence[PointEstimate]) -> PointEstimate:
    """The average of estimates that share their resamples."""
    return estimate(
        float(np.mean([e.value for e in estimates])), np.mean(np.stack([e.draws for e in estimates]), axis=0)
    )


def block_estimates(
    problem: Problem,
    plan: SubsetPlan,
    journal: Journal,
    scores: Mapping[str, MethodScores],
    targets: QueryFolds,
    block: tuple[str, str],
    n_boot: int,
) -> tuple[dict[str, dict[str, PointEstimate]], dict[str, PointEstimate | None]]:
    """LDS of one block: target -> method -> estimate, and target -> ceiling (None for ``same_seed``, where it is 1)."""
    kind, protocol = block
    measured = targets.folded(gathered(journal, plan, kind, protocol))
    units = problem.units[UNIT_OF[kind]]
    keep = plan.subsets[kind]
    predictions = {m: s.prediction(kind, keep, units, problem.examples) for m, s in scores.items()}
    found = {t: lds(predictions, measured.mean(1), w, n_boot=n_boot) for t, w in targets.weights.items()}
    tops: dict[str, PointEstimate | None] = dict.fromkeys(found)
    if protocol == "seed_mean":
        tops = {t: ceiling(measured, w, n_boot=n_boot) for t, w in targets.weights.items()}
    main = [t for t in found if LEVEL not in t]
    if len(main) > 1:
        every = [c for t in main if (c := tops[t]) is not None]
        found[MEAN] = {m: mean_of([found[t][m] for t in main]) for m in scores}
        tops[MEAN] = mean_of(every) if every else None
    return found, tops


def lds_table(
    problem: Problem,
    plan: SubsetPlan,
    journal: Journal,
    scores: Mapping[str, MethodScores],
    targets: QueryFolds,
    *,
    n_boot: int = 1000,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, differences).

    Scores: one row per target, method, protocol and kind: value, low, high, ceiling with its interval, ratio where the
    ceiling's interval excludes 0, n_subsets, n_seeds. Differences: one row per pair of methods, paired bootstrap.
    """
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for kind, protocol in plan.settings["blocks"]:
        found, tops = block_estimates(problem, plan, journal, scores, targets, (kind, protocol), n_boot)
        size = {
            "n_subsets": len(plan.subsets[kind]),
            "n_seeds": 1 if protocol == "same_seed" else len(plan.settings["seeds"]),
        }
        for target, methods in found.items():
            top = tops[target]
            place = {"target": target, "protocol": protocol, "kind": kind}
            for method, e in methods.items():
                share = e if top is None else ratio(e, top)
                rows.append(
                    {
                        **place,
                        "method": method,
                        "value": e.value,
                        "low": e.low,
                        "high": e.high,
                        "ceiling": 1.0 if top is None else top.value,
                        "ceiling_low": 1.0 if top is None else top.low,
                        "ceiling_high": 1.0 if top is None else top.high,
                        "ratio": None if share is None else share.value,
                        "ratio_low": None if share is None else share.low,
                        "ratio_high": None if share is None else share.high,
                        **size,
                    }
                )
            for a, b in combinations(methods, 2):
                d = difference(methods[b], methods[a])
                pairs.append(
                    {
                        **place,
                        "better": b,
                        "than": a,
                        "difference": d.value,
                        "low": d.low,
                        "high": d.high,
                        "excludes_zero": not d.touches_zero,
                        **size,
                    }
                )
    return pd.DataFrame(rows), pd.DataFrame(pairs)


def accuracy_table(
    problem: Problem,
    plan: SubsetPlan,
    journal: Journal,
    scores: Mapping[str, MethodScores],
    targets: QueryFolds,
    *,
    n_boot: int = 1000,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(accuracy_lds, tracking) from the half-subset runs whose held-out accuracy was measured.

    ``accuracy_lds``: Spearman of summed scores with held-out accuracy (seeds averaged). ``tracking``: Spearman of f
    with held-out accuracy over every retrain that has one.
    """
    rows: list[dict[str, Any]] = []
    main = {t: w for t, w in targets.weights.items() if LEVEL not in t}  # accuracy is measured per domain
    for kind, protocol in plan.settings["blocks"]:
        orders: Sequence[str | int] = (RECORDED,) if protocol == "same_seed" else tuple(plan.settings["seeds"])
        names = [[PlannedRun(kind, s, o).id for o in orders] for s in range(len(plan.subsets[kind]))]
        if not all(n in journal.accuracy for group in names for n in group):
            continue
        units = problem.units[UNIT_OF[kind]]
        predictions = {m: s.prediction(kind, plan.subsets[kind], units, problem.examples) for m, s in scores.items()}
        for target, weights in main.items():
            measured = np.array([np.mean([journal.accuracy[n][target] for n in group]) for group in names])
            found = lds(predictions, np.repeat(measured[:, None], len(weights), 1), weights, n_boot=n_boot)
            rows += [
                {
                    "target": target,
                    "protocol": protocol,
                    "kind": kind,
                    "method": m,
                    "value": e.value,
                    "low": e.low,
                    "high": e.high,
                    "n_subsets": len(names),
                    "n_seeds": len(orders),
                }
                for m, e in found.items()
            ]
    follows: list[dict[str, Any]] = []
    done = sorted(journal.accuracy)
    if len(done) >= 3:
        folded = targets.folded(np.stack([journal.values[n] for n in done]))
        for target, weights in main.items():
            accuracy: Array = np.array([journal.accuracy[n][target] for n in done])
            e = tracking(folded @ weights, accuracy, n_boot=n_boot)
            follows.append({"target": target, "value": e.value, "low": e.low, "high": e.high, "n_runs": len(done)})
    return pd.DataFrame(rows), pd.DataFrame(follows)
