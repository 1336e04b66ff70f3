"""Contractions of inputs and output gradients: weight gradients per example or in sum, and their inner
products.

Shapes: a layer call has ``R`` rows, inputs ``A [R, i]`` and output gradients ``G [R, o]``; a row belongs to one
position of the batch and so to one example.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infra.influence.engine.batches import Batch
from infra.influence.engine.functional import accumulator
from infra.influence.engine.layer_inputs import LayerCall
from infra.models.tracked import Block

ROW_ELEMENTS = 1 << 22
"""Elements of the largest intermediate of :func:`position_scores` (16 MB in float32)."""


def summed_gradient(block: Block, calls: Sequence[LayerCall]) -> Tensor:
    """``sum_t g_t a_t^T`` over the batch, ``[o, i (+ 1)]``. Cost 2 R o i."""
    wide = accumulator(calls[0].gradients.dtype)
    parts = [call.gradients.to(wide).T @ call.widened(block).to(wide) for call in calls]
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def example_gradients(block: Block, calls: Sequence[LayerCall], batch: Batch) -> Tensor:
    """``sum_t g_t a_t^T`` over each example's positions, ``[n, o, i (+ 1)]``. Cost 2 R o i."""
    return sum_outer([(call.gradients, call.widened(block), call.where) for call in calls], batch)


def sum_outer(pairs: Sequence[tuple[Tensor, Tensor, Tensor | None]], batch: Batch) -> Tensor:
    """Per example, the sum of outer products ``left_r right_r^T`` over its rows: ``[n, l, r]``.

    Each pair is ``(left [R, l], right [R, r], where [R] or None)``.
    """
    n = len(batch.examples)
    total: Tensor | None = None
    for left, right, where in pairs:
        if where is None and batch.one_per_row:
            part = left.reshape(n, -1, left.shape[1]).transpose(1, 2) @ right.reshape(n, -1, right.shape[1])
            total = part if total is None else total + part
            continue
        total = left.new_zeros(n, left.shape[1], right.shape[1]) if total is None else total
        for example, rows in enumerate(rows_of_examples(batch, where)):
            if len(rows):
                total[example] += left[rows].T @ right[rows]
    assert total is not None
    return total


def rows_of_examples(batch: Batch, where: Tensor | None) -> list[Tensor]:
    """For each example of the batch, the rows of a layer call that belong to it, int64."""
    owner = batch.owner().reshape(-1)
    if where is not None:
        owner = owner[where]
    return [(owner == i).nonzero()[:, 0] for i in range(len(batch.examples))]


def position_scores(block: Block, calls: Sequence[LayerCall], directions: Tensor, batch: Batch) -> Tensor:
    """``g_t^T V_k a_t`` at every position, ``[K, B, T]``, for ``directions [K, o, i (+ 1)]``. Cost 2 R K o i.

    The wider of g and a is multiplied into V, so that what is left to be summed up elementwise is narrow.
    """
    k, out, columns = directions.shape
    wide, own = accumulator(directions.dtype), calls[0].inputs.dtype
    matrices = directions.to(own) if out > columns else directions.to(own).mT
    scores = directions.new_zeros(k, batch.input_ids.numel(), dtype=wide)
    step = max(1, ROW_ELEMENTS // min(out, columns))
    for call in calls:
        inputs = call.widened(block)
        left, right = (call.gradients, inputs) if out > columns else (inputs, call.gradients)
        for start in range(0, len(inputs), step):
            rows = slice(start, start + step)
            narrow = right[rows].to(wide)
            values = torch.stack([(left[rows] @ matrix).to(wide).mul_(narrow).sum(1) for matrix in matrices])
            if call.where is None:
                scores[:, rows] += values
            else:
                scores.index_add_(1, call.where[rows], values)
    return scores.reshape(k, *batch.input_ids.shape)


def example_scores(block: Block, calls: Sequence[LayerCall], directions: Tensor, batch: Batch) -> Tensor:
    """``< sum_t g_t a_t^T, V_k >`` for each example, ``[n, K]``.

    Forming each example's gradient first costs 2 R o i and then 2 n K o i; going through positions costs
    2 R K o i, so it wins for a single direction only.
    """
    if len(directions) == 1:
        scores = position_scores(block, calls, directions, batch)[0]
        if batch.one_per_row:
            return scores.sum(1)[:, None]
        rows = [(row, start, start + n) for _, row, start, n in batch.segments]
        return torch.stack([scores[row, start:stop].sum() for row, start, stop in rows])[:, None]
    gradients = example_gradients(block, calls, batch).to(directions.dtype)
    return gradients.flatten(1) @ directions.flatten(1).T
