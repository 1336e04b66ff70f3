"""Which process of how many this is. torchrun and accelerate say it in the environment; without them there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from infra.errors import ResourceError

PATIENCE = timedelta(days=7)
"""How long a process waits for the others; a launcher ends all of them when one dies."""


@dataclass(frozen=True, slots=True)
class Rank:
    """Process ``rank`` of ``size``; ``local_rank`` of ``local_size`` on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that decides and reports."""
        return self.rank == 0

    def device(self, asked: str) -> str:
        """``asked``, with ``cuda`` made this process's own device."""
        return f"cuda:{self.local_rank}" if asked == "cuda" and self.size > 1 else asked


def this_rank() -> Rank:
    """This process's place, from RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE."""

    def number(name: str, default: int) -> int:
        try:
            return int(os.environ.get(name, default))
        except ValueError as error:
            raise ResourceError(f"{name} is {os.environ[name]!r}; torchrun sets it to a number") from error

    size = number("WORLD_SIZE", 1)
    return Rank(number("RANK", 0), size, number("LOCAL_RANK", 0), number("LOCAL_WORLD_SIZE", size))


@contextmanager
def init_process_group(device: str = "cpu") -> Iterator[Rank]:
    """The process group of a launched command for the block: gloo, or NCCL on CUDA.

    With one process there is no group. A group that exists already is used and left alone.
    Raises :class:`ResourceError` when the processes cannot find each other, and :class:`InputError` for a device that
    is not here.
    """
    here = this_rank()
    if device != "cpu":
        from infra.models.device import check_device

        check_device(here.device(device))
    if here.size == 1:
        yield here
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        yield here
        return
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.set_device(here.device("cuda"))
    try:
        dist.init_process_group("nccl" if on_cuda else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            f"process {here.rank} of {here.size} cannot join the others ({error}); start the command with torchrun, "
            "and check MASTER_ADDR and MASTER_PORT"
        ) from error
    cpu_group()  # made by all at the same point
    try:
        yield here
    finally:
        cpu_group.cache_clear()
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here; nothing with one process."""
    if this_rank().size > 1:
        import torch
        import torch.distributed as dist

        dist.all_reduce(torch.zeros(1), group=cpu_group())  # NCCL's barrier would take a device for it


def broadcast_object(value: Any) -> Any:
    """Rank 0's ``value``, on every process."""
    if this_rank().size == 1:
        return value
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, src=0, group=cpu_group())
    return box[0]


def all_gather_object(value: Any) -> list[Any]:
    """Every process's ``value``, by rank, on every process."""
    if this_rank().size == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * this_rank().size
    dist.all_gather_object(found, value, group=cpu_group())
    return found


@lru_cache(maxsize=1)
def cpu_group() -> Any:
    """A group of all processes that talks through the CPU; the default group where that does so already."""
    import torch.distributed as dist

    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=PATIENCE)


def balanced_partition(costs: Sequence[float], parts: int) -> list[list[int]]:
    """Indices in ``parts`` groups of nearly equal total cost: the costliest first, each to the group with least so far.

    Deterministic; with more groups than costs the last ones are empty. At most 4/3 of the best split (Graham 1969).
    """
    groups: list[list[int]] = [[] for _ in range(parts)]
    load = [0.0] * parts
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        least = min(range(parts), key=lambda p: (load[p], p))
        groups[least].append(index)
        load[least] += costs[index]
    return groups
