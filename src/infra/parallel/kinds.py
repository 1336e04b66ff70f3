"""The kinds of tasks by name: what a worker needs to go on with a folder it has never seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.errors import ArtifactError, ResourceError
from infra.influence import recomputed_activations
from infra.influence.engine.batches import Batch, on_halving
from infra.parallel.direction_tasks import direction_work, gradient_work
from infra.parallel.factor_tasks import basis_work, covariance_work, eigenvalue_work, factor_work
from infra.parallel.score_tasks import example_work, token_work
from infra.parallel.settings import ModelSettings, Runtime
from infra.parallel.tasks import BatchTooLarge, Plan, Task, Work

KINDS: dict[str, Callable[[dict[str, Any], Path, Runtime], Work]] = {
    "covariances": covariance_work,
    "bases": basis_work,
    "eigenvalues": eigenvalue_work,
    "factors": factor_work,
    "gradients": gradient_work,
    "directions": direction_work,
    "examples": example_work,
    "tokens": token_work,
}


def work_of(plan: Plan, root: Path, runtime: Runtime) -> Work:
    """The function that does a plan's tasks. Raises :class:`ArtifactError` for a kind this version does not know."""
    if plan.kind not in KINDS:
        raise ArtifactError(f"{root} holds tasks of kind {plan.kind!r}, which this version of infra does not know")
    work = KINDS[plan.kind](plan.settings, root, runtime)
    recompute = ModelSettings(**plan.settings["model"]).recompute

    def bounded(task: Task | None, path: Path | None) -> None:
        token = on_halving.set(_refuse if runtime.fsdp else _again)
        try:
            with recomputed_activations(recompute):
                work(task, path)
        finally:
            on_halving.reset(token)

    return bounded


def _again(batch: Batch) -> None:
    raise BatchTooLarge


def _refuse(batch: Batch) -> None:
    raise ResourceError(
        f"out of memory with {batch.input_ids.numel():,} positions in a batch of a model sharded over processes; lower "
        "scores.max_tokens"
    )
