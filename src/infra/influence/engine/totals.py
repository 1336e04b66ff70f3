"""Sums over a visit to the data: where they are kept, and who adds to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor


class Totals:
    """Sums by name, whole in this process and over its own data. ``tensors``: what there is so far.

    A kind of totals that several processes share overrides all methods; :class:`infra.parallel.fsdp.RowTotals`.
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
        """How many passes a visit with so many batches makes: further ones are of an example without loss."""
        return batches

    @staticmethod
    def counts(own: Mapping[str, int]) -> dict[str, int]:
        """Numbers by name, summed over all who share the totals."""
        return dict(own)
