"""Gradients of targets with respect to the tracked weights: one, or many groups in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError, ModelError
from infra.influence.directions import Direction, combine
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, Batch, Progress
from infra.influence.engine.contract import example_gradients, summed_gradient
from infra.influence.engine.engine import Engine
from infra.influence.engine.forward_backward import device_of, forward_backward, run_through
from infra.influence.engine.functional import accumulator, engine_mode
from infra.influence.engine.layer_inputs import LayerCall
from infra.influence.engine.totals import Totals
from infra.influence.estimate import directions_at_once
from infra.influence.targets import Contrast, Form, FunctionTarget, Target, weights_of
from infra.models.tracked import Block, TrackedWeights


def gradient(model: Any, target: Target, tracked: TrackedWeights, max_tokens: int = DEFAULT_MAX_TOKENS) -> Direction:
    """The gradient of a target with respect to the tracked weights, float32 (float64 for a float64 model).

    Args:
        model: in memory.
        target: the function f.
        tracked: weights that count.
        max_tokens: tokens of a batch, padding included.

    Raises:
        ModelError: a gradient is NaN or infinite, by record.
    """
    if isinstance(target, Contrast):
        parts = [gradient(model, part, tracked, max_tokens) for part in (target.positive, target.negative)]
        return combine(parts, [1.0, -target.weight], target.name)
    if isinstance(target, FunctionTarget):
        return _autograd_gradient(model, target, tracked)
    factors = torch.from_numpy(weights_of(target.examples, target.form) / len(target.examples))
    total = {block.key: zero_block(model, block) for block in tracked.blocks}

    def weights(batch: Batch) -> Tensor:
        return spread(factors[batch.indices], batch)

    def consume(_: Batch, block: Block, calls: list[LayerCall]) -> None:
        total[block.key] += summed_gradient(block, calls)

    run_through(forward_backward(model, target.examples, tracked, consume, weights, max_tokens=max_tokens))
    return from_blocks(total, tracked, target.name)


def gradients(
    engine: Engine,
    examples: Sequence[TokenizedExample],
    groups: NDArray[np.integer[Any]],
    names: Sequence[str],
    form: Form = "per_token",
    progress: Progress | None = None,
) -> list[Direction]:
    """The gradients of several targets, each the mean log-likelihood of one group, in one pass over the data.

    Used for the folds of an interval and for bins of difficulty. Memory: the tracked weights for each group.

    Args:
        engine: the model and its tracked weights.
        examples: the queries.
        groups: int ``[n]`` or ``[n, m]``, the group, or the m groups, of each example; -1 means none.
        names: one a group.
        form: ``per_token`` or ``summed``.
        progress: is told how many examples are done.

    Raises:
        InputError: a group without examples, by name.
    """
    return list(each_gradient(engine, examples, groups, names, form, progress, len(names)))


def each_gradient(
    engine: Engine,
    examples: Sequence[TokenizedExample],
    groups: NDArray[np.integer[Any]],
    names: Sequence[str],
    form: Form = "per_token",
    progress: Progress | None = None,
    at_once: int | None = None,
) -> Iterator[Direction]:
    """The gradients of :func:`gradients` one after the other, some of them in memory together.

    Each further group of ``at_once`` is a pass over the examples of its own targets.

    Args:
        engine: as in :func:`gradients`, and so are the arguments that are not named here.
        at_once: how many are in memory together; None takes as many as the free memory holds, planned before the first
            batch.
    """
    n = len(names)
    factors = torch.from_numpy(_memberships(groups, n, len(examples)) * weights_of(examples, form))
    planned = ("gradients", engine.model, examples, engine.tracked, n, engine.max_tokens)
    size = at_once or directions_at_once(*planned)
    chunks = [slice(first, min(first + size, n)) for first in range(0, n, size)]
    members = [torch.nonzero(factors[chunk].any(0))[:, 0] for chunk in chunks]
    done, work = 0, sum(len(m) for m in members)
    for chunk, member in zip(chunks, members):
        told = None if progress is None else partial(_told, progress, done, work)
        own = [examples[int(i)] for i in member]
        total = add_gradients(engine, own, factors[chunk][:, member], Totals(), told)
        done += len(own)
        for k, name in enumerate(names[chunk]):
            yield from_blocks({key: t[k] for key, t in total.items()}, engine.tracked, name)


def add_gradients(
    engine: Engine,
    examples: Sequence[TokenizedExample],
    share: Tensor,
    totals: Totals,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Add ``sum_n share[k, n] grad_n`` to ``totals``, ``[K, out, in (+ 1)]`` a block; gives all that is in them.

    ``share`` float64 ``[K, n]``; ``grad_n`` is the gradient of the n-th example's log-likelihood.
    """
    share = torch.cat([share, share.new_zeros(len(share), 1)], dim=1)  # the last column is the empty batches'

    def empty(block: Block) -> Tensor:
        return zero_block(engine.model, block, len(share))

    def consume(batch: Batch, block: Block, calls: list[LayerCall]) -> None:
        formed = example_gradients(block, calls, batch).flatten(1)
        with totals.into(block.key, partial(empty, block)) as total:
            into = total.flatten(1)
            into.addmm_(share[:, batch.indices].to(into), formed.to(into))

    engine.forward_backward(examples, consume, progress=progress)
    for block in engine.tracked.blocks:
        if block.key not in totals.tensors:  # an expert that no token chose
            totals.tensors[block.key] = empty(block)
    return totals.tensors


