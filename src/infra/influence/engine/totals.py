"""Where sums over the data, and the weights they are about, live: whole in this process, or by rows on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from infra.influence.directions import Direction, SavedDirections
from infra.models.tracked import TrackedWeights


class Totals:
    """Sums by name, whole in this process and over its own data. ``tensors``: what there is so far.

    The static methods say what a pass over the data needs to know of the place. A place that several processes share
    overrides all of them: :class:`infra.influence.engine.rows.RowTotals`. :func:`totals_of` knows which one a model is
    in, so that one engine serves one process and sixty-four.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    @contextmanager
    def into(self, name: str, empty: Callable[[], Tensor]) -> Iterator[Tensor]:
        """A tensor in the form of ``empty()``, zeros, that the block adds its share to."""
        if name not in self.tensors:
            self.tensors[name] = empty()
        yield self.tensors[name]

    @staticmethod
    def passes(batches: int) -> int:
        """How many passes are made with so many batches: further ones are of an example without loss."""
        return batches

    @staticmethod
    def counts(own: Mapping[str, int]) -> dict[str, int]:
        """Numbers by name, summed over all who share the totals."""
        return dict(own)

    @staticmethod
    def forward_weights(model: Any) -> AbstractContextManager[None]:
        """A context in which ``functional_call`` and forward mode find the model's weights as directions lie."""
        return nullcontext()

    @staticmethod
    def matrices(
        tracked: TrackedWeights, directions: Sequence[Direction], device: torch.device, dtype: torch.dtype
    ) -> Mapping[str, Tensor]:
        """``K`` directions as one matrix ``[K, out, in (+ 1)]`` for each block's key."""
        if isinstance(directions, SavedDirections):
            directions = directions.loaded()  # in one read
        found = {}
        for block in tracked.blocks:
            rows = [block.matrix(direction.tensors).to(device, dtype) for direction in directions]
            found[block.key] = torch.stack(rows)
        return found


def totals_of(model: Any) -> type[Totals]:
    """The kind of totals that goes with a model: by rows when :func:`infra.parallel.fsdp.shard_model` was here."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return Totals
    from infra.influence.engine.rows import RowTotals
    from infra.parallel.fsdp import is_sharded

    return RowTotals if is_sharded(model) else Totals
