"""A training run that can be made again: its start, its data in order, and everything its optimiser did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.train.flat_model import FlatModel, loss_weights
from infra.train.replay import AdamState, TrainingPlan, train


@dataclass(frozen=True)
class RecordedRun:
    """``flat`` holds the weights that training started from, ``plan`` the order, rates and optimiser, and
    ``examples`` the training data, which the plan's batches number.
    """

    flat: FlatModel
    plan: TrainingPlan
    examples: Sequence[TokenizedExample]

    def trained(self) -> Tensor:
        """The weights ``[P]`` that training ends in."""
        return train(self.flat, self.plan, self.examples, loss_weights(self.examples))

    def checkpoint_steps(self, n: int) -> list[int]:
        """``n`` numbers of steps, evenly spread and the last one among them (fewer in a short run)."""
        return sorted({round(self.plan.steps * (m + 1) / n) for m in range(n)} - {0})

    def checkpoints(self, n: int) -> list[AdamState]:
        """The optimiser's state after each of :meth:`checkpoint_steps`, in one replay."""
        wanted = set(self.checkpoint_steps(n))
        kept: list[AdamState] = []

        def look(state: AdamState) -> None:
            if state.step in wanted:
                kept.append(state)

        train(self.flat, self.plan, self.examples, loss_weights(self.examples), visit=look)
        return kept

    def until(self, step: int) -> RecordedRun:
        """The run's first ``step`` steps."""
        batches, rates = self.plan.batches[:step], self.plan.learning_rates[:step]
        return replace(self, plan=replace(self.plan, batches=batches, learning_rates=rates))

    def reordered(self, seed: int) -> RecordedRun:
        """The same run with its data in the order of another seed."""
        return replace(self, plan=self.plan.reordered(len(self.examples), seed))


@contextmanager
def weights_set(model: Any, weights: dict[str, Tensor]) -> Iterator[Any]:
    """In the block, ``model`` has these parameters, by name; afterwards its own again."""
    own = dict(model.named_parameters())
    before = {name: own[name].detach().clone() for name in weights}
    try:
        _copy(own, weights)
        yield model
    finally:
        _copy(own, before)


@torch.no_grad()
def _copy(own: dict[str, Any], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        own[name].copy_(value)
