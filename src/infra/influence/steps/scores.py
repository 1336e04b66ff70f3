"""The steps of scoring: a shard's examples on every fold, a shard's tokens on the token targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.influence.directions import Direction, combine, open_directions
from infra.influence.engine.engine import Engine
from infra.influence.engine.totals import Totals
from infra.influence.scores import Decomposition, example_influence, token_influence
from infra.influence.steps.step import Item


def example_step(engine: Engine, directions: Path, model_hash: str) -> Callable[[Item], NDArray[Any]]:
    """``[n, K]`` scores of a shard's examples, float32 or float64."""
    along = _folds(engine, directions, model_hash)

    def run(item: Item) -> NDArray[Any]:
        return np.concatenate(
            [
                example_influence(item.engine.model, examples, along, max_tokens=item.engine.max_tokens)
                for _, examples in item.chunks
            ]
        )

    return run


def token_step(
    engine: Engine,
    directions: Path,
    model_hash: str,
    targets: Mapping[str, Sequence[float]],
    decompositions: Sequence[Decomposition],
) -> Callable[[Item], pa.Table]:
    """A table of a shard: id, text, where its tokens lie, ``loss`` (and ``position``) scores of each target."""
    folds = _folds(engine, directions, model_hash)
    along = [combine(folds, weights, name=name) for name, weights in targets.items()]

    def run(item: Item) -> pa.Table:
        tables = []
        for _, examples in item.chunks:
            columns: dict[str, list[Any]] = {}
            for decomposition in decompositions:
                rows: list[Any] = [None] * len(examples)
                for chunk in token_influence(
                    item.engine.model,
                    examples,
                    along,
                    decomposition=decomposition,
                    max_tokens=item.engine.max_tokens,
                ):
                    for index, scores in zip(chunk.indices, chunk.scores):
                        rows[index] = scores
                for k, name in enumerate(targets):
                    columns[f"{decomposition}_{name}"] = [r[k] for r in rows]
            if examples:
                tables.append(_table(examples, columns))
        return pa.concat_tables(tables) if tables else pa.table({})

    return run


def _table(examples: Sequence[TokenizedExample], columns: dict[str, list[Any]]) -> pa.Table:
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


def _folds(engine: Engine, directions: Path, model_hash: str) -> Sequence[Direction]:
    """The folds' directions, read when they are needed; this process's rows of them on a sharded model."""
    saved = open_directions(directions, model_hash=model_hash)
    if engine.totals is Totals:
        return saved
    from infra.influence.engine.rows import read_shards

    return read_shards(saved, engine.model)
