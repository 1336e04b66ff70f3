"""Many separate queries: a matrix of training examples by queries, the training data visited once.

Each query's preconditioned gradient is kept at low rank; the best examples of each query are then scored again at
full rank. Self-influence, the diagonal of the same matrix on the training data, is here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.curvature import InverseCurvature
from infra.influence.engine.batches import Batch, Progress, per_example
from infra.influence.engine.contract import example_gradients
from infra.influence.engine.engine import Engine
from infra.influence.engine.forward_backward import forward_backward
from infra.influence.engine.gradient import gradients
from infra.influence.engine.layer_inputs import LayerCall
from infra.influence.engine.lowrank import LowRank, position_scores, stack_padded, truncate
from infra.influence.engine.rotation import rotate, rotate_back
from infra.influence.engine.squares import Rotated, rotated_gradients
from infra.influence.scores import TokenScores, example_influence
from infra.influence.targets import Form, weights_of
from infra.models.tracked import Block

QUERIES_AT_ONCE = 16
"""Queries whose full-rank directions are in memory together."""


@dataclass(frozen=True)
class Pairwise:
    """Influence of N examples on Q queries.

    Attributes:
        scores: ``[N, Q]``.
        exact: bool ``[N, Q]``, which were scored at full rank.
        kept: ``[Q]``, the share of each direction's squared norm that its rank holds.
    """

    scores: NDArray[Any]
    exact: NDArray[np.bool_]
    kept: NDArray[np.float64]


@dataclass(frozen=True)
class LowRankSettings:
    """Each block keeps the lowest rank, at most ``max_rank``, that holds ``energy`` of the squared norm on average.

    ``rescore``: how many of each query's highest-scoring examples are scored again at full rank.
    Raises :class:`InputError` for an energy outside (0, 1].
    """

    energy: float = 0.95
    max_rank: int = 64
    rescore: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.energy <= 1.0:
            raise InputError(f"energy is {self.energy}; it must lie above 0 and not above 1")


def query_directions(
    engine: Engine,
    queries: Sequence[TokenizedExample],
    inverse: InverseCurvature,
    form: Form = "per_token",
    settings: LowRankSettings | None = None,
) -> LowRank:
    """One low-rank direction a query, ``(H + lambda)^-1 grad log p(query)``, one block and few queries at a time.

    All in the eigenbasis: a query's gradient is formed from rotated rows, divided by the damped eigenvalues and
    truncated there, where its singular values are the same; only the thin factors are rotated back. Full directions
    never exist. Sums are float32 (float64 for a float64 model).

    Args:
        engine: the model and its tracked weights.
        queries: Q responses.
        inverse: of the damped curvature.
        form: ``per_token`` or ``summed``.
        settings: the rank.
    """
    settings = settings or LowRankSettings()
    curvature, dampings, tracked = inverse.curvature, inverse.lambdas, engine.tracked
    weights = torch.from_numpy(weights_of(queries, form))
    dtype, device = engine.accumulator, engine.device
    left, right = ({b.key: [torch.zeros(0)] * len(queries) for b in tracked.blocks} for _ in range(2))
    energies = torch.zeros(2, len(queries), dtype=torch.float64)

    def consume(batch: Batch, block: Block, calls: list[LayerCall]) -> None:
        factor = curvature.factors[block.key]
        basis = None
        if factor.outputs is not None and factor.inputs is not None:
            inputs = factor.inputs.to(device, dtype)
            basis = Rotated(
                factor.outputs.to(device, dtype), inputs, lambda call: rotate(call.widened(block).to(dtype), inputs)
            )
        damped = factor.eigenvalues.to(device, dtype) + dampings[block.key]
        inverse = torch.where(damped > 0, damped.reciprocal(), 0.0)
        swapped, groups = rotated_gradients(block, calls, batch, basis, dtype)
        done = 0
        for group in groups:
            indices = batch.indices[done : done + len(group)]
            done += len(group)
            solved = (group.mT if swapped else group).mul_(inverse)  # a gradient of its own: nobody else reads it
            if any(w != 1.0 for w in weights[indices].tolist()):
                solved.mul_(weights[indices].to(device, dtype)[:, None, None])
            u, v, kept, whole = truncate(solved, settings.energy, settings.max_rank)
            if basis is not None:
                u, v = rotate_back(u.mT, basis.outputs).mT, rotate_back(v.mT, basis.inputs).mT
            for i, index in enumerate(indices):
                left[block.key][index], right[block.key][index] = u[i], v[i]
            energies[:, indices] += torch.stack([kept, whole]).cpu()

    engine.forward_backward(queries, consume)
    for block in tracked.blocks:  # an expert that no token of some query chose
        for side, width in ((left, block.shape[0]), (right, block.columns)):
            missing = torch.zeros(width, 1, dtype=dtype, device=device)
            side[block.key] = [piece if piece.ndim == 2 else missing for piece in side[block.key]]
    return LowRank(
        {key: stack_padded(pieces) for key, pieces in left.items()},
        {key: stack_padded(pieces) for key, pieces in right.items()},
        energies[0] / energies[1].clamp_min(torch.finfo(torch.float64).tiny),
    )


def pairwise_tokens(
    engine: Engine, examples: Sequence[TokenizedExample], directions: LowRank, progress: Progress | None = None
) -> Iterator[TokenScores]:
    """``position`` token scores of every example for every query, in one pass over the data.

    Args:
        engine: the model and its tracked weights.
        examples: the training data.
        directions: of Q queries, from :func:`query_directions`.
        progress: is told how many examples are done.

    Returns:
        Scores ``[Q, T_i]`` an example, in batches of like length.
    """
    own, model = engine.accumulator, engine.model
    moved = _to(directions, next(model.parameters()).dtype, engine.device)
    running: dict[int, NDArray[Any]] = {}  # by example: a batch may run again in halves

    def consume(batch: Batch, block: Block, calls: list[LayerCall]) -> None:
        scores = position_scores(block, calls, moved, batch).to(own)
        for index, piece in zip(batch.indices, per_example(scores, batch)):
            running[index] = running[index] + piece if index in running else piece.copy()

    visit = forward_backward(model, examples, engine.tracked, consume, max_tokens=engine.max_tokens, progress=progress)
    for batch, _ in visit:
        pieces = [running.pop(index) for index in batch.indices]
        yield TokenScores([e.id for e in batch.examples], batch.indices, pieces, "position")


def pairwise_influence(
    engine: Engine,
    examples: Sequence[TokenizedExample],
    queries: Sequence[TokenizedExample],
    inverse: InverseCurvature,
    form: Form = "per_token",
    settings: LowRankSettings | None = None,
    progress: Progress | None = None,
) -> Pairwise:
    """The influence of each of N examples on the log-likelihood of each of Q queries.

    Scores are those of low-rank directions, except for each query's best, which are scored again at full rank, exactly,
    where ``settings`` ask for it.

    Args:
        engine: the model and its tracked weights.
        examples: the training data.
        queries: the responses.
        inverse: of the damped curvature.
        form: ``per_token`` or ``summed``.
        settings: the rank, and how many are scored again.
        progress: is told how many examples are done.

    Returns:
        Scores ``[N, Q]``, which of them are exact, and the share of each direction that was kept.
    """
    settings = settings or LowRankSettings()
    low = query_directions(engine, queries, inverse, form, settings)
    scores = np.zeros((len(examples), len(queries)), np.float64 if engine.accumulator == torch.float64 else np.float32)
    for chunk in pairwise_tokens(engine, examples, low, progress):
        for index, tokens in zip(chunk.indices, chunk.scores):
            scores[index] = tokens.sum(1)
    exact = np.zeros(scores.shape, bool)
    top = np.argsort(-scores, axis=0, kind="stable")[: min(settings.rescore, len(examples))]
    for first in range(0, len(queries) if settings.rescore else 0, QUERIES_AT_ONCE):
        columns = np.arange(first, min(first + QUERIES_AT_ONCE, len(queries)))
        chosen = [queries[int(q)] for q in columns]
        raw = gradients(engine, chosen, np.arange(len(chosen)), [q.id for q in chosen], form)
        rows = np.unique(top[:, columns])
        full = [inverse @ g for g in raw]
        again = example_influence(engine.model, [examples[r] for r in rows], full, engine.max_tokens)
        for column, values in zip(columns, again.T):
            wanted = np.isin(rows, top[:, column])
            scores[rows[wanted], column] = values[wanted]
            exact[rows[wanted], column] = True
    return Pairwise(scores, exact, low.kept.cpu().numpy())


def self_influence(
    engine: Engine,
    examples: Sequence[TokenizedExample],
    inverse: InverseCurvature,
    progress: Progress | None = None,
) -> NDArray[Any]:
    """``grad L(z)^T (H + lambda)^-1 grad L(z)`` of each example: how much z is its own support.

    High values mark outliers and mislabelled examples. One pass over the data.

    Args:
        engine: the model and its tracked weights.
        examples: N of them.
        inverse: of the damped curvature.
        progress: is told how many examples are done.

    Returns:
        ``[N]``, in order.
    """
    dtype = engine.accumulator
    total = torch.zeros(len(examples), dtype=dtype, device=engine.device)

    def consume(batch: Batch, block: Block, calls: list[LayerCall]) -> None:
        factor = inverse.curvature.factors[block.key]
        rotated = factor.rotate(example_gradients(block, calls, batch).to(dtype))
        damped = factor.eigenvalues.to(rotated) + inverse.lambdas[block.key]
        total[batch.indices] += (rotated.square() / damped).flatten(1).sum(1)

    engine.forward_backward(examples, consume, progress=progress)
    return total.cpu().numpy()


def _to(directions: LowRank, dtype: torch.dtype, device: torch.device) -> LowRank:
    left, right = (
        {key: t.to(device, dtype) for key, t in side.items()} for side in (directions.left, directions.right)
    )
    return LowRank(left, right, directions.kept)
