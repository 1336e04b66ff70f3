"""Scores in tasks: a shard's examples on every fold, a shard's tokens on the token targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.influence import Direction, combine, example_influence, open_directions, token_influence
from infra.parallel.settings import Data, ModelSettings, Runtime, limit, model_of, rounds
from infra.parallel.tasks import Task, Work

ROW_GROUP = 128
"""Examples read together when one is opened."""


def example_work(settings: dict[str, Any], root: Path, runtime: Runtime) -> Work:
    """``[n, K]`` scores of a shard's examples, float32 or float64, as ``.npy``."""
    model_settings = ModelSettings(**settings["model"])
    data = Data(**settings["data"]).open(root)
    model, _ = model_of(model_settings, root, runtime)
    directions = _directions(model, settings, root, None, runtime)

    def work(task: Task | None, path: Path | None) -> None:
        parts = []
        for examples in rounds(data, task, runtime.fsdp):
            if runtime.fsdp:
                from infra.parallel import fsdp

                parts.append(fsdp.example_influence(model, examples, directions, limit(model_settings, task)))
            else:
                parts.append(example_influence(model, examples, directions, max_tokens=limit(model_settings, task)))
        if path is not None:
            with open(path, "wb") as handle:
                np.save(handle, np.concatenate(parts))

    return work


def token_work(settings: dict[str, Any], root: Path, runtime: Runtime) -> Work:
    """A Parquet file of a shard: id, text, where its tokens lie, ``loss`` (and ``position``) scores of each target."""
    model_settings = ModelSettings(**settings["model"])
    data = Data(**settings["data"]).open(root)
    model, _ = model_of(model_settings, root, runtime)
    names = list(settings["targets"])
    directions = _directions(model, settings, root, settings["targets"], runtime)

    def work(task: Task | None, path: Path | None) -> None:
        tables = []
        for examples in rounds(data, task, runtime.fsdp):
            columns: dict[str, list[Any]] = {}
            for decomposition in settings["decompositions"]:
                if runtime.fsdp:
                    from infra.parallel import fsdp

                    chunks = iter(fsdp.token_scores(model, examples, directions, limit(model_settings, task)))
                else:
                    chunks = token_influence(
                        model, examples, directions, decomposition=decomposition, max_tokens=limit(model_settings, task)
                    )
                rows: list[Any] = [None] * len(examples)
                for chunk in chunks:
                    for index, scores in zip(chunk.indices, chunk.scores):
                        rows[index] = scores
                for k, name in enumerate(names):
                    columns[f"{decomposition}_{name}"] = [r[k] for r in rows]
            if examples:
                tables.append(_table(examples, columns))
        if path is not None:
            pq.write_table(pa.concat_tables(tables), path, compression="zstd", row_group_size=ROW_GROUP)

    return work


def _table(examples: list[Any], columns: dict[str, list[Any]]) -> pa.Table:
    kind = pa.float64() if any(c[0].dtype == np.float64 for c in columns.values()) else pa.float32()
    return pa.table(
        {
            "id": [e.id for e in examples],
            # the words beside the numbers: an example opens without the tokenizer
            "text": [e.text for e in examples],
            "starts": pa.array([e.offsets[:, 0] for e in examples], type=pa.list_(pa.int32())),
            "ends": pa.array([e.offsets[:, 1] for e in examples], type=pa.list_(pa.int32())),
            "mask": pa.array([e.loss_mask for e in examples], type=pa.list_(pa.bool_())),
            **{name: pa.array(values, type=pa.list_(kind)) for name, values in columns.items()},
        }
    )


def _directions(
    model: Any, settings: dict[str, Any], root: Path, targets: dict[str, Any] | None, runtime: Runtime
) -> Sequence[Direction]:
    """The folds' directions, read when they are needed, or the targets', which are weighted means of them; shards of
    them on a sharded model.
    """
    saved = open_directions(root / settings["directions"], model_hash=settings["model"]["model_hash"])
    folds: Sequence[Direction] = saved
    if runtime.fsdp:
        from infra.parallel.fsdp import read_shards

        folds = read_shards(saved, model)
    if targets is None:
        return folds
    return [combine(folds, weights, name=name) for name, weights in targets.items()]
