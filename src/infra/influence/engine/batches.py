"""Examples into padded batches, in a plan that is made before the work and can be written down.

Batches are sorted by length, so little of them is padding. Padding is on the right: under causal attention no
real token sees it, so no attention mask is needed and padding contributes exactly nothing.
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError, ModelError, ResourceError
from infra.models.memory import is_memory as is_memory

DEFAULT_MAX_TOKENS = 8192
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with (examples done, examples in all) after every batch."""


on_halving: ContextVar[Callable[[Any], None] | None] = ContextVar("on_halving", default=None)
"""Told each batch that does not fit, before its halves run; what it raises ends the pass instead.

A context variable, because passes lie anywhere below a method, a user's own included, and only who does tasks on disk
must know of the halving.
"""


@dataclass(frozen=True)
class Batch:
    """``B`` rows of ``T`` positions holding one example each, or several when packed.

    ``input_ids`` int64 ``[B, T]``. ``targets`` int64 ``[B, T]``: the token that position t predicts, i.e. the
    next one. ``loss`` bool ``[B, T]``: whether that prediction is under the loss, so the row's position t
    holds the prediction of token t + 1. ``flows`` bool ``[B, T]``: positions through which a response loss
    flows, up to and including the last prediction. ``position_ids`` int64 ``[B, T]`` when packed, else None.
    ``segments``: per example (index into the caller's sequence, row, start, length).
    """

    examples: tuple[TokenizedExample, ...]
    segments: tuple[tuple[int, int, int, int], ...]
    input_ids: Tensor
    targets: Tensor
    loss: Tensor
    flows: Tensor
    position_ids: Tensor | None

    @property
    def indices(self) -> list[int]:
        """Each example's index in the sequence the batch was made from."""
        return [segment[0] for segment in self.segments]

    def owner(self) -> Tensor:
        """int64 ``[B, T]``: which of the batch's examples a position belongs to; -1 for padding."""
        owner = torch.full(self.input_ids.shape, -1, dtype=torch.int64)
        for i, (_, row, start, length) in enumerate(self.segments):
            owner[row, start : start + length] = i
        return owner.to(self.input_ids.device)

    @property
    def one_per_row(self) -> bool:
        """Whether row i holds exactly example i."""
        return self.position_ids is None

    def split(self) -> tuple[Batch, Batch]:
        """Two batches with half of the examples each."""
        half = len(self.examples) // 2
        device, packed = self.input_ids.device, self.position_ids is not None
        parts = [
            build_batch(self.examples[s], [seg[0] for seg in self.segments[s]], device, packed)
            for s in (slice(0, half), slice(half, None))
        ]
        return parts[0], parts[1]


def plan_batches(
    examples: Sequence[TokenizedExample], max_tokens: int = DEFAULT_MAX_TOKENS, sort: bool = True
) -> list[list[int]]:
    """Indices of the examples of each batch: rows times the longest row stays within ``max_tokens``.

    Longest first, ties by position, so the plan is a function of the lengths alone and the largest batch,
    which decides about memory, comes first. One example longer than ``max_tokens`` has a batch of its own.
    """
    order = sorted(range(len(examples)), key=lambda i: (-len(examples[i]), i)) if sort else range(len(examples))
    plan: list[list[int]] = []
    widest = 0
    for i in order:
        width = max(widest, len(examples[i]))
        if plan and width * (len(plan[-1]) + 1) <= max_tokens:
            plan[-1].append(i)
            widest = width
        else:
            plan.append([i])
            widest = len(examples[i])
    return plan


