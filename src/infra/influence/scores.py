"""Influence of tokens and of examples: one pass over the data, every direction at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.directions import Direction, stack
from infra.influence.engine.batches import (
    DEFAULT_MAX_TOKENS,
    Batch,
    Progress,
    batches,
    check_finite,
    empty_batch,
    halving_on_memory,
    per_example,
    plan_batches,
)
from infra.influence.engine.contract import example_scores
from infra.influence.engine.derivative import (
    TANGENTS_PER_PASS,
    Stacked,
    difference_scores,
    forward_scores,
    hook_scores,
)
from infra.influence.engine.forward_backward import device_of, forward_backward, run_through
from infra.influence.engine.functional import Backbone, accumulator, engine_mode
from infra.influence.engine.layer_inputs import Capture, LayerCall
from infra.influence.engine.support import check_forward_mode
from infra.influence.engine.totals import Totals, totals_of
from infra.influence.estimate import directions_at_once
from infra.models.tracked import Block, TrackedWeights, tracked_by_names

Route = Literal["auto", "forward", "hooks", "difference"]
Decomposition = Literal["loss", "position"]
PLANNED_AS = {"hooks": "position"}
"""Names of routes that are called otherwise in :mod:`.estimate`."""


@dataclass(frozen=True)
class TokenScores:
    """Token scores of some examples. Positive raises the target.

    Attributes:
        indices: the examples' places in the sequence given.
        scores: ``[K, T_i]`` each.
        decomposition: with ``loss`` the score at t is that of predicting token t (zero for prompt tokens); with
            ``position`` it is that of token t as an input.
    """

    ids: list[str]
    indices: list[int]
    scores: list[NDArray[Any]]
    decomposition: str = "loss"


def token_influence(
    model: Any,
    examples: Sequence[TokenizedExample],
    directions: Sequence[Direction],
    route: Route = "auto",
    decomposition: Decomposition = "loss",
    max_tokens: int = DEFAULT_MAX_TOKENS,
    packed: bool = False,
    progress: Progress | None = None,
    at_once: int | None = None,
) -> Iterator[TokenScores]:
    """The influence of every token of every example along each direction.

    I(token t) = < grad log p(z_t | z_<t), v_k >, or for ``decomposition="position"`` the outer product at position t
    summed over all later losses. Both sum to :func:`example_influence`.

    Args:
        model: in memory.
        examples: to be scored.
        directions: K of them.
        route: ``forward``, ``hooks`` or ``difference``; ``auto`` is ``forward`` for ``loss`` and ``hooks`` for
            ``position``. ``difference`` needs float32.
        decomposition: ``loss`` scores a token as a prediction, ``position`` as an input.
        max_tokens: tokens of a batch, padding included.
        packed: several examples in one row.
        progress: is told how many examples are done.
        at_once: directions in memory together; None takes as many as the free memory holds, planned before the first
            batch. More of them take further passes over the data, whose scores wait on the host and are joined.

    Returns:
        Scores ``[K, T_i]`` an example, float32 (float64 for a float64 model), in the unit of f. Examples come in
        batches of like length, longest first: use ``indices``.

    Raises:
        InputError: the route cannot give the decomposition.
        ModelError: a score is NaN or infinite, by record.
        ResourceError: one example does not fit in memory.
    """
    chosen = _route(route, decomposition)
    groups, tracked = _plan(chosen, model, examples, directions, max_tokens, at_once)
    waiting: dict[int, list[NDArray[Any]]] = {}
    for number, group in enumerate(groups):
        told = _part_of(progress, number, len(groups))
        visit_of = (model, examples, directions[group], tracked, chosen, decomposition, max_tokens, packed, told)
        for found in _visit_for_tokens(*visit_of):
            for index, scores in zip(found.indices, found.scores):
                waiting.setdefault(index, []).append(scores)
            if number == len(groups) - 1:
                yield replace(found, scores=[_joined(waiting.pop(index)) for index in found.indices])


def _visit_for_tokens(
    model: Any,
    examples: Sequence[TokenizedExample],
    directions: Sequence[Direction],
    tracked: TrackedWeights,
    chosen: str,
    decomposition: Decomposition,
    max_tokens: int,
    packed: bool,
    progress: Progress | None,
) -> Iterator[TokenScores]:
    """One visit to the data with directions that are in memory together.

    On a model sharded over processes a collective: a process with fewer batches than others runs empty ones.
    """
    device, dtype = device_of(model), next(model.parameters()).dtype
    totals, forward = totals_of(model), chosen == "forward"
    backbone = Backbone(model)
    stacked: Stacked = {}
    if chosen == "hooks":
        score = _hook_scorer(Capture(backbone, tracked), totals.matrices(tracked, directions, device, dtype))
    else:
        stacked = {name: t.to(device, dtype) for name, t in stack(directions).items()}
        score = _scorer(backbone, stacked, chosen)
    most = max(1, max_tokens // (min(len(directions), TANGENTS_PER_PASS) if forward else 1))
    own = len(plan_batches(examples, most))
    fillers = (empty_batch(0, device) for _ in range(totals.passes(own) - own))
    done = 0
    for number, planned in enumerate(chain(batches(examples, most, device, packed), fillers)):
        with totals.forward_weights(model):
            if forward and number == 0:
                check_forward_mode(backbone, planned, stacked)
            with engine_mode(model, forward_mode=forward):  # not while the caller looks at the scores
                if number == 0:
                    backbone.check(planned)
                finished = list(halving_on_memory(planned, lambda batch, _: score(batch)))
        if number >= own:
            continue
        for batch, values in finished:
            check_finite(values, batch, "its influence")
            done += len(batch.examples)
            yield split_scores(values, batch, decomposition)
        if progress is not None:
            progress(done, len(examples))


def _hook_scorer(capture: Capture, matrices: Mapping[str, Tensor]) -> Callable[[Batch], Tensor]:
    return lambda batch: hook_scores(capture, batch, matrices)


def _scorer(backbone: Backbone, stacked: Stacked, route: str) -> Callable[[Batch], Tensor]:
    """The function from a batch to its scores ``[K, B, T]``, in forward mode or by differences."""
    if route == "difference":
        return lambda batch: difference_scores(backbone, batch, stacked)
    k = len(next(iter(stacked.values())))
    groups = [
        {name: t[first : first + TANGENTS_PER_PASS] for name, t in stacked.items()}
        for first in range(0, k, TANGENTS_PER_PASS)
    ]
    return lambda batch: torch.cat([forward_scores(backbone, batch, group) for group in groups])


def example_influence(
    model: Any,
    examples: Sequence[TokenizedExample],
    directions: Sequence[Direction],
    max_tokens: int = DEFAULT_MAX_TOKENS,
    packed: bool = False,
    progress: Progress | None = None,
    at_once: int | None = None,
) -> NDArray[Any]:
    """The influence of every example along each direction.

    I(z) = < grad log p(response | prompt), v_k >, summed over response tokens: exactly the sum of its tokens. One
    forward and backward pass a batch however many directions there are: each example's weight gradient is formed from
    inputs and output gradients and contracted with all directions. Training weights do not enter.

    Args:
        model: in memory.
        examples: N of them.
        directions: K of them.
        max_tokens: tokens of a batch, padding included.
        packed: several examples in one row.
        progress: is told how many examples are done.
        at_once: directions in memory together; None takes as many as the free memory holds, planned before the first
            batch. More of them take further passes over the data.

    Returns:
        ``[N, K]`` in order, float32 (float64 for a float64 model), in the unit of f. Positive raises the target.
    """
    groups, tracked = _plan("examples", model, examples, directions, max_tokens, at_once)
    device, wide = device_of(model), accumulator(next(model.parameters()).dtype)
    total = torch.zeros(len(examples) + 1, len(directions), dtype=wide, device=device)  # the last row: empty batches'
    totals = totals_of(model)
    for number, group in enumerate(groups):
        matrices = totals.matrices(tracked, directions[group], device, wide)
        columns = total[:, group]

        def consume(
            batch: Batch,
            block: Block,
            calls: list[LayerCall],
            into: Tensor = columns,
            by: Mapping[str, Tensor] = matrices,
        ) -> None:
            into[batch.indices] += example_scores(block, calls, by[block.key], batch).to(into.dtype)

        told = _part_of(progress, number, len(groups))
        run_through(
            forward_backward(model, examples, tracked, consume, max_tokens=max_tokens, packed=packed, progress=told)
        )
    return total[:-1].cpu().numpy()


def _plan(
    job: str,
    model: Any,
    examples: Sequence[TokenizedExample],
    directions: Sequence[Direction],
    max_tokens: int,
    at_once: int | None,
) -> tuple[list[slice], TrackedWeights]:
    """Which directions are in memory together, decided before the work, and the weights that they are over."""
    if not directions:
        raise InputError("no directions were given; make at least one with gradient")
    if at_once is not None and at_once < 1:
        raise InputError(f"at_once is {at_once}; at least one direction must be in memory")
    tracked = tracked_by_names(model, directions[0].tensors)
    count = len(directions)
    if at_once is None and totals_of(model) is not Totals:  # every process must plan alike: all of them, by rows
        at_once = count
    size = at_once or directions_at_once(PLANNED_AS.get(job, job), model, examples, tracked, count, max_tokens)
    return [slice(first, min(first + size, count)) for first in range(0, count, size)], tracked


def _part_of(progress: Progress | None, part: int, parts: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, n: progress(part * n + done, parts * n)


def _joined(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def split_scores(values: Tensor, batch: Batch, decomposition: str) -> TokenScores:
    """Scores `[K, B, T]` of a batch, cut into one array per example."""
    pieces = per_example(values, batch)
    if decomposition == "loss":  # from the predicting position to the predicted token
        pieces = [np.concatenate([np.zeros_like(p[:, :1]), p[:, :-1]], axis=1) for p in pieces]
    else:
        pieces = [p.copy() for p in pieces]
    return TokenScores([e.id for e in batch.examples], batch.indices, pieces, decomposition)


def _route(route: Route, decomposition: Decomposition) -> str:
    routes = {"loss": ("forward", "difference"), "position": ("hooks",)}
    if decomposition not in routes:
        raise InputError(f"decomposition is {decomposition!r}; choose 'loss' or 'position'")
    if route == "auto":
        return routes[decomposition][0]
    if route not in routes[decomposition]:
        fitting = " or ".join(repr(r) for r in routes[decomposition])
        raise InputError(f"route {route!r} does not give {decomposition!r} scores; choose {fitting}")
    return route
