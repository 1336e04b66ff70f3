"""Cosine of gradients: the inner product divided by both norms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.influence.directions import Direction, open_directions
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, Batch
from infra.influence.engine.contract import example_gradients
from infra.influence.engine.engine import Engine
from infra.influence.engine.forward_backward import device_of, forward_backward, run_through
from infra.influence.engine.functional import accumulator
from infra.influence.engine.layer_inputs import LayerCall
from infra.influence.methods._directions import AlongDirections
from infra.influence.methods._method import Fitted, MethodContext, Scores
from infra.influence.methods._registry import register
from infra.models.tracked import Block, TrackedWeights


@register("cosine")
@dataclass(frozen=True)
class Cosine:
    """``< grad log p(z), grad f > / (|grad log p(z)| |grad f|)``; 0 for an example without gradient.

    A token's share is divided by the norm of its whole example.
    """

    def fit(self, context: MethodContext) -> Fitted:
        """The targets' gradients at norm 1."""
        return AlongNormalised(context.engine, [_unit(g) for g in context.gradients()])

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """As :meth:`AlongNormalised.save` wrote it."""
        return AlongNormalised(engine, open_directions(folder))


@dataclass(frozen=True)
class AlongNormalised(AlongDirections):
    """:class:`.AlongDirections`, each example's scores divided by the norm of its gradient."""

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`."""
        engine = self.engine
        norms = gradient_norms(engine.model, examples, engine.tracked, engine.max_tokens).astype(np.float64)
        scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
        for found in super().scores(examples, tokens):
            s = scale[found.index]
            yield Scores(found.index, found.example * s, None if found.tokens is None else found.tokens * s)


def gradient_norms(
    model: Any, examples: Sequence[TokenizedExample], tracked: TrackedWeights, max_tokens: int = DEFAULT_MAX_TOKENS
) -> NDArray[Any]:
    """Euclidean norm of each example's summed-loss gradient over the tracked weights, ``[N]``."""
    dtype = accumulator(next(model.parameters()).dtype)
    squares = torch.zeros(len(examples), dtype=dtype, device=device_of(model))

    def consume(batch: Batch, block: Block, calls: list[LayerCall]) -> None:
        squares[batch.indices] += example_gradients(block, calls, batch).to(dtype).flatten(1).square().sum(1)

    run_through(forward_backward(model, examples, tracked, consume, max_tokens=max_tokens))
    return squares.sqrt().cpu().numpy()


def _unit(gradient: Direction) -> Direction:
    return gradient.unit() if gradient.norm() > 0 else gradient
