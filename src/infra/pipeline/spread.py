"""What the attributing stages tell the processes that share their work: model, data in shards, how to work."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from infra.data import Record, TokenizedExample, iter_tokenize, records_from_table
from infra.influence import recomputed_activations
from infra.influence.steps.settings import ModelSettings, forget_model
from infra.models import load_model, load_tokenizer, model_hash
from infra.parallel.launch import Crew, Runtime
from infra.parallel.shards import Shards, cut, open_shards
from infra.parallel.world import barrier, share, world
from infra.pipeline.recipe import Recipe
from infra.pipeline.runner import Context
from infra.store import seal, sealed


def crew_of(recipe: Recipe) -> Crew:
    """Who does the work, as the recipe says."""
    s = recipe.scale
    return Crew(s.launcher, s.workers, Runtime(fsdp=s.fsdp), dict(s.options))


def model_of(recipe: Recipe, model_path: str) -> ModelSettings:
    """The explained model, with the hash of its weights in the dtype they are used in."""
    made_for = model_hash(load_model(model_path, dtype=recipe.model.dtype)[0]) if world().first else None
    return ModelSettings(
        path=model_path,
        model_hash=share(made_for),
        tracked=recipe.curvature.tracked,
        dtype=recipe.model.dtype,
        device=recipe.model.device,
        max_tokens=recipe.scores.max_tokens,
        recompute=recipe.scale.recompute,
    )


StageFunction = TypeVar("StageFunction", bound=Callable[..., None])


def recomputing(stage: StageFunction) -> StageFunction:
    """A stage that visits data in its own process, with the recipe's ``scale.recompute``."""

    @wraps(stage)
    def run(context: Context, recipe: Recipe, model_path: str) -> None:
        with recomputed_activations(recipe.scale.recompute):
            stage(context, recipe, model_path)

    return cast(StageFunction, run)


@contextmanager
def work_folder(context: Context) -> Iterator[Path]:
    """A folder for tasks inside the stage's own. It stays when the block fails, to be gone on from."""
    work = context.out / ".work"
    yield work
    forget_model()
    barrier()
    if world().first:
        shutil.rmtree(work, ignore_errors=True)


def stored_records(path: Path) -> Iterator[Record]:
    """The records of a file of :func:`infra.pipeline.data.save_records`, one row group in memory at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=512):
            yield from records_from_table(pa.Table.from_batches([batch]))


def shards_of(examples: Iterable[TokenizedExample], path: Path, recipe: Recipe) -> Shards:
    """Examples cut into the recipe's shards by rank 0, unless they were before; the same on every process."""
    if world().first and not sealed(path.parent, path):
        cut(examples, path, recipe.scores.shard_tokens)
        seal(path.parent, path)
    barrier()
    return open_shards(path)


def encoded(records: Iterable[Record], model_path: str, recipe: Recipe) -> Iterator[TokenizedExample]:
    """Token ids and loss masks under the model's tokenizer, one at a time. Raises InputError naming a bad record."""
    return iter_tokenize(
        records, load_tokenizer(model_path), max_length=recipe.data.max_length, on_error=recipe.data.on_error
    )
