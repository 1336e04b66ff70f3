"""Attribution judged by retraining: what the scores predict against what training again without the data does."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.experiments.retraining.correlation import (
        PointEstimate,
        ceiling,
        difference,
        lds,
        predict,
        ratio,
        spearman,
        split_half,
        tracking,
    )
    from infra.experiments.retraining.extremes import removal
    from infra.experiments.retraining.measure import (
        Budget,
        Journal,
        Sizing,
        Speed,
        finished_part,
        fit_budget,
        gathered,
        measure_speed,
        run_retrains,
    )
    from infra.experiments.retraining.methods import ScoreSettings, score_methods
    from infra.experiments.retraining.plan import (
        KINDS,
        PlannedRun,
        SubsetPlan,
        load_plan,
        random_subsets,
        runs_of,
    )
    from infra.experiments.retraining.problem import Problem, make_subset_plan
    from infra.experiments.retraining.run import ValidationOptions, read_validity, validate_run
    from infra.experiments.retraining.run_folder import RunData, check_replay, greedy_accuracy, read_run, recorded_run
    from infra.experiments.retraining.scores import MethodScores, QueryFolds, deal_folds
    from infra.experiments.retraining.smoothness import metasmoothness
    from infra.experiments.retraining.table import accuracy_table, lds_table
    from infra.experiments.retraining.units import (
        Units,
        cut_response,
        example_units,
        step_units,
        sum_tokens,
        token_units,
    )
    from infra.influence.engine.adjoint import FiniteDifference, UnrolledScores, check_by_retraining, unrolled
    from infra.train.flat_model import FlatModel, flat_model, loss_weights, query_values, query_weights
    from infra.train.replay import (
        AdamState,
        Retrain,
        TrainingPlan,
        adamw,
        plan_of_sft,
        train,
        train_stack,
    )

_PLACES = {
    "infra.influence.engine.adjoint": (
        "FiniteDifference",
        "UnrolledScores",
        "check_by_retraining",
        "unrolled",
    ),
    "correlation": (
        "PointEstimate",
        "ceiling",
        "difference",
        "lds",
        "predict",
        "ratio",
        "spearman",
        "split_half",
        "tracking",
    ),
    "infra.train.flat_model": (
        "FlatModel",
        "flat_model",
        "loss_weights",
        "query_values",
        "query_weights",
    ),
    "measure": (
        "Budget",
        "Journal",
        "Sizing",
        "Speed",
        "run_retrains",
        "finished_part",
        "fit_budget",
        "gathered",
        "measure_speed",
    ),
    "methods": (
        "ScoreSettings",
        "score_methods",
    ),
    "plan": (
        "KINDS",
        "PlannedRun",
        "SubsetPlan",
        "load_plan",
        "random_subsets",
        "runs_of",
    ),
    "extremes": ("removal",),
    "problem": (
        "Problem",
        "make_subset_plan",
    ),
    "infra.train.replay": (
        "AdamState",
        "Retrain",
        "TrainingPlan",
        "adamw",
        "plan_of_sft",
        "train",
        "train_stack",
    ),
    "run": (
        "ValidationOptions",
        "read_validity",
        "validate_run",
    ),
    "run_folder": (
        "RunData",
        "check_replay",
        "greedy_accuracy",
        "read_run",
        "recorded_run",
    ),
    "scores": (
        "MethodScores",
        "QueryFolds",
        "deal_folds",
    ),
    "smoothness": ("metasmoothness",),
    "table": (
        "accuracy_table",
        "lds_table",
    ),
    "units": (
        "Units",
        "cut_response",
        "example_units",
        "step_units",
        "sum_tokens",
        "token_units",
    ),
}
_WHERE = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Names load with their module, so that importing the room does not import torch."""
    if name in _WHERE:
        place = _WHERE[name]
        module = place if "." in place else f"infra.experiments.retraining.{place}"
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'infra.experiments.retraining' has no attribute {name!r}")


__all__ = [
    "KINDS",
    "AdamState",
    "Budget",
    "FiniteDifference",
    "FlatModel",
    "Journal",
    "MethodScores",
    "PlannedRun",
    "PointEstimate",
    "Problem",
    "QueryFolds",
    "Retrain",
    "RunData",
    "ScoreSettings",
    "Sizing",
    "Speed",
    "SubsetPlan",
    "TrainingPlan",
    "Units",
    "UnrolledScores",
    "ValidationOptions",
    "accuracy_table",
    "adamw",
    "ceiling",
    "check_by_retraining",
    "check_replay",
    "cut_response",
    "deal_folds",
    "difference",
    "example_units",
    "finished_part",
    "fit_budget",
    "flat_model",
    "gathered",
    "greedy_accuracy",
    "lds",
    "lds_table",
    "load_plan",
    "loss_weights",
    "make_subset_plan",
    "measure_speed",
    "metasmoothness",
    "plan_of_sft",
    "predict",
    "query_values",
    "query_weights",
    "random_subsets",
    "ratio",
    "read_run",
    "read_validity",
    "recorded_run",
    "removal",
    "run_retrains",
    "runs_of",
    "score_methods",
    "spearman",
    "split_half",
    "step_units",
    "sum_tokens",
    "token_units",
    "tracking",
    "train",
    "train_stack",
    "unrolled",
    "validate_run",
]
