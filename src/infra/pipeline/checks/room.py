"""Checks of memory and disk against the plan of the job."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from infra.errors import InfraError, InputError, ResourceError
from infra.influence.estimate import free_memory
from infra.models.shape import shape_of_loaded
from infra.parallel.process_group import this_rank
from infra.pipeline.checks.subject import Subject
from infra.pipeline.plan import Amounts, Costs, amounts_of
from infra.pipeline.plan.devices import DEVICES
from infra.pipeline.plan.duration import memory, sums_on_disk

GIGA = 1e9


def costs_of(subject: Subject) -> Costs | None:
    """The plan's view of the job, with the lengths that were read; None where there is no model or data to look at."""
    if subject.skeleton is None:
        return None
    try:
        amounts = amounts_of(subject.recipe)
    except InputError:  # a file that is not there: another check says so
        return None
    return Costs(subject.recipe, shape_of_loaded(subject.skeleton), _read(subject, amounts), subject.job.trains)


def _read(subject: Subject, amounts: Amounts) -> Amounts:
    if not (subject.sources and subject.whole):
        return amounts
    train, pool = (subject.sets[use] for use in ("train", "pool"))
    sizes = subject.lengths_of("data.sources")
    asked = sum(len(s.result.records) for s in subject.queries)
    return replace(
        amounts,
        train=len(train),
        pool=len(pool),
        length=sum(sizes) / len(sizes) if sizes else amounts.length,
        given_queries=asked or amounts.given_queries,
    )


def smallest(costs: Costs) -> Costs:
    """The same job as small as it can be made at run time: one example a batch, one direction at a time."""
    recipe, longest = costs.recipe, max(64, round(costs.amounts.length))
    scores = recipe.scores.model_copy(update={"max_tokens": longest})
    sft = recipe.sft.model_copy(update={"max_tokens_per_microbatch": longest})
    evals = recipe.eval.model_copy(update={"max_batch_tokens": 64})
    small = recipe.model_copy(update={"scores": scores, "sft": sft, "eval": evals})
    return replace(costs, recipe=small, amounts=replace(costs.amounts, folds=1))


def memory_on(device: str) -> int | None:
    """Free bytes on a device; None where there is no such device, which another check says."""
    try:
        return free_memory(torch.device(device))
    except (RuntimeError, AssertionError, ValueError):
        return None


def enough_memory(subject: Subject) -> Iterator[InfraError]:
    """Every stage fits in the free memory with the smallest batches there are."""
    costs = costs_of(subject)
    if costs is None:
        return
    device = subject.recipe.model.device
    free = memory_on(device)
    if free is None:
        return
    small = smallest(costs)
    for stage in small.stages():
        if stage.stage in subject.done:
            continue
        needed = memory(stage, small, DEVICES["h100"], this_rank().size)
        if needed > free:
            yield ResourceError(
                f"stage {stage.stage} needs at least {needed / GIGA:.1f} GB of memory on {device}, and "
                f"{free / GIGA:.1f} GB are free; a smaller model, {subject.option('model.dtype', 'bfloat16')}, "
                f"{subject.option('curvature.block_size', 2048)} or a larger machine (see infra plan)"
            )
            return


def enough_disk(subject: Subject) -> Iterator[InfraError]:
    """What the stages write at the least (one direction a target, no fold by itself) fits on the disk of the folder."""
    costs = costs_of(subject)
    if costs is None:
        return
    costs = replace(costs, amounts=replace(costs.amounts, folds=costs.amounts.n_targets))
    needed = sum(stage.disk for stage in costs.stages() if stage.stage not in subject.done)
    needed += sums_on_disk(costs) if not {"curvature", "directions"} <= subject.done else 0.0
    place = next(p for p in (subject.folder, *subject.folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(place if place.is_dir() else Path(place).parent).free
    if needed > free:
        yield ResourceError(
            f"no space left for the run: it needs at least {needed / GIGA:.3f} GB on the disk of {subject.folder}, and "
            f"{free / GIGA:.3f} GB are free; free some, choose another --out, or lower curvature.sum_shards"
        )
