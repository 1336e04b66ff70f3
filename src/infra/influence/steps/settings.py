"""What every piece of work on disk is told: which model, how loaded, which examples; and its arguments, as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.engine import Engine, FitSettings
from infra.models import load_model, tracked_weights
from infra.parallel.launch import Runtime
from infra.parallel.process_group import barrier, this_rank
from infra.parallel.shards import Shards, open_shards
from infra.parallel.tasks import ShardTask, TaskFolder
from infra.parallel.tensors import TensorFile


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """A model as workers load it, in so far as it determines their bytes. ``path``: a folder or a hub id."""

    path: str
    model_hash: str
    tracked: str
    dtype: str = "float32"
    precision: str = "float32"
    device: str = "cpu"
    max_tokens: int = 8192
    recompute: bool = False


def engine_of(settings: ModelSettings, root: Path, runtime: Runtime) -> Engine:
    """The model and its tracked weights; the last one is kept, so that a worker loads it once for all its work."""
    here = os.path.normpath(root / settings.path)
    path = here if os.path.exists(here) else settings.path
    where = (path, settings.dtype, settings.device, settings.tracked, settings.model_hash)
    return replace(_loaded(*where, runtime), max_tokens=settings.max_tokens)


def forget_model() -> None:
    """Free the model that :func:`engine_of` kept."""
    _loaded.cache_clear()


@lru_cache(maxsize=1)
def _loaded(path: str, dtype: str, device: str, tracked: str, made_for: str, runtime: Runtime) -> Engine:
    import torch

    here = this_rank()
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    if not runtime.fsdp:
        model, _ = load_model(path, dtype=dtype, device=here.device(device))
    else:
        from infra.parallel.fsdp import shard_model

        for turn in range(here.local_size):  # one whole model at a time in a machine's memory
            if turn == here.local_rank:
                model, _ = load_model(path, dtype=dtype)
                shard_model(model, device=device)
            barrier()
    return Engine(model, tracked_weights(model, tracked))


class FolderResults(Sequence[TensorFile]):
    """What a step left in a finished folder of tasks, read when asked for."""

    def __init__(self, folder: TaskFolder) -> None:
        self.folder = folder

    @property
    def files(self) -> list[Path]:
        """The results' files, in order."""
        return self.folder.results()

    def __len__(self) -> int:
        return len(self.folder.plan.tasks)

    def __getitem__(self, index: Any) -> Any:
        found = self.files[index]
        return [TensorFile(f) for f in found] if isinstance(found, list) else TensorFile(found)


def to_json(arguments: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """A step's arguments as JSON values, files as they are seen from the task folder ``root``: a run may move."""

    def seen(value: Any) -> Any:
        if isinstance(value, FolderResults):
            return {"results": [os.path.relpath(file, root) for file in value.files]}
        if isinstance(value, Path):
            return {"path": os.path.relpath(value, root)}
        return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value

    return {name: seen(value) for name, value in arguments.items()}


def from_json(arguments: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The inverse of :func:`to_json`; results come back as readers."""

    def opened(name: str, value: Any) -> Any:
        if name == "fit":
            return FitSettings(**value)
        if isinstance(value, dict) and set(value) == {"results"}:
            return [TensorFile(root / file) for file in value["results"]]
        if isinstance(value, dict) and set(value) == {"path"}:
            return Path(os.path.normpath(root / value["path"]))
        return value

    return {name: opened(name, value) for name, value in arguments.items()}


def model_to_json(model: ModelSettings, root: Path) -> dict[str, Any]:
    """The model's settings, its folder as it is seen from ``root``."""
    where = os.path.relpath(model.path, root) if os.path.exists(model.path) else model.path
    return asdict(replace(model, path=where))


@lru_cache(maxsize=4)
def shards_of(path: str, digest: str) -> Shards:
    """The shards of a file, checked against its hash."""
    return open_shards(Path(path), digest)


def rows_of(data: Shards, task: ShardTask | None, fsdp: bool) -> Iterator[tuple[list[int], list[TokenizedExample]]]:
    """The examples of a piece, shard by shard. In step, all processes get equally many lists: empty ones at the end."""
    first, last = task.about["shards"] if task is not None else (0, 0)
    count = last - first
    if fsdp:
        from infra.parallel.fsdp import all_reduce_max

        count = all_reduce_max(count)
    place = task.about["first"] if task is not None else 0
    for i in range(first, first + count):
        examples = data.read(i) if i < last else []
        yield list(range(place, place + len(examples))), examples
        place += len(examples)


def sum_of(data: Shards, task: ShardTask, fsdp: bool) -> Iterator[tuple[list[int], list[TokenizedExample]]]:
    """The examples of a piece of a sum and their places in the data: shard by shard, or, in step with others that do
    the same piece, every so many-th of them in one list, maybe none.
    """
    if not fsdp:
        yield from rows_of(data, task, False)
        return
    here = this_rank()
    places: list[int] = []
    mine: list[TokenizedExample] = []
    for where, examples in rows_of(data, task, False):
        own = slice((here.rank - where[0]) % here.size, None, here.size)
        places += where[own]
        mine += examples[own]
    yield places, mine