def build_batch(
    examples: Sequence[TokenizedExample], indices: Sequence[int], device: Any = "cpu", packed: bool = False
) -> Batch:
    """Tensors for the given examples; ``indices`` are their places in the caller's sequence.

    ``packed`` puts them behind one another in a single row, with position ids that restart.
    Raises :class:`InputError` naming an example without tokens, or with loss on its first token.
    """
    for example in examples:
        if len(example) == 0:
            raise InputError(f"record {example.id} has no tokens; drop it or check its text")
        if example.loss_mask[0]:
            raise InputError(f"record {example.id} has loss on its first token, which nothing predicts")
    lengths = [len(e) for e in examples]
    starts = [0, *np.cumsum(lengths)[:-1].tolist()] if packed else [0] * len(examples)
    rows = [0] * len(examples) if packed else list(range(len(examples)))
    shape = (1, sum(lengths)) if packed else (len(examples), max(lengths))
    ids = np.zeros(shape, np.int64)
    targets, loss, flows = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape, bool)
    positions = np.zeros(shape, np.int64)
    for example, row, start, n in zip(examples, rows, starts, lengths):
        ids[row, start : start + n] = example.input_ids
        targets[row, start : start + n - 1] = example.input_ids[1:]
        loss[row, start : start + n - 1] = example.loss_mask[1:]
        positions[row, start : start + n] = np.arange(n)
        predictions = np.flatnonzero(example.loss_mask)
        if len(predictions):
            flows[row, start : start + int(predictions[-1])] = True
    tensors = [torch.from_numpy(a).to(device) for a in (ids, targets, loss, flows)]
    segments = tuple(zip(map(int, indices), rows, map(int, starts), lengths))
    return Batch(
        tuple(examples),
        segments,
        tensors[0],
        tensors[1],
        tensors[2],
        tensors[3],
        torch.from_numpy(positions).to(device) if packed else None,
    )


def empty_batch(index: int, device: Any = "cpu") -> Batch:
    """Two tokens without loss, as example number ``index``: a pass over them adds zeros to every sum."""
    nothing = TokenizedExample("filler", np.zeros(2, np.int64), np.zeros(2, bool), np.zeros((2, 2), np.int32), "", 0)
    return build_batch([nothing], [index], device)


def batches(
    examples: Sequence[TokenizedExample],
    max_tokens: int = DEFAULT_MAX_TOKENS,
    device: Any = "cpu",
    packed: bool = False,
) -> Iterator[Batch]:
    """All examples, in the order of :func:`plan_batches`."""
    for indices in plan_batches(examples, max_tokens):
        yield build_batch([examples[i] for i in indices], indices, device, packed)


def halving_on_memory(
    batch: Batch, work: Callable[[Batch, set[str]], Result], finished: frozenset[str] = frozenset()
) -> Iterator[tuple[Batch, Result]]:
    """``work(batch, finished)``, or the same on its halves when memory runs out, down to one example.

    ``finished`` is the work's own notebook: it adds the key of each block whose share it has added to a sum,
    and skips the keys it finds there, so a batch that failed half-way is not counted twice when its halves
    run.
    Raises :class:`ResourceError` when a single example does not fit.
    """
    notebook = set(finished)
    try:
        result = work(batch, notebook)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        if len(batch.examples) == 1:
            example = batch.examples[0]
            raise ResourceError(
                f"record {example.id} with {len(example)} tokens does not fit in memory alone; give fewer "
                "directions at a time, a shorter context, bfloat16, or a larger device"
            ) from error
    else:
        yield batch, result
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    told = on_halving.get()
    if told is not None:
        told(batch)
    python_warnings.warn(
        f"out of memory with {batch.input_ids.numel():,} positions ({len(batch.examples)} examples) in a batch: going "
        "on with halves; set max_tokens to half of what it is, and batches will be planned so",
        RuntimeWarning,
        stacklevel=2,
    )
    for half in batch.split():
        yield from halving_on_memory(half, work, frozenset(notebook))


def check_finite(values: Tensor, batch: Batch, what: str) -> None:
    """Raise :class:`ModelError` naming the first record with a NaN or infinity in ``values`` ``[..., B, T]``."""
    if bool(torch.isfinite(values).all()):
        return
    bad = ~torch.isfinite(values).reshape(-1, *batch.input_ids.shape).all(dim=0)
    for example, (_, row, start, length) in zip(batch.examples, batch.segments):
        if bool(bad[row, start : start + length].any()):
            raise ModelError(f"record {example.id}: {what} is NaN or infinite; look at its text, or use float32")


def per_example(values: Tensor, batch: Batch) -> list[NDArray[Any]]:
    """Cut ``values [K, B, T]``, indexed by the predicting position, into one array ``[K, T_i]`` per example."""
    host = values.detach().to("cpu").numpy()
    return [host[:, row, start : start + length] for _, row, start, length in batch.segments]
