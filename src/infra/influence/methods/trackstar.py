"""TrackStar (Chang et al. 2024, arXiv 2410.17413): unit-normalised gradients under two corrections.

    phi_b(z) = vec P_o^T (grad_b log p(z) / sqrt(V_b)) P_i        in each block b
    u(z)     = unit of the blocks' R_b^-1/2 phi_b(z) behind one another
    score_k(z) = mean_{q in k} < u(q), u(z) >

V: the optimiser's second moments, from the recorded run, or, where none was recorded, the mean squared gradients of
the training examples. R_b = l R_b,queries + (1 - l) R_b,train mixes the second moments E[phi phi^T] of queries and
training examples; l makes the eigenvalues number ``downweighted`` of both, all blocks together, equal (A.1.3), so that
so many directions that all queries share count less.

The norm of u(z)'s argument is one number an example, and what is divided by it is linear in the tokens: a token's
score is its share of the example's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from infra.data.tokenized import TokenizedExample
from infra.influence.damping import Damping
from infra.influence.directions import Direction, open_directions, save_directions
from infra.influence.engine.engine import Engine
from infra.influence.engine.gradient import from_blocks
from infra.influence.engine.projection import Projection, projected_gradients
from infra.influence.fit import fit_diagonal
from infra.influence.methods._method import Fitted, MethodContext, Scores
from infra.influence.methods._registry import register
from infra.influence.methods._saving import load_fitted, save_fitted
from infra.influence.scores import token_influence
from infra.models.tracked import Block

FLOOR = 1e-6
"""Added to V, times its mean over the block: weights that no example moved keep a finite correction."""


@register("trackstar")
@dataclass(frozen=True)
class TrackStar:
    """``rank`` squared is the number of dimensions of a block; ``damping`` of R, relative to its mean eigenvalue."""

    rank: int = 16
    damping: Damping = Damping(0.1)
    downweighted: int = 1000

    def fit(self, context: MethodContext) -> Fitted:
        """Both corrections, and the mean unit vector of each target's queries."""
        engine, projection = context.engine, Projection(self.rank, context.seed)
        groups = context.queries("trackstar")
        feature = _Features(engine, projection, _inverse_roots(context))
        queries = [e for group in groups for e in group]
        asked: dict[int, dict[str, Tensor]] = {}
        for indices, rows in feature.of(queries):
            asked |= {i: {key: t[n] for key, t in rows.items()} for n, i in enumerate(indices)}
        keys = [b.key for b in engine.tracked.blocks]
        by_block = {key: torch.stack([asked[i][key] for i in range(len(queries))]) for key in keys}
        train = {key: torch.zeros(self.rank**2, self.rank**2, dtype=torch.float64) for key in keys}
        for _, rows in feature.of(context.examples):
            for key, t in rows.items():
                train[key] += t.T @ t / len(context.examples)
        of_queries = {key: t.T @ t / len(queries) for key, t in by_block.items()}
        share = mixing(of_queries, train, self.downweighted)
        roots = {key: inverse_root(share * of_queries[key] + (1 - share) * train[key], self.damping) for key in keys}
        units = normalize(torch.cat([by_block[key] @ roots[key] for key in keys], dim=1), dim=1, eps=1e-30)
        sizes = [len(group) for group in groups]
        means = torch.stack([part.mean(0) for part in units.split(sizes)])
        named = {key: part for key, part in zip(keys, means.split(self.rank**2, dim=1))}
        names = [target.name for target in context.targets]
        return FittedTrackStar(feature, roots, named, _directions(feature, roots, named, names))

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """As :meth:`FittedTrackStar.save` wrote it."""
        facts, tensors = load_fitted(folder)
        parts: dict[str, dict[str, Tensor]] = {"scale": {}, "root": {}, "mean": {}}
        for name, tensor in tensors.items():
            part, _, key = name.partition(":")
            parts[part][key] = tensor
        feature = _Features(engine, Projection(self.rank, facts["seed"]), parts["scale"])
        return FittedTrackStar(feature, parts["root"], parts["mean"], open_directions(folder))


