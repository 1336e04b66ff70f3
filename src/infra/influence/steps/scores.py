"""The steps of scoring: a shard's examples on every fold, a shard's tokens on the token targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.data.tokenized import Counted, TokenizedExample
from infra.influence.directions import open_directions
from infra.influence.engine.engine import Engine
from infra.influence.engine.totals import Totals
from infra.influence.methods._directions import is_directions
from infra.influence.methods._method import Fitted
from infra.influence.methods.cosine import gradient_norms
from infra.influence.scores import Decomposition, example_influence, token_influence
from infra.influence.steps.step import Item


def example_step(
    engine: Engine, fitted: Path, model_hash: str, counted: Counted = "all"
) -> Callable[[Item], NDArray[Any]]:
    """``[n, K]`` scores of a shard's examples by the method in the folder ``fitted``, float32 or float64.

    With ``counted`` ``content`` an example is what its author wrote: the loss of the template's tokens is left out.
    """
    method = _opened(engine, fitted, model_hash)

    def run(item: Item) -> NDArray[Any]:
        parts = []
        for _, whole in item.chunks:
            examples = [e.counting(counted) for e in whole]
            if is_directions(method):
                most = item.engine.max_tokens
                parts.append(example_influence(engine.model, examples, method.directions, max_tokens=most))
            elif examples:
                rows = {s.index: s.example for s in method.scores(examples, tokens=False)}
                parts.append(np.stack([rows[i] for i in range(len(examples))]).astype(np.float32))
        return np.concatenate(parts)

    return run


def norm_step(engine: Engine, counted: Counted = "all") -> Callable[[Item], NDArray[Any]]:
    """The norm of each example's gradient over the tracked weights, float64 ``[n]``, of the counted tokens' loss."""

    def run(item: Item) -> NDArray[Any]:
        parts = [np.zeros(0)]
        for _, whole in item.chunks:
            examples = [e.counting(counted) for e in whole]
            parts.append(gradient_norms(engine.model, examples, engine.tracked, item.engine.max_tokens))
        return np.concatenate(parts).astype(np.float64)

    return run


def token_step(
    engine: Engine,
    fitted: Path,
    model_hash: str,
    targets: Mapping[str, Sequence[float]],
    decompositions: Sequence[Decomposition],
    counted: Counted = "all",
) -> Callable[[Item], pa.Table]:
    """A table of a shard: id, text, where its tokens lie, ``loss`` (and ``position``) scores of each target.

    Where the method has no token scores, each response token carries an equal share of its example's. The counted
    tokens sum to the score of :func:`example_step`. ``loss`` scores of the template's tokens are there either way:
    their part in the score of the whole example.
    """
    from infra.influence.methods import mixed, spread

    along = mixed(_opened(engine, fitted, model_hash), list(targets.values()))

    def scored(item: Item, examples: Sequence[TokenizedExample], decomposition: Decomposition) -> list[NDArray[Any]]:
        rows: dict[int, NDArray[Any]] = {}
        if is_directions(along):
            options: Any = {"decomposition": decomposition, "max_tokens": item.engine.max_tokens}
            those = examples if decomposition == "loss" else [e.counting(counted) for e in examples]
            for chunk in token_influence(engine.model, those, along.directions, **options):
                rows |= dict(zip(chunk.indices, chunk.scores))
        else:
            for found in along.scores(examples):
                rows[found.index] = spread(found, examples[found.index]).astype(np.float32)
            if counted == "content":  # such a score need not be linear in the loss: the content is scored by itself
                content = [e.counting(counted) for e in examples]
                for found in along.scores(content):
                    mask = content[found.index].loss_mask
                    rows[found.index][:, mask] = spread(found, content[found.index])[:, mask].astype(np.float32)
        return [rows[i] for i in range(len(examples))]

    def run(item: Item) -> pa.Table:
        tables = []
        for _, examples in item.chunks:
            columns: dict[str, list[Any]] = {}
            for decomposition in decompositions:
                rows = scored(item, examples, decomposition)
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
            "template": pa.array([e.template_mask for e in examples], type=pa.list_(pa.bool_())),
            **{name: pa.array(values, type=pa.list_(kind)) for name, values in columns.items()},
        }
    )


def _opened(engine: Engine, folder: Path, model_hash: str) -> Fitted:
    """The fitted method; of directions on a sharded model this process's rows."""
    from infra.influence.methods import open_fitted

    found = open_fitted(folder, engine, model_hash)
    if engine.totals is Totals or not is_directions(found):
        return found
    from infra.influence.engine.rows import read_shards

    return replace(found, directions=read_shards(open_directions(folder, model_hash), engine.model))
