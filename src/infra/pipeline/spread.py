"""What the attributing steps tell the processes that share their work: model, data in shards, how to work."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from infra.data import TokenizedExample
from infra.influence import recomputed_activations
from infra.influence.steps.settings import ModelSettings, forget_model
from infra.layout import EXPLAINED
from infra.models import load_model, model_hash
from infra.parallel.launch import Launcher, Runtime
from infra.parallel.process_group import barrier, broadcast_object, this_rank
from infra.parallel.shards import Shards, open_shards, write_shards
from infra.pipeline.recipe import Recipe
from infra.pipeline.stage import PRECISION, Context
from infra.store import seal, sealed

PASSES = ("threads", "model.dtype", PRECISION, "model.device", "scores.max_tokens")
"""Settings of whatever passes data through the model."""
TRACKED = "curvature.tracked"


def launcher_of(recipe: Recipe) -> Launcher:
    """Who does the work, as the recipe says."""
    s = recipe.scale
    return Launcher(s.launcher, s.workers, Runtime(fsdp=s.fsdp), dict(s.options))


def model_of(context: Context) -> ModelSettings:
    """The explained model, with the hash of its weights in the dtype they are used in."""
    recipe, path = context.recipe, context.use(EXPLAINED)
    made_for: Any = model_hash(load_model(path, dtype=recipe.model.dtype)[0]) if this_rank().first else None
    return ModelSettings(
        path=path,
        model_hash=made_for if context.alone else broadcast_object(made_for),
        tracked=recipe.curvature.tracked,
        dtype=recipe.model.dtype,
        precision=recipe.model.precision,
        device=recipe.model.device,
        max_tokens=recipe.scores.max_tokens,
        recompute=recipe.scale.recompute,
    )


def recomputing(function: Callable[[Context], None]) -> Callable[[Context], None]:
    """A step that visits data in its own process, with the recipe's ``scale.recompute``."""

    @wraps(function)
    def run(context: Context) -> None:
        with recomputed_activations(context.recipe.scale.recompute):
            function(context)

    return run


@contextmanager
def work_folder(context: Context) -> Iterator[Path]:
    """A folder for tasks inside the stage's own. It stays when the block fails, to be gone on from."""
    work = context.out / ".work"
    yield work
    forget_model()
    barrier()
    if this_rank().first:
        shutil.rmtree(work, ignore_errors=True)


def shards_of(examples: Iterable[TokenizedExample], path: Path, recipe: Recipe) -> Shards:
    """Examples cut into the recipe's shards by rank 0, unless they were before; the same on every process."""
    if this_rank().first and not sealed(path.parent, path):
        write_shards(examples, path, recipe.scores.shard_tokens)
        seal(path.parent, path)
    barrier()
    return open_shards(path)
