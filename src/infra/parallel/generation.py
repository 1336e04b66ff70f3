"""Generation shared out: rank 0 asks, every process answers its share, rank 0 keeps the results.

Every sample has a random stream of its own, so which process draws it does not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from infra.models.generation import Generation, Generator, Prompt, Sampling
from infra.models.generation._types import Key, OnResult, in_order
from infra.parallel.process_group import broadcast_object, cpu_group, this_rank

ROUND = 64
"""Prompts of each process between two exchanges: what a killed command loses at most."""


class DistributedGenerator:
    """Rank 0's generator: hands prompts out to the others, which are in :func:`serve`. ``close`` lets them go."""

    def __init__(self, own: Generator) -> None:
        self._own = own

    @property
    def identity(self) -> str:
        """The weights behind it."""
        return self._own.identity

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seed: int,
        on_result: OnResult | None = None,
        done: Collection[Key] = frozenset(),
    ) -> list[Generation]:
        """As :meth:`infra.models.generation.Generator.generate`; what other processes made is told after each round."""
        known = set(done)
        wanted = [p for p in prompts if any((p.id, i) not in known for i in range(sampling.n))]
        size = this_rank().size
        found: list[Generation] = []
        for start in range(0, len(wanted), ROUND * size):
            asked = wanted[start : start + ROUND * size]
            ids = {p.id for p in asked}
            broadcast_object((asked, sampling, seed, {k for k in known if k[0] in ids}))
            mine = self._own.generate(asked[::size], sampling, seed, on_result, known)
            others = [g for part in _gathered(mine)[1:] for g in part]
            if on_result is not None:
                for generation in others:
                    on_result(generation)
            found += [*mine, *others]
        return in_order(prompts, found)

    def close(self) -> None:
        """No more prompts will come."""
        broadcast_object(None)


def generate_for_rank_0(own: Generator) -> None:
    """Every other process's part: answer its share of what rank 0 asks, until there is no more."""
    here = this_rank()
    while (asked := broadcast_object(None)) is not None:
        prompts, sampling, seed, known = asked
        _gathered(own.generate(prompts[here.rank :: here.size], sampling, seed, None, known))


def _gathered(mine: list[Generation]) -> list[list[Generation]]:
    """Every process's list, on rank 0; empty elsewhere."""
    import torch.distributed as dist

    here = this_rank()
    into: list[Any] = [None] * here.size
    dist.gather_object(mine, into if here.first else None, dst=0, group=cpu_group())
    return into if here.first else []
