"""Token scores of chosen pairs of example and query: what in an example helps or harms a query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.engine.batches import Batch, Progress
from infra.influence.engine.contract import rows_of_examples
from infra.influence.engine.engine import Engine
from infra.influence.engine.forward_backward import forward_backward
from infra.influence.engine.functional import accumulator
from infra.influence.engine.layer_inputs import LayerCall
from infra.influence.engine.lowrank import LowRank
from infra.models.tracked import Block


def chosen_tokens(
    engine: Engine,
    examples: Sequence[TokenizedExample],
    directions: LowRank,
    chosen: NDArray[np.bool_],
    progress: Progress | None = None,
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[Any]]]:
    """``position`` token scores of chosen pairs of an example and a query, in one pass over the data.

    The score is ``(g_t^T left) . (right^T a_t)`` summed over the blocks, as :func:`infra.influence.pairwise_tokens`
    gives for all pairs. It costs ``2 r (o + i)`` a block, position and pair, so that a hundred examples of every
    query cost what a hundred queries cost on all the data.

    Args:
        engine: the model and its tracked weights.
        examples: N of them.
        directions: of Q queries.
        chosen: bool ``[N, Q]``.
        progress: is told how many examples are done.

    Returns:
        Per example its index, its queries int64 ``[q]``, and their scores ``[q, T_i]``.

    Raises:
        InputError: ``chosen`` does not match examples and directions.
    """
    if chosen.shape != (len(examples), len(directions)):
        raise InputError(f"chosen has shape {chosen.shape} for {len(examples)} examples x {len(directions)} queries")
    wanted = np.flatnonzero(chosen.any(axis=1))
    model, device = engine.model, engine.device
    dtype = next(model.parameters()).dtype
    wide = accumulator(dtype)
    left = {key: t.to(device, dtype) for key, t in directions.left.items()}
    right = {key: t.to(device, dtype) for key, t in directions.right.items()}
    queries = {int(i): torch.from_numpy(np.flatnonzero(chosen[i])).to(device) for i in wanted}
    running: dict[int, torch.Tensor] = {}

    def consume(batch: Batch, block: Block, calls: list[LayerCall]) -> None:
        for call in calls:
            inputs = call.widened(block)
            for (place, row, start, length), rows in zip(batch.segments, rows_of_examples(batch, call.where)):
                index = int(wanted[place])
                mine = queries[index]
                if index not in running:
                    running[index] = torch.zeros(len(mine), length, dtype=wide, device=device)
                a = torch.einsum("ti,qir->tqr", inputs[rows], right[block.key][mine])
                g = torch.einsum("to,qor->tqr", call.gradients[rows], left[block.key][mine])
                position = (rows if call.where is None else call.where[rows]) - (row * batch.input_ids.shape[1] + start)
                running[index].index_add_(1, position, (a * g).sum(2, dtype=wide).T)

    some = [examples[int(i)] for i in wanted]
    visit = forward_backward(model, some, engine.tracked, consume, max_tokens=engine.max_tokens, progress=progress)
    for batch, _ in visit:
        for place in batch.indices:
            index = int(wanted[place])
            yield index, np.flatnonzero(chosen[index]), running.pop(index).cpu().numpy()
