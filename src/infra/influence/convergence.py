"""Is the model near the end of training on this data? Only then do influence functions describe it.

At the end of training the gradients of the examples point all ways and their mean is near zero. A model that has still
something in common to learn from the data shows it: its examples' gradients point the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.engine.batches import Batch
from infra.influence.engine.contract import example_gradients
from infra.influence.engine.engine import Engine
from infra.influence.engine.forward_backward import device_of, forward_backward
from infra.influence.engine.functional import accumulator
from infra.influence.engine.layer_inputs import LayerCall
from infra.models.tracked import Block

LARGEST_ALIGNMENT = 0.02
"""Above this the training examples still pull the model the same way (docs/explanation/what-can-go-wrong.md)."""
BATCH_TOKENS = 2048
"""Tokens of a batch at most: every example's own gradient is formed."""


@dataclass(frozen=True)
class Convergence:
    """How a sample of the training data looks to the model.

    - ``content_loss``, ``template_loss``: mean loss in nats a token, over the tokens of the responses' authors and
      over those of the chat template (None where there are none).
    - ``mean_gradient``, ``example_gradient``: norm of the mean over examples of the gradient of the content's summed
      loss, and the root mean square norm of one example's, over the tracked weights.
    - ``alignment``: the mean inner product of two examples' gradients over the mean square norm of one. 0: no common
      direction is left to learn; 1: all examples pull the same way.
    """

    examples: int
    content_loss: float
    template_loss: float | None
    mean_gradient: float
    example_gradient: float
    alignment: float

    @property
    def holds(self) -> bool:
        """Whether the model is near the end of training on the data, so that influence describes it."""
        return self.alignment <= LARGEST_ALIGNMENT

    def as_dict(self) -> dict[str, Any]:
        """The measurements and the verdict, for a JSON file."""
        return {**asdict(self), "largest_alignment": LARGEST_ALIGNMENT, "holds": self.holds}


def convergence(engine: Engine, examples: Sequence[TokenizedExample]) -> Convergence:
    """Measure it on ``examples`` in one forward and backward pass over each.

    Memory: the tracked weights twice over at most, and the gradients of one batch's examples.
    Raises :class:`InputError` for fewer than two examples that have content.
    """
    content = [e.counting("content") for e in examples]
    if sum(e.loss_mask.any() for e in content) < 2:
        raise InputError(f"{len(examples)} examples are too few to see whether the model has learnt the data; give 2")
    wide, device = accumulator(next(engine.model.parameters()).dtype), device_of(engine.model)
    squares, sums = torch.zeros(len(examples), dtype=wide, device=device), dict[str, Tensor]()

    def weights(batch: Batch) -> Tensor:
        own = torch.zeros(batch.input_ids.shape)
        for (_, row, start, length), example in zip(batch.segments, batch.examples):
            mask = example.counting("content").loss_mask
            own[row, start : start + length - 1] = torch.from_numpy(mask[1:]).float()
        return own.to(device)

    def consume(batch: Batch, block: Block, calls: list[LayerCall]) -> None:
        formed = example_gradients(block, calls, batch).to(wide)
        squares[batch.indices] += formed.flatten(1).square().sum(1)
        total = formed.sum(0)
        sums[block.key] = total if block.key not in sums else sums[block.key].add_(total)

    losses = _Losses()
    most = min(BATCH_TOKENS, engine.max_tokens)
    for batch, values in forward_backward(
        engine.model, list(examples), engine.tracked, consume, weights, max_tokens=most
    ):
        losses.add(batch, values)
    n, own = len(examples), float(squares.sum())
    common = sum(float(total.square().sum()) for total in sums.values())
    alignment = (common - own) / ((n - 1) * own) if own else 0.0
    return Convergence(n, losses.content, losses.template, common**0.5 / n, (own / n) ** 0.5, alignment)


class _Losses:
    """Mean losses over content and template tokens, from log-probabilities at the predicting positions."""

    def __init__(self) -> None:
        self._sums, self._counts = np.zeros(2), np.zeros(2)

    def add(self, batch: Batch, log_probabilities: Tensor) -> None:
        """Add the tokens of one batch, ``[B, T]``."""
        values = log_probabilities.detach().double().cpu().numpy()
        for (_, row, start, length), example in zip(batch.segments, batch.examples):
            own = values[row, start : start + length - 1]
            for k, mask in enumerate((example.loss_mask & ~example.template_mask, example.template_mask)):
                self._sums[k] -= own[mask[1:]].sum()
                self._counts[k] += mask.sum()

    @property
    def content(self) -> float:
        """Over content tokens."""
        return float(self._sums[0] / self._counts[0])

    @property
    def template(self) -> float | None:
        """Over template tokens; None without any."""
        return float(self._sums[1] / self._counts[1]) if self._counts[1] else None