def _told(progress: Progress, before: int, work: int, done: int, _: int) -> None:
    progress(before + done, work)


def spread(factors: Tensor, batch: Batch) -> Tensor:
    """One factor per example of the batch, ``[n]``, to all of its positions, ``[B, T]``."""
    owner = batch.owner()
    return factors.to(owner.device)[owner.clamp_min(0)] * (owner >= 0)


def zero_block(model: Any, block: Block, *leading: int) -> Tensor:
    """Zeros ``[*leading, out, in (+ 1)]`` in the dtype that sums are kept in."""
    dtype = accumulator(next(model.parameters()).dtype)
    return torch.zeros(*leading, block.shape[0], block.columns, dtype=dtype, device=device_of(model))


def from_blocks(matrices: dict[str, Tensor], tracked: TrackedWeights, name: str) -> Direction:
    """A direction from the matrix of each block."""
    sample = next(iter(matrices.values()))
    tensors = {
        key: torch.zeros(parameter.shape, dtype=sample.dtype, device=sample.device)
        for key, parameter in tracked.parameters.items()
    }
    for block in tracked.blocks:
        block.store(matrices[block.key], tensors)
    return Direction(tensors, name)


def _memberships(groups: NDArray[np.integer[Any]], n_groups: int, n: int) -> NDArray[np.float64]:
    """``[n_groups, n]``: 1 / size of the group where the example belongs to it, else 0."""
    member = np.asarray(groups).reshape(n, -1)
    if member.size and (member.max() >= n_groups or member.min() < -1):
        raise InputError(f"group numbers must lie between -1 and {n_groups - 1}")
    incidence = np.zeros((n_groups, n))
    for column in member.T:
        chosen = np.flatnonzero(column >= 0)
        incidence[column[chosen], chosen] = 1.0
    sizes = incidence.sum(1)
    if (sizes == 0).any():
        raise InputError(f"group {int(np.flatnonzero(sizes == 0)[0])} of {n_groups} has no examples")
    return incidence / sizes[:, None]


def _autograd_gradient(model: Any, target: FunctionTarget, tracked: TrackedWeights) -> Direction:
    """Plain reverse mode over the tracked parameters, for a function of the user's own."""
    parameters = list(tracked.parameters.values())
    before = [p.requires_grad for p in model.parameters()]
    dtype = accumulator(parameters[0].dtype)
    total = [torch.zeros(p.shape, dtype=dtype, device=p.device) for p in parameters]
    try:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        with engine_mode(model), torch.enable_grad():
            for number, batch in enumerate(target.batches):
                value = target.fn(model, batch)
                if value.numel() != 1 or not value.requires_grad:
                    raise InputError(f"target {target.name!r} must return a differentiable scalar for every batch")
                for into, part in zip(total, torch.autograd.grad(value.reshape(()), parameters, allow_unused=True)):
                    if part is not None:
                        into += part / len(target.batches)
                if not all(bool(torch.isfinite(t).all()) for t in total):
                    raise ModelError(f"target {target.name!r}: the gradient of batch {number} is NaN or infinite")
    finally:
        for parameter, needed in zip(model.parameters(), before):
            parameter.requires_grad_(needed)
    return Direction(dict(zip(tracked.parameters, total)), target.name)
