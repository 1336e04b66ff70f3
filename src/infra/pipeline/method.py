"""The attribution method of a run: which ones are fitted in tasks, and how any other of the registry is fitted."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError
from infra.experiments.retraining import recorded_run
from infra.influence import MeanLogLikelihood
from infra.influence.methods import (
    DirectionMethod,
    Fitted,
    MethodContext,
    get_method,
    needs_recorded_run,
    open_fitted,
    write_fitted,
)
from infra.influence.steps import ModelSettings
from infra.influence.steps.settings import engine_of, forget_model
from infra.layout import BASE, EXPLAINED
from infra.parallel.launch import Runtime
from infra.parallel.shards import Shards, open_shards
from infra.pipeline.recipe import Recipe
from infra.pipeline.spread import model_of
from infra.pipeline.stage import Context
from infra.pipeline.step import Job, Uses

GRADIENT = "gradient"
CURVATURES = ("ekfac", "kfac", "diagonal")


def has_curvature(recipe: Recipe) -> bool:
    """Whether the method is a curvature's inverse, fitted and applied in tasks by any number of processes."""
    return recipe.method in (GRADIENT, *CURVATURES)


def check_method(job: Job) -> None:
    """Raise :class:`InputError` for a method that does not exist or cannot work in this job, before anything starts."""
    get_method(job.recipe.method)
    if needs_recorded_run(job.recipe.method) and not job.trains:
        raise InputError(
            f"method {job.recipe.method!r} follows the training run, and `infra score` trains nothing; use `infra run`,"
            " which records its training, or another method"
        )
    if job.recipe.scores.cosine and not (
        has_curvature(job.recipe) or isinstance(get_method(job.recipe.method), DirectionMethod)
    ):
        raise InputError(
            f"scores.cosine needs a method that is one direction a target, and {job.recipe.method!r} is none; use "
            "ekfac, gradient or another such, or set scores.cosine to false"
        )
    if job.recipe.scores.cosine and job.recipe.scale.fsdp:
        raise InputError(
            "scores.cosine forms each example's whole gradient, which no process has of a sharded model; set "
            "scores.cosine or scale.fsdp to false"
        )
    if not has_curvature(job.recipe) and job.recipe.scale.fsdp:
        raise InputError(f"method {job.recipe.method!r} cannot be fitted on a sharded model; set scale.fsdp to false")


def models_of_method(job: Job, _: Any) -> list[Uses]:
    """The explained model, and for methods that replay its training the base model too."""
    replayed = not has_curvature(job.recipe) and needs_recorded_run(job.recipe.method)
    return [Uses(EXPLAINED), *([Uses(BASE)] if replayed else [])]


def fit_method(
    context: Context, model: ModelSettings, queries: Shards, groups: NDArray[np.int64], names: Sequence[str]
) -> None:
    """Fit a method that has no curvature in this process, with the query folds as targets, and write it.

    Args:
        groups: int ``[n]``, the fold of each query.
        names: of the folds.
    """
    recipe, engine = context.recipe, engine_of(model, context.out, Runtime())
    asked = list(queries.stream())
    targets = [
        MeanLogLikelihood(name, [asked[i] for i in np.flatnonzero(groups == k)], recipe.targets.form)
        for k, name in enumerate(names)
    ]
    train = list(open_shards(context.tokenized("train")).stream())
    recorded = None
    if needs_recorded_run(recipe.method):
        recorded = recorded_run(
            context.use(BASE), context.use(EXPLAINED), train, recipe.model.dtype, recipe.model.device
        )
    parts = context.out / ".parts"
    within = MethodContext(engine, train, targets, recipe.seed, recorded, folder=parts)
    write_fitted(recipe.method, get_method(recipe.method).fit(within), context.out, model.model_hash)
    shutil.rmtree(parts, ignore_errors=True)
    forget_model()


def fitted_method(context: Context) -> Fitted:
    """The run's fitted method, for steps that score more than the data: its scores are on the query folds."""
    model = model_of(context)
    return open_fitted(context.directions, engine_of(model, context.out, Runtime()), model.model_hash)
