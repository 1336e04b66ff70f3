"""Random projections of gradients, block by block and on both sides of the weight, so that P is never formed.

A block's gradient ``G = sum_t g_t a_t^T``, ``[o, i (+ 1)]``, is projected to ``P_o^T G P_i``, ``[r, r]``, with
independent entries N(0, 1 / r): in vectorised form a projection by the Kronecker product of two thin matrices, under
which inner products keep their expectation (the form of TrackStar, Chang et al. 2024, A.1.2, and of LoGra, Choe et al.
2024). Since ``P_o^T G P_i = sum_t (P_o^T g_t) (P_i^T a_t)^T``, a gradient that enters as it is need not be formed
either: projecting rows costs 2 R r (o + i) instead of 2 R o i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, Batch
from infra.influence.engine.contract import example_gradients, sum_outer
from infra.influence.engine.forward_backward import forward_backward
from infra.influence.engine.functional import accumulator, record_stream
from infra.influence.engine.layer_inputs import LayerCall
from infra.models.tracked import Block, TrackedWeights

Transform = Callable[[Block, Tensor, Sequence[TokenizedExample]], Tensor]
"""Something done to the gradients ``[n, o, i (+ 1)]`` of some examples in a block before they are projected."""


@dataclass(frozen=True)
class Projection:
    """Two thin random matrices for each block, drawn from ``seed`` and the block's name alone; ``rank`` is r."""

    rank: int = 64
    seed: int = 0
    known: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def sides(self, block: Block, like: Tensor) -> tuple[Tensor, Tensor]:
        """``P_o [o, r]`` and ``P_i [i (+ 1), r]`` in the dtype and on the device of ``like``."""
        if block.key not in self.known:
            self.known[block.key] = (
                self._drawn(f"{block.key}:outputs", block.shape[0]),
                self._drawn(f"{block.key}:inputs", block.columns),
            )
        outputs, inputs = self.known[block.key]
        return outputs.to(like), inputs.to(like)

    def _drawn(self, name: str, width: int) -> Tensor:
        entries = record_stream(self.seed, f"projection:{name}").standard_normal((width, self.rank))
        return torch.from_numpy((entries / np.sqrt(self.rank)).astype(np.float32))

    def of(self, block: Block, matrix: Tensor) -> Tensor:
        """``P_o^T G P_i`` of ``G [..., o, i (+ 1)]`` as a vector ``[..., r r]``."""
        outputs, inputs = self.sides(block, matrix)
        return (outputs.T @ matrix @ inputs).flatten(-2)

    def back(self, block: Block, vector: Tensor) -> Tensor:
        """The transpose of :meth:`of`: ``P_o M P_i^T`` ``[..., o, i (+ 1)]`` of ``[..., r r]``."""
        outputs, inputs = self.sides(block, vector)
        return outputs @ vector.unflatten(-1, (self.rank, self.rank)) @ inputs.T


def projected_gradients(
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    projection: Projection,
    *,
    by_block: bool = False,
    weights: Sequence[NDArray[Any]] | None = None,
    transform: Transform | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Projections of each example's gradient of ``sum_t w_t log p(z_t | z_<t)``, batch by batch.

    Yields the places of a batch's examples and ``[n, r r]`` by block, or, unless ``by_block``, their sum over all
    blocks under ``""``: the projection of the whole gradient by one matrix. ``weights``: one ``[T]`` an example, by
    the predicted token, 1 by default. ``transform`` needs the gradients formed, which costs 2 R o i a block.
    """
    dtype = accumulator(next(model.parameters()).dtype)
    keys = [b.key for b in tracked.blocks] if by_block else [""]
    running: dict[str, dict[int, Tensor]] = {key: {} for key in keys}  # by example: a batch may run again in halves

    def consume(batch: Batch, block: Block, calls: list[LayerCall]) -> None:
        if transform is None:
            outputs, inputs = projection.sides(block, calls[0].gradients)
            rows = [(call.gradients @ outputs, call.widened(block) @ inputs, call.where) for call in calls]
            found = sum_outer(rows, batch).to(dtype).flatten(1)
        else:
            found = projection.of(
                block, transform(block, example_gradients(block, calls, batch).to(dtype), batch.examples)
            )
        into = running[block.key if by_block else ""]
        for index, row in zip(batch.indices, found):
            into[index] = into[index] + row if index in into else row

    def weighted(batch: Batch) -> Tensor:
        assert weights is not None
        out = torch.zeros(batch.input_ids.shape, dtype=dtype)
        for index, row, start, length in batch.segments:  # from the predicted token to the predicting position
            out[row, start : start + length - 1] = torch.from_numpy(np.asarray(weights[index][1:])).to(dtype)
        return out.to(batch.input_ids.device)

    for batch, _ in forward_backward(
        model, examples, tracked, consume, weighted if weights is not None else None, max_tokens=max_tokens
    ):
        device = batch.input_ids.device
        silent = torch.zeros(projection.rank**2, dtype=dtype, device=device)  # an expert that no token chose
        yield (
            batch.indices,
            {key: torch.stack([rows.pop(index, silent) for index in batch.indices]) for key, rows in running.items()},
        )
