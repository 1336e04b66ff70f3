"""TRAK (Park et al. 2023, arXiv 2303.14186): a linear model in randomly projected gradients of the model's output.

With f(z) = sum_t log(p_t / (1 - p_t)) over the response tokens, the margin that TRAK takes as a classifier's output,
summed over the predictions of a sequence, and phi(z) = P^T grad f(z):

    score_k(z) = Q(z) phi(z)^T (Phi^T Phi + lambda I)^-1 P^T grad f_k,      Q(z) = mean_t (1 - p_t)

Phi are the training examples' features and grad f_k the gradient of the target itself, so that any target will do.
Since grad f = sum_t grad log p_t / (1 - p_t), the score is linear in the tokens, and token scores add up to it.
TRAK's average over models is the option ``+seeds`` or ``+checkpoints`` (which averages Q times the rest, where the
original averages the two factors apart).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.influence.damping import Damping
from infra.influence.directions import Direction, open_directions, save_directions
from infra.influence.engine.engine import Engine
from infra.influence.engine.gradient import from_blocks
from infra.influence.engine.projection import Projection, projected_gradients
from infra.influence.methods._method import Fitted, MethodContext, Scores
from infra.influence.methods._registry import register
from infra.influence.methods._saving import load_fitted, save_fitted
from infra.influence.scores import token_influence
from infra.influence.targets import token_log_likelihoods


@register("trak")
@dataclass(frozen=True)
class TRAK:
    """``rank`` squared is the number of dimensions; ``damping`` is relative to the mean eigenvalue of Phi^T Phi."""

    rank: int = 32
    damping: Damping = Damping(0.1)

    def fit(self, context: MethodContext) -> Fitted:
        """The training examples' kernel, and the directions ``P (Phi^T Phi + lambda I)^-1 P^T grad f_k``."""
        engine, projection = context.engine, Projection(self.rank, context.seed)
        kernel: Tensor = torch.zeros(self.rank**2, self.rank**2, dtype=torch.float64)
        for rows in margin_features(engine, context.examples, projection):
            kernel += rows.features.T @ rows.features
        kernel += self.damping.of(float(kernel.diagonal().mean())) * torch.eye(len(kernel), dtype=torch.float64)
        blocks = engine.tracked.blocks
        asked = torch.stack(
            [sum_of(projection.of(b, b.matrix(g.tensors).double()).cpu() for b in blocks) for g in context.gradients()]
        )
        solved = torch.linalg.solve(kernel, asked.T).T
        directions = [_direction(engine, projection, v, g) for v, g in zip(solved, context.gradients())]
        return FittedTRAK(engine, projection, solved, directions)

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """As :meth:`FittedTRAK.save` wrote it."""
        facts, tensors = load_fitted(folder)
        return FittedTRAK(engine, Projection(self.rank, facts["seed"]), tensors["solved"], open_directions(folder))


@dataclass(frozen=True)
class FittedTRAK:
    """``solved`` float64 ``[K, r r]``, and the same as ``directions``, P times it, for token scores."""

    engine: Engine
    projection: Projection
    solved: Tensor = field(repr=False)
    directions: Sequence[Direction] = field(repr=False)

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`."""
        model, most = self.engine.model, self.engine.max_tokens
        if not tokens:
            for rows in margin_features(self.engine, examples, self.projection):
                found = (rows.features @ self.solved.T).numpy()
                for index, row in zip(rows.indices, found):
                    yield Scores(index, row * rows.weights[index])
            return
        one_minus = remaining(self.engine, examples)
        for chunk in token_influence(model, examples, self.directions, max_tokens=most):
            for index, values in zip(chunk.indices, chunk.scores):
                q = weight_of(one_minus[index], examples[index])
                parts = values.astype(np.float64) * (q / one_minus[index])
                yield Scores(index, parts.sum(1), parts)

    def save(self, folder: Path) -> None:
        """Write directions and solved features."""
        save_directions(self.directions, folder)
        save_fitted(folder, {"seed": self.projection.seed}, {"solved": self.solved})


def _direction(engine: Engine, projection: Projection, solved: Tensor, gradient: Direction) -> Direction:
    """``P solved`` in the gradient's dtype, under its name."""
    like = next(iter(gradient.tensors.values()))
    matrices = {b.key: projection.back(b, solved).to(like) for b in engine.tracked.blocks}
    return from_blocks(matrices, engine.tracked, gradient.name)


@dataclass(frozen=True)
class _Rows:
    """``features`` float64 ``[n, r r]`` of the examples ``indices``; ``weights``: each example's Q."""

    indices: list[int]
    features: Tensor
    weights: dict[int, float]


def margin_features(engine: Engine, examples: Sequence[TokenizedExample], projection: Projection) -> Iterator[_Rows]:
    """``phi(z)`` and ``Q(z)``, batch by batch."""
    one_minus = remaining(engine, examples)
    for indices, found in projected_gradients(
        engine.model,
        examples,
        engine.tracked,
        projection,
        weights=[1 / row for row in one_minus],
        max_tokens=engine.max_tokens,
    ):
        weights = {i: weight_of(one_minus[i], examples[i]) for i in indices}
        yield _Rows(indices, found[""].double().cpu(), weights)


def remaining(engine: Engine, examples: Sequence[TokenizedExample]) -> list[NDArray[Any]]:
    """``1 - p_t`` of each token, not below the square root of the model's rounding error; 1 outside the response."""
    found = []
    for example, row in zip(examples, token_log_likelihoods(engine.model, examples, engine.max_tokens)):
        floor = float(np.finfo(row.dtype).eps) ** 0.5  # below it 1 - p is rounding, and so is its gradient
        found.append(np.where(example.loss_mask, np.maximum(-np.expm1(row.astype(np.float64)), floor), 1.0))
    return found


def weight_of(one_minus: NDArray[Any], example: TokenizedExample) -> float:
    """Q: the mean of ``1 - p_t`` over the response tokens, 0 without any."""
    return float(one_minus[example.loss_mask].mean()) if example.n_response_tokens else 0.0


def sum_of(parts: Iterator[Tensor]) -> Tensor:
    """The sum of at least one tensor."""
    total = next(parts).clone()
    for part in parts:
        total += part
    return total
