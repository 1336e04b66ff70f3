"""Kronecker factors: sums of ``a a^T`` and ``g g^T`` over positions, one visit to the data.

For a weight with inputs a_t and output gradients g_t, over the positions through which a response loss flows:

    A = mean_t a_t a_t^T,  S = mean_t g_t g_t^T

The true Fisher matrix takes labels sampled from the model, which makes it a Monte Carlo Gauss-Newton matrix;
the empirical one takes the data's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.batches import Batch, Progress
from infra.influence.engine.engine import Engine, FitSettings, Labels
from infra.influence.engine.functional import sampled_labels
from infra.influence.engine.layer_inputs import LayerCall
from infra.influence.engine.rotation import add_gram_, empty_gram
from infra.influence.engine.totals import Totals
from infra.models.tracked import Block


@dataclass(frozen=True)
class Covariances:
    """Sums over positions, not yet divided: ``inputs[leader] [i, i]``, ``outputs[key] [o, o]`` (or diagonal blocks of
    them, :mod:`.rotation`), right on and below their diagonals.

    ``leader[key]`` is the block whose inputs are the very same tensor (gate for up; q for k and v).
    ``positions`` counts the rows in each leader's sum.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    leader: dict[str, str]
    positions: dict[str, int]


def counted(settings: FitSettings, batch: Batch, call: LayerCall) -> Tensor:
    """bool ``[R]``: the rows of a layer call that the factors count."""
    mask = (batch.flows if settings.include_prompt else batch.loss).reshape(-1)
    return mask if call.where is None else mask[call.where]


def labels_of(settings: FitSettings) -> Labels | None:
    """Labels sampled from the model for the true Fisher matrix, None (the data's own) for the empirical one."""
    return (lambda batch: sampled_labels(batch, settings.seed)) if settings.fisher == "true" else None


@dataclass
class _Shared:
    """Which blocks have the same inputs, decided in the first batch and kept.

    Such blocks come one after the other in a backward pass, so comparing each with the last is enough.
    """

    leader: dict[str, str] = field(default_factory=dict)
    last: tuple[str, bool, Any] = ("", False, None)

    def of(self, block: Block, calls: Sequence[LayerCall]) -> str:
        """The block whose inputs stand for this one's: itself, or the one before with the same input tensor."""
        source = calls[0].source if len(calls) == 1 and block.expert is None else None
        known, biased, before = self.last
        if block.key not in self.leader:
            same = source is not None and source is before and biased == (block.bias is not None)
            self.leader[block.key] = known if same else block.key
        if self.leader[block.key] == block.key:
            self.last = (block.key, block.bias is not None, source)
        return self.leader[block.key]


def covariances(
    engine: Engine, examples: Sequence[TokenizedExample], settings: FitSettings, progress: Progress | None = None
) -> Covariances:
    """The first visit: sums of a a^T and g g^T over the counted positions."""
    shared = _Shared()
    inputs, outputs = engine.totals(), engine.totals()
    positions: dict[str, int] = {}
    device, dtype = engine.device, engine.accumulator

    def empty(width: int) -> Tensor:
        return empty_gram(width, settings.block_size, dtype, device)

    def add_to(sums: Totals, key: str, width: int, parts: Iterable[Tensor]) -> None:
        with sums.into(key, partial(empty, width)) as total:
            for rows in parts:
                add_gram_(total, rows.to(dtype))

    def consume(batch: Batch, block: Block, calls: list[LayerCall]) -> None:
        chosen = [counted(settings, batch, call) for call in calls]
        if shared.of(block, calls) == block.key:
            add_to(inputs, block.key, block.columns, (call.widened(block)[c] for call, c in zip(calls, chosen)))
            positions[block.key] = positions.get(block.key, 0) + sum(int(c.sum()) for c in chosen)
        # where no loss flows the gradient is zero, so it need not be cut out
        kept = (u.gradients if settings.include_prompt else u.gradients[c] for u, c in zip(calls, chosen))
        add_to(outputs, block.key, block.shape[0], kept)

    engine.forward_backward(examples, consume, labels_of(settings), progress)
    for block in engine.tracked.blocks:  # an expert that no token chose
        if block.key not in outputs.tensors:
            shared.leader[block.key], positions[block.key] = block.key, 0
            add_to(outputs, block.key, block.shape[0], ())
            add_to(inputs, block.key, block.columns, ())
    return Covariances(inputs.tensors, outputs.tensors, shared.leader, engine.totals.counts(positions))
