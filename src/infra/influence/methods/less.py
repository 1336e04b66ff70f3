"""LESS (Xia et al. 2024, arXiv 2402.04333): the Adam step that an example would make, against the targets' gradients.

    score_k(z) = sum_i eta_i mean_{q in k} cos(P^T Gamma(z; theta_i), P^T grad L(q; theta_i))

over checkpoints theta_i of the recorded run, eta_i the mean learning rate of the steps that led there, and Gamma the
update of Adam from the run's own moments m and v at the checkpoint, after t steps:

    Gamma = m' / (sqrt(v') + eps)
    m' = (b1 m + (1 - b1) g) / (1 - b1^(t+1)),  v' = (b2 v + (1 - b2) g^2) / (1 - b2^(t+1))

with g the gradient of the example's mean loss over its response tokens; queries enter with that gradient itself.
Gamma is not linear in g, so a token has no share of it: LESS has no token scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.engine import Engine
from infra.influence.engine.projection import Projection, Transform, projected_gradients
from infra.influence.methods._method import Fitted, MethodContext, Scores
from infra.influence.methods._registry import register
from infra.influence.methods._saving import load_fitted, save_fitted
from infra.models.tracked import Block
from infra.train.recorded import RecordedRun, weights_set
from infra.train.replay import AdamState


@register("less")
@dataclass(frozen=True)
class LESS:
    """``checkpoints`` of the recorded run, the last one among them; ``rank`` squared is the number of dimensions."""

    has_tokens: ClassVar[bool] = False

    checkpoints: int = 4
    rank: int = 64
    replays: ClassVar[bool] = True

    def fit(self, context: MethodContext) -> Fitted:
        """The queries' mean unit features at each checkpoint. Raises :class:`InputError` without a recorded run."""
        run, projection = context.run("less"), Projection(self.rank, context.seed)
        queries = context.queries("less")
        found, before = [], 0
        for state in run.checkpoints(self.checkpoints):
            rates, before = run.plan.learning_rates[before : state.step], state.step
            checkpoint = _checkpoint(run, state, float(np.mean(rates)), context.engine)
            with weights_set(context.engine.model, checkpoint.weights):
                means = [
                    torch.cat([rows for _, rows in _features(context.engine, group, projection, None)]).mean(0)
                    for group in queries
                ]
            found.append(replace(checkpoint, targets=torch.stack(means)))
        return FittedLESS(context.engine, projection, found)

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """As :meth:`FittedLESS.save` wrote it."""
        facts, _ = load_fitted(folder)
        found = [Checkpoint.load(folder / f"checkpoint-{i}") for i in range(facts["checkpoints"])]
        return FittedLESS(engine, Projection(self.rank, facts["seed"]), found)


@dataclass(frozen=True)
class Checkpoint:
    """A model on the way: all trained ``weights``, Adam's moments of the tracked ones (``first``, ``second``) after
    ``step`` updates, its betas and eps, the ``rate`` it counts with, and the targets' features ``[K, r r]``.
    """

    weights: dict[str, Tensor] = field(repr=False)
    first: dict[str, Tensor] = field(repr=False)
    second: dict[str, Tensor] = field(repr=False)
    step: int
    betas: tuple[float, float]
    eps: float
    rate: float
    targets: Tensor = field(repr=False)

    def adam_update(self, block: Block, gradients: Tensor, examples: Sequence[TokenizedExample]) -> Tensor:
        """Gamma ``[n, o, i (+ 1)]`` from the gradients of the examples' summed log-likelihoods."""
        counts = torch.tensor([max(1, e.n_response_tokens) for e in examples]).to(gradients)
        g = -gradients / counts[:, None, None]
        first, second = (block.matrix(m).to(g) for m in (self.first, self.second))
        b1, b2 = self.betas
        m = (b1 * first + (1 - b1) * g) / (1 - b1 ** (self.step + 1))
        v = (b2 * second + (1 - b2) * g.square()) / (1 - b2 ** (self.step + 1))
        return m / (v.sqrt() + self.eps)

    def save(self, folder: Path) -> None:
        """Write everything."""
        parts = {"weights": self.weights, "first": self.first, "second": self.second}
        tensors = {f"{part}.{name}": t for part, named in parts.items() for name, t in named.items()}
        facts = {"step": self.step, "betas": list(self.betas), "eps": self.eps, "rate": self.rate}
        save_fitted(folder, facts, {**tensors, "targets": self.targets})

    @staticmethod
    def load(folder: Path) -> Checkpoint:
        """What :meth:`save` wrote."""
        facts, tensors = load_fitted(folder)
        targets = tensors.pop("targets")
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "first": {}, "second": {}}
        for name, tensor in tensors.items():
            part, _, own = name.partition(".")
            parts[part][own] = tensor
        betas = (float(facts["betas"][0]), float(facts["betas"][1]))
        numbers = (int(facts["step"]), betas, float(facts["eps"]), float(facts["rate"]))
        return Checkpoint(parts["weights"], parts["first"], parts["second"], *numbers, targets)


@dataclass(frozen=True)
class FittedLESS:
    """What each checkpoint needs to score an example."""

    engine: Engine
    projection: Projection
    checkpoints: Sequence[Checkpoint]

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`; there are no token scores."""
        total = torch.zeros(len(examples), len(self.checkpoints[0].targets), dtype=torch.float64)
        for checkpoint in self.checkpoints:
            with weights_set(self.engine.model, checkpoint.weights):
                for indices, rows in _features(self.engine, examples, self.projection, checkpoint.adam_update):
                    total[indices] += checkpoint.rate * (rows @ checkpoint.targets.T)
        for index, row in enumerate(total.numpy()):
            yield Scores(index, row)

    def save(self, folder: Path) -> None:
        """Write every checkpoint."""
        for i, checkpoint in enumerate(self.checkpoints):
            checkpoint.save(folder / f"checkpoint-{i}")
        save_fitted(folder, {"checkpoints": len(self.checkpoints), "seed": self.projection.seed})


def _features(
    engine: Engine, examples: Sequence[TokenizedExample], projection: Projection, update: Transform | None
) -> Iterator[tuple[list[int], Tensor]]:
    """Unit features float64 ``[n, r r]``: of the Adam update, or, without one, of the loss's gradient."""
    for indices, found in projected_gradients(
        engine.model, examples, engine.tracked, projection, transform=update, max_tokens=engine.max_tokens
    ):
        rows = found[""].double().cpu()
        yield indices, normalize(rows if update is not None else -rows, dim=1, eps=1e-30)


def _checkpoint(run: RecordedRun, state: AdamState, rate: float, engine: Engine) -> Checkpoint:
    """A state of the recorded run, its moments of the tracked weights only."""
    names = engine.tracked.names
    weights, first, second = (run.flat.unflatten(t) for t in (state.theta, state.first, state.second))
    return Checkpoint(
        {name: t.clone() for name, t in weights.items()},
        {name: first[name].clone() for name in names},
        {name: second[name].clone() for name in names},
        state.step,
        run.plan.betas,
        run.plan.eps,
        rate,
        torch.zeros(0),
    )
