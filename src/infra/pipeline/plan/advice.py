"""Settings that make a recipe fit a device, those that cost least first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from infra.models.shape import Shape
from infra.pipeline.recipe import Recipe

MOST_DEVICES = 4096
BLOCKS = (8192, 4096, 2048)

Option = tuple[str, Recipe, int]
"""What to write into the recipe, the recipe with it, and the number of devices."""


Remedy = Callable[[Recipe, Shape, int], Iterator[Option]]


def remedies(more_devices: bool) -> tuple[Remedy, ...]:
    """Kinds of change in the order they are tried; each gives ever stronger ones."""
    settings: tuple[Remedy, ...] = (
        _half_precision,
        _checkpointing,
        _recomputing,
        _smaller_microbatches,
        _smaller_batches,
        _blocks,
        _fewer_folds,
        _sharding,
    )
    return (*settings, _more_devices) if more_devices else settings


def _half_precision(recipe: Recipe, shape: Shape, devices: int) -> Iterator[Option]:
    if recipe.model.dtype != "bfloat16":
        yield "model.dtype: bfloat16", _with(recipe, "model", dtype="bfloat16"), devices


def _checkpointing(recipe: Recipe, shape: Shape, devices: int) -> Iterator[Option]:
    if not recipe.sft.gradient_checkpointing:
        yield "sft.gradient_checkpointing: true", _with(recipe, "sft", gradient_checkpointing=True), devices


def _recomputing(recipe: Recipe, shape: Shape, devices: int) -> Iterator[Option]:
    if not recipe.scale.recompute:
        yield "scale.recompute: true", _with(recipe, "scale", recompute=True), devices


def _smaller_microbatches(recipe: Recipe, shape: Shape, devices: int) -> Iterator[Option]:
    tokens = recipe.sft.max_tokens_per_microbatch
    while tokens // 2 >= max(64, recipe.data.max_length):
        tokens //= 2
        name = "max_tokens_per_microbatch"
        yield f"sft.{name}: {tokens}", _with(recipe, "sft", **{name: tokens}), devices


def _smaller_batches(recipe: Recipe, shape: Shape, devices: int) -> Iterator[Option]:
    tokens = recipe.scores.max_tokens
    while tokens // 2 >= max(64, recipe.data.max_length):
        tokens //= 2
        yield f"scores.max_tokens: {tokens}", _with(recipe, "scores", max_tokens=tokens), devices


def _blocks(recipe: Recipe, shape: Shape, devices: int) -> Iterator[Option]:
    for size in BLOCKS:
        if size < max(shape.intermediate, shape.hidden) and size < (recipe.curvature.block_size or 1 << 40):
            yield f"curvature.block_size: {size}", _with(recipe, "curvature", block_size=size), devices


def _fewer_folds(recipe: Recipe, shape: Shape, devices: int) -> Iterator[Option]:
    for folds in range(recipe.targets.folds - 1, 1, -1):
        yield f"targets.folds: {folds}", _with(recipe, "targets", folds=folds), devices


def _sharding(recipe: Recipe, shape: Shape, devices: int) -> Iterator[Option]:
    if devices > 1 and not recipe.scale.fsdp:
        yield "scale.fsdp: true", _with(recipe, "scale", fsdp=True), devices


def _more_devices(recipe: Recipe, shape: Shape, devices: int) -> Iterator[Option]:
    sharded = _with(recipe, "scale", fsdp=True)
    while devices < MOST_DEVICES:
        devices *= 2
        yield f"scale.fsdp: true under torchrun --nproc-per-node on {devices} devices", sharded, devices


def _with(recipe: Recipe, section: str, **changes: object) -> Recipe:
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=changes)})
