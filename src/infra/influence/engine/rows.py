"""Sums, eigenvectors and directions of a model that is sharded over processes: each process holds its rows.

Sums (covariances, corrected eigenvalues, gradients of folds) lie as weights do. As the backward pass hands over a
block, its share of the batch is summed over the processes and each keeps its rows (:class:`RowTotals`). Eigenvectors
are read row by row and gathered for the block that is rotated (:class:`GatheredBases`), directions likewise
(:class:`GatheredDirections`). A process holds one n-th of each set and one whole block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from infra.influence.directions import Direction, SavedDirections, stack
from infra.influence.engine.eigenbases import Basis
from infra.influence.engine.totals import Totals
from infra.models.tracked import Block, TrackedWeights
from infra.parallel.fsdp import all_gather_rows, all_reduce_max, gathering, reduce_scatter, shard_rows
from infra.parallel.process_group import all_gather_object


class RowTotals(Totals):
    """Sums over the data of all processes, of which each holds its rows of every matrix ``[..., rows, columns]``.

    Adding to one is a collective: every process adds to the same ones in the same order. While it does, one is whole.
    """

    @contextmanager
    def into(self, name: str, empty: Callable[[], Tensor]) -> Iterator[Tensor]:
        own = empty()
        yield own
        rows = reduce_scatter(own)
        self.tensors[name] = self.tensors[name].add_(rows) if name in self.tensors else rows.contiguous()

    @staticmethod
    def passes(batches: int) -> int:
        return all_reduce_max(batches)

    @staticmethod
    def counts(own: Mapping[str, int]) -> dict[str, int]:
        found = all_gather_object(dict(own))
        return {name: sum(counts[name] for counts in found) for name in own}

    @staticmethod
    def forward_weights(model: Any) -> AbstractContextManager[None]:
        return gathering(model)

    @staticmethod
    def matrices(
        tracked: TrackedWeights, directions: Sequence[Direction], device: torch.device, dtype: torch.dtype
    ) -> Mapping[str, Tensor]:
        return GatheredDirections(tracked, directions, device, dtype)


class GatheredBases(Mapping[str, Basis]):
    """Eigenvectors of which this process holds ``rows``, whole for the block that is asked for.

    Asking is a collective. Blocks that share inputs and follow one another share the gathered tensor too.
    """

    def __init__(self, rows: Mapping[str, Basis]) -> None:
        self._rows = rows
        self._last: tuple[Tensor | None, Tensor | None] = (None, None)

    def __getitem__(self, key: str) -> Basis:
        own = self._rows[key]
        if self._last[0] is not own.inputs:
            self._last = (None, None)  # let go of before another is there
            self._last = (own.inputs, _gathered_basis(own.inputs))
        inputs = self._last[1]
        assert inputs is not None
        return replace(own, outputs=_gathered_basis(own.outputs), inputs=inputs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class GatheredDirections(Mapping[str, Tensor]):
    """Each block's matrix ``[K, out, in (+ 1)]`` of ``K`` directions of which this process holds rows.

    Asking for a block is a collective, since its rows are gathered then.
    """

    def __init__(
        self, tracked: TrackedWeights, directions: Sequence[Direction], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._blocks: dict[str, Block] = {block.key: block for block in tracked.blocks}
        self._parameters = tracked.parameters
        self._rows = {name: t.to(device, dtype) for name, t in stack(directions).items()}

    def __getitem__(self, key: str) -> Tensor:
        block = self._blocks[key]
        tensors = {name: self._whole(name) for name in (block.weight, block.bias) if name is not None}
        count = len(tensors[block.weight])
        return torch.stack([block.matrix({n: t[k] for n, t in tensors.items()}) for k in range(count)])

    def _whole(self, name: str) -> Tensor:
        rows = self._parameters[name].shape[0]
        own = self._rows[name]
        if own.shape[1] == rows and not _is_sharded(self._parameters[name]):
            return own
        return all_gather_rows(own.movedim(0, 1), rows).movedim(1, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)


def read_shards(saved: SavedDirections, model: Any) -> list[Direction]:
    """This process's rows of directions on disk; nothing else is read. Weights outside the layers stay whole."""
    return saved.loaded(shard_rows(model))


def _is_sharded(parameter: Any) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(parameter, DTensor)


def _gathered_basis(rows: Tensor) -> Tensor:
    """``[..., d, d]`` from each process's rows of it."""
    return all_gather_rows(rows.movedim(-2, 0), rows.shape[-1]).movedim(0, -2)
