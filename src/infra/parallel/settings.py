"""What every kind of task is told: which model, how loaded, which weights, which examples."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.totals import Totals
from infra.models import load_model, tracked_weights
from infra.models.tracked import TrackedWeights
from infra.parallel.shards import Shards, open_shards
from infra.parallel.tasks import PARTS, Task
from infra.parallel.world import world


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """A model as tasks load it, in so far as it determines their bytes. ``path``: a folder or a hub id."""

    path: str
    model_hash: str
    tracked: str
    dtype: str = "float32"
    device: str = "cpu"
    max_tokens: int = 8192
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class Runtime:
    """How a process works; no byte of a result depends on it beyond rounding. ``fsdp``: the model is sharded over the
    processes, which then work in step. ``threads`` None leaves them as they are.
    """

    fsdp: bool = False
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """A file of examples in shards, named relative to the task folder, and its hash."""

    file: str
    digest: str

    def open(self, root: Path) -> Shards:
        """The shards, checked against the hash."""
        return _opened(os.path.normpath(root / self.file), self.digest)


@lru_cache(maxsize=4)
def _opened(path: str, digest: str) -> Shards:
    return open_shards(Path(path), digest)


def model_of(settings: ModelSettings, root: Path, runtime: Runtime) -> tuple[Any, TrackedWeights]:
    """The model and its tracked weights; the last one is kept, so that a worker loads it once for all its tasks."""
    here = os.path.normpath(root / settings.path)
    path = here if os.path.exists(here) else settings.path
    return _loaded(path, settings.dtype, settings.device, settings.tracked, settings.model_hash, runtime)


def forget_model() -> None:
    """Free the model that :func:`model_of` kept."""
    _loaded.cache_clear()


@lru_cache(maxsize=1)
def _loaded(
    path: str, dtype: str, device: str, tracked: str, made_for: str, runtime: Runtime
) -> tuple[Any, TrackedWeights]:
    import torch

    here = world()
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    if not runtime.fsdp:
        model, _ = load_model(path, dtype=dtype, device=here.device(device))
    else:
        from infra.parallel.fsdp import shard_model
        from infra.parallel.world import barrier

        for turn in range(here.local_size):  # one whole model at a time in a machine's memory
            if turn == here.local_rank:
                model, _ = load_model(path, dtype=dtype)
                shard_model(model, device=device)
            barrier()
    return model, tracked_weights(model, tracked)


def limit(settings: ModelSettings, task: Task | None) -> int:
    """Tokens of a batch of this task: the model's, halved as often as memory asked for."""
    return max(1, settings.max_tokens >> (task.about.get("halvings", 0) if task is not None else 0))


def rounds(data: Shards, task: Task | None, fsdp: bool) -> Iterator[list[TokenizedExample]]:
    """The examples of a task, shard by shard. In step, every process gets equally many lists: empty ones at the end."""
    first, last = task.about["shards"] if task is not None else (0, 0)
    count = last - first
    if fsdp:
        from infra.parallel.fsdp import most

        count = most(count)
    for i in range(first, first + count):
        yield data.read(i) if i < last else []


def lots(data: Shards, task: Task, fsdp: bool) -> Iterator[tuple[list[int], list[TokenizedExample]]]:
    """The examples of a task of a sum and their places in the data: shard by shard, or, in step with others that do the
    same task, every so many-th of them in one lot, maybe none.
    """
    place = task.about["first"]
    shards: list[tuple[list[int], list[TokenizedExample]]] = []
    here = world()
    for i in range(*task.about["shards"]):
        examples = data.read(i)
        places = list(range(place, place + len(examples)))
        place += len(examples)
        if not fsdp:
            yield places, examples
            continue
        mine = slice((here.rank - places[0]) % here.size, None, here.size)
        shards.append((places[mine], examples[mine]))
    if fsdp:
        yield [p for places, _ in shards for p in places], [e for _, examples in shards for e in examples]


def totals_of(runtime: Runtime) -> type[Totals]:
    """How this process keeps sums: whole and of its own data, or its rows of everybody's."""
    if not runtime.fsdp:
        return Totals
    from infra.parallel.fsdp import RowTotals

    return RowTotals


def sum_suffix(runtime: Runtime) -> str:
    """What results of sums are called: whole files, or parts of all processes."""
    return PARTS if runtime.fsdp else "safetensors"


def as_settings(root: Path, model: ModelSettings, data: Shards | None = None, **others: Any) -> dict[str, Any]:
    """A plan's settings: JSON values, and files as they are seen from the task folder ``root``, so that a run may move.

    A ``Path`` among ``others``, or a list of them, is a file.
    """

    def seen(value: Any) -> Any:
        if isinstance(value, list):
            return [seen(v) for v in value]
        return os.path.relpath(value, root) if isinstance(value, Path) else value

    where = os.path.relpath(model.path, root) if os.path.exists(model.path) else model.path
    told = {"model": asdict(replace(model, path=where)), **{name: seen(value) for name, value in others.items()}}
    return told if data is None else {**told, "data": asdict(Data(seen(data.path), data.digest))}