@dataclass(frozen=True)
class _Features:
    """``scale[key]`` is ``V^-1/2`` of a block, ``[o, i (+ 1)]``."""

    engine: Engine
    projection: Projection
    scale: dict[str, Tensor] = field(repr=False)

    def of(self, examples: Sequence[TokenizedExample]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """``phi`` by block, float64 ``[n, r r]``, batch by batch."""
        for indices, found in projected_gradients(
            self.engine.model,
            examples,
            self.engine.tracked,
            self.projection,
            by_block=True,
            transform=self._corrected,
            max_tokens=self.engine.max_tokens,
        ):
            yield indices, {key: t.double().cpu() for key, t in found.items()}

    def _corrected(self, block: Block, gradients: Tensor, _: Sequence[TokenizedExample]) -> Tensor:
        return gradients * self.scale[block.key].to(gradients)


@dataclass(frozen=True)
class FittedTrackStar:
    """``roots[key]`` is ``R^-1/2``, ``means[key]`` ``[K, r r]`` the targets' mean unit vectors; ``directions`` are
    what both come to before the example's normalisation, for token scores.
    """

    feature: _Features
    roots: dict[str, Tensor] = field(repr=False)
    means: dict[str, Tensor] = field(repr=False)
    directions: Sequence[Direction] = field(repr=False)

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`."""
        norms = np.zeros(len(examples))
        for indices, rows in self.feature.of(examples):
            turned = {key: t @ self.roots[key] for key, t in rows.items()}
            squares = torch.stack([t.square().sum(1) for t in turned.values()]).sum(0)
            norms[indices] = np.maximum(squares.sqrt().numpy(), 1e-30)
            if not tokens:
                dots = torch.stack([t @ self.means[key].T for key, t in turned.items()]).sum(0).numpy()
                for index, row in zip(indices, dots):
                    yield Scores(index, row / norms[index])
        if not tokens:
            return
        engine = self.feature.engine
        for chunk in token_influence(engine.model, examples, self.directions, max_tokens=engine.max_tokens):
            for index, values in zip(chunk.indices, chunk.scores):
                parts = values.astype(np.float64) / norms[index]
                yield Scores(index, parts.sum(1), parts)

    def save(self, folder: Path) -> None:
        """Write corrections, means and directions."""
        save_directions(self.directions, folder)
        parts = {"scale": self.feature.scale, "root": self.roots, "mean": self.means}
        tensors = {f"{part}:{key}": t for part, named in parts.items() for key, t in named.items()}
        save_fitted(folder, {"seed": self.feature.projection.seed}, tensors)


def _inverse_roots(context: MethodContext) -> dict[str, Tensor]:
    """``V^-1/2`` of every block."""
    engine = context.engine
    if context.recorded is not None:
        final = context.recorded.checkpoints(1)[-1]
        second = context.recorded.flat.unflatten(final.second)
        moments = {b.key: b.matrix(second).double() for b in engine.tracked.blocks}
    else:
        fitted = fit_diagonal(
            engine.model,
            context.examples,
            engine.tracked,
            fisher="empirical",
            max_tokens=engine.max_tokens,
            model_hash="",
        )
        moments = {key: factor.eigenvalues.double() for key, factor in fitted.factors.items()}
    floors = {key: FLOOR * (float(v.mean()) or 1.0) for key, v in moments.items()}
    return {key: (v + floors[key]).rsqrt() for key, v in moments.items()}


def mixing(queries: dict[str, Tensor], train: dict[str, Tensor], downweighted: int) -> float:
    """The share l of the queries' second moments at which ``l s_queries = (1 - l) s_train`` for the eigenvalues s
    number ``downweighted`` (or the last), sorted over all blocks; 1/2 where both are zero.
    """

    def of(moments: dict[str, Tensor]) -> float:
        values = torch.cat([torch.linalg.eigvalsh(m) for m in moments.values()]).clamp_min(0.0)
        place = min(downweighted, len(values)) - 1
        return float(values.sort(descending=True).values[place])

    one, other = of(queries), of(train)
    return other / (one + other) if one + other > 0 else 0.5


def inverse_root(moment: Tensor, damping: Damping) -> Tensor:
    """``(R + lambda)^-1/2`` of a symmetric matrix, float64; directions without any moment are left out."""
    values, vectors = torch.linalg.eigh(moment)
    damped = values.clamp_min(0.0) + damping.of(float(values.clamp_min(0.0).mean()))
    root = torch.where(damped > 0, damped.clamp_min(torch.finfo(torch.float64).tiny).rsqrt(), 0.0)
    return (vectors * root) @ vectors.T


def _directions(
    feature: _Features, roots: dict[str, Tensor], means: dict[str, Tensor], names: Sequence[str]
) -> list[Direction]:
    """``V^-1/2 * P R^-1/2 mean`` of each target: its inner product with a gradient is the score's numerator."""
    tracked = feature.engine.tracked
    like = torch.zeros(0, dtype=torch.promote_types(next(iter(tracked.parameters.values())).dtype, torch.float32))
    found = []
    for k, name in enumerate(names):
        matrices = {
            b.key: (feature.projection.back(b, roots[b.key] @ means[b.key][k]) * feature.scale[b.key].cpu()).to(like)
            for b in tracked.blocks
        }
        found.append(from_blocks(matrices, tracked, name))
    return found
