"""The steps of a job: one graph, of which `infra run` makes all and `infra score` what its given artifacts leave."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from infra.errors import InputError, RecipeError
from infra.layout import BASE, EXPLAINED
from infra.models import model_place
from infra.pipeline import (
    answers,
    attribute,
    convergence,
    data,
    effects,
    experiment,
    links,
    page,
    queries,
    spans,
    strategies,
    targets,
    tokenized,
    train,
    validity,
    warmup,
)
from infra.pipeline.method import check_method
from infra.pipeline.recipe import Recipe
from infra.pipeline.stage import Stage
from infra.pipeline.step import Job, Step, in_order

STEPS: tuple[Step, ...] = (
    data.RECORDS,
    train.TRAIN_BASE,
    tokenized.TOKENIZED,
    answers.EVALS,
    train.SFT,
    answers.RESPONSES,
    targets.TARGETS,
    warmup.WARMUP,
    convergence.CONVERGENCE,
    attribute.CURVATURE,
    attribute.DIRECTIONS,
    attribute.SCORES,
    spans.SPANS,
    queries.QUERIES,
    links.LINKS,
    validity.VALIDATION,
    effects.EFFECTS,
    experiment.ARMS,
    strategies.STRATEGIES,
    experiment.MEASURE,
    experiment.RESULTS,
    page.REPORT,
)
"""Every step there is. A stage comes as soon as its reads allow, otherwise in this order."""


def stages_for(job: Job) -> list[Stage]:
    """The stages of a job in order, each with the settings and inputs that its declaration names."""
    return in_order([stage for step in STEPS for stage in step.stages(job)])


def names_for(job: Job) -> list[str]:
    """The names of the stages of a job, in the order of :data:`STEPS`; looks at no model and at no file."""
    return [name for step in STEPS for name in step.names(job)]


def given_models(recipe: Recipe) -> dict[str, str]:
    """The base model of `infra run`, where it exists before the run: folder or hub id."""
    if recipe.model.pretrain is not None:
        return {}
    return {BASE: model_place(recipe.model.base)}


def models_of_score(recipe: Recipe, model: str) -> dict[str, str]:
    """The models that `infra score` is given: the explained one too, unless a warm-up makes it."""
    return {BASE: model} if recipe.warmup is not None else {BASE: model, EXPLAINED: model}


def given_for_run(recipe: Recipe, fetch: bool = True) -> Job:
    """The job of `infra run`, unchecked: the base model is given, or made here; everything else is made."""
    if recipe.warmup is not None:
        raise RecipeError("warmup is for `infra score`; `infra run` fine-tunes by the settings in sft: remove warmup")
    return Job(recipe, given_models(recipe), fetch=fetch)


def given_for_score(recipe: Recipe, directions: Path | None, fetch: bool = True) -> Job:
    """The job of `infra score`, unchecked: the explained model is given, and with ``directions`` an earlier run's
    directions and targets.

    With a warm-up the explained model is made here from the given one, and nothing else of an earlier run fits it.
    """
    if recipe.warmup is not None and directions is not None:
        raise InputError(
            "--warmup makes a new model, and --directions are of the model they were made for; give the model that the "
            "earlier run warmed up (RUN/sft/original-s0/model) as --model, without --warmup"
        )
    model = model_place(recipe.model.base)
    steps: Mapping[str, Path] = {} if directions is None else {"directions": directions, "targets": directions}
    return Job(recipe, models_of_score(recipe, model), steps, fetch)


def job_of_run(recipe: Recipe, fetch: bool = True) -> Job:
    """The job of `infra run`. Raises InputError for a method that cannot work in it."""
    job = given_for_run(recipe, fetch)
    check_method(job)
    return job


def job_of_score(recipe: Recipe, directions: Path | None, fetch: bool = True) -> Job:
    """The job of `infra score`. Raises InputError for a method that cannot work in it."""
    job = given_for_score(recipe, directions, fetch)
    check_method(job)
    return job
