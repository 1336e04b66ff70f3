"""Better directions for the few targets that matter: conjugate gradients on the Gauss-Newton matrix itself.

EK-FAC takes the blocks of different weights as independent and each as nearly a Kronecker product. Solving
``(H + lambda) v = grad f`` with products ``H u`` drops both assumptions; EK-FAC preconditions, so some 20 steps do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError, ModelError
from infra.influence.curvature import Curvature
from infra.influence.damping import Damping
from infra.influence.directions import Direction, combine, stack
from infra.influence.engine.batches import Batch, batches, halving_on_memory
from infra.influence.engine.derivative import TANGENTS_PER_PASS, hidden_tangents
from infra.influence.engine.engine import Engine
from infra.influence.engine.forward_backward import device_of
from infra.influence.engine.functional import HEAD_ELEMENTS, Backbone, accumulator, engine_mode
from infra.influence.engine.support import check_forward_mode
from infra.models.tracked import TrackedWeights


@dataclass(frozen=True)
class Solve:
    """A solved system: the direction, the relative residual ``|b - (H + lambda) v| / |b|`` after each step."""

    direction: Direction
    residuals: tuple[float, ...]
    damping: float


@dataclass(frozen=True)
class CGSettings:
    """How a system is solved: at most ``steps`` steps, or until every relative residual is below ``tolerance``.

    ``damping`` is relative to the mean eigenvalue of the preconditioner over all tracked weights, or absolute.
    """

    damping: Damping = Damping(10.0)
    steps: int = 20
    tolerance: float = 1e-10


def cg_directions(
    engine: Engine,
    examples: Sequence[TokenizedExample],
    grads: Sequence[Direction],
    curvature: Curvature | None = None,
    settings: CGSettings | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> list[Solve]:
    """Solve ``(H + lambda) v = grad`` for every target, H the exact Gauss-Newton matrix of the summed response loss.

    One recursion a target, in step with one another, so that the forward passes over ``examples`` are shared. The
    results are those of one at a time. Five vectors a target are in memory.

    Args:
        engine: the model and its tracked weights.
        examples: the training data; a fraction of it is enough.
        grads: the targets' gradients.
        curvature: the preconditioner; may be None where the damping is absolute.
        settings: steps, tolerance and damping.
        on_step: is told the step and the largest relative residual.

    Raises:
        InputError: a relative damping without a curvature.
        ModelError: the products are not finite or not positive.
    """
    settings = settings or CGSettings()
    if curvature is None and settings.damping.scale == "relative":
        raise InputError(
            "a damping relative to the mean eigenvalue needs a curvature; give one, or Damping(amount, 'absolute')"
        )
    lam = settings.damping.of(0.0 if curvature is None else curvature.mean_eigenvalue())
    if lam <= 0:
        raise InputError(f"the damping comes to {lam}; conjugate gradients need a positive one")
    inverse = None if curvature is None else curvature.inverse(Damping(lam, "absolute"))

    def precondition(vector: Direction) -> Direction:
        return vector if inverse is None else inverse @ vector

    systems = [_System(grad, precondition) for grad in grads]
    for step in range(settings.steps):
        going = [s for s in systems if s.history[-1] >= settings.tolerance]
        if not going:
            break
        along = [s.along for s in going]
        products = gauss_newton_products(engine, examples, along)
        for system, product in zip(going, products):
            system.advance(combine([product, system.along], [1.0, lam]), step)
        if on_step is not None:
            on_step(step + 1, max(s.history[-1] for s in systems))
    return [Solve(s.solution.renamed(s.name), tuple(s.history), lam) for s in systems]


class _System:
    """The state of conjugate gradients for one right-hand side."""

    def __init__(self, grad: Direction, precondition: Callable[[Direction], Direction]) -> None:
        self.name, self.size, self.precondition = grad.name, grad.norm(), precondition
        self.solution, self.residual = grad * 0.0, grad
        self.history = [1.0 if self.size > 0 else 0.0]
        self.along = precondition(grad)
        self.rz = grad.dot(self.along)

    def advance(self, image: Direction, step: int) -> None:
        """One step, given the damped matrix times ``along``."""
        bend = self.along.dot(image)
        if not bend > 0:
            raise ModelError(f"step {step} of conjugate gradients: curvature {bend} along the search direction")
        length = self.rz / bend
        self.solution = combine([self.solution, self.along], [1.0, length])
        self.residual = combine([self.residual, image], [1.0, -length])
        self.history.append(self.residual.norm() / self.size)
        z = self.precondition(self.residual)
        self.rz, before = self.residual.dot(z), self.rz
        self.along = combine([z, self.along], [1.0, self.rz / before])


def gauss_newton_products(
    engine: Engine, examples: Sequence[TokenizedExample], vectors: Sequence[Direction]
) -> list[Direction]:
    """``H u = (1/N) sum_n sum_t J_t^T (diag p_t - p_t p_t^T) J_t u`` over response positions, for every vector u.

    J u by a forward derivative, J^T by a backward pass; exact, in the dtype of the model. Up to ``TANGENTS_PER_PASS``
    vectors share both forward passes.

    Args:
        engine: the model and its tracked weights.
        examples: N of them.
        vectors: the u.

    Raises:
        ModelError: a tracked weight belongs to the output head.
    """
    model, tracked = engine.model, engine.tracked
    backbone = Backbone(model)
    device, dtype = device_of(model), next(model.parameters()).dtype
    inside = backbone.head_parameters & set(vectors[0].tensors)
    if inside:
        raise ModelError(f"{sorted(inside)[0]} belongs to the output head; conjugate gradients do not support that")
    found: list[Direction] = []
    for first in range(0, len(vectors), TANGENTS_PER_PASS):
        some = vectors[first : first + TANGENTS_PER_PASS]
        stacked = {name: t.to(device, dtype) for name, t in stack(some).items()}
        totals = [
            {name: torch.zeros_like(p, dtype=accumulator(dtype)) for name, p in tracked.parameters.items()}
            for _ in some
        ]
        carried = engine.max_tokens // len(some)

        def products(batch: Batch, _: set[str], stacked: dict[str, Tensor] = stacked) -> list[Sequence[Tensor]]:
            return _batch_products(model, backbone, batch, stacked, tracked)

        for number, planned in enumerate(batches(examples, carried, device)):
            if number == 0 and first == 0:
                check_forward_mode(backbone, planned, stacked)
            for _, rows in halving_on_memory(planned, products):
                for total, parts in zip(totals, rows):
                    for name, part in zip(total, parts):
                        total[name] += part / len(examples)
        found += [Direction(total, u.name) for total, u in zip(totals, some)]
    return found


def _batch_products(
    model: Any, backbone: Backbone, batch: Batch, stacked: dict[str, Tensor], tracked: TrackedWeights
) -> list[Sequence[Tensor]]:
    with engine_mode(model, forward_mode=True):
        hidden, tangents = hidden_tangents(backbone, batch, stacked)
    where = batch.loss.reshape(-1).nonzero()[:, 0]
    flat, moved = hidden.reshape(-1, hidden.shape[-1]), tangents.flatten(1, 2)
    back = torch.zeros_like(moved)
    vocabulary = int(backbone._config.get_text_config().vocab_size)
    step = max(1, HEAD_ELEMENTS // vocabulary)
    with engine_mode(model):
        for start in range(0, len(where), step):
            here = where[start : start + step]
            for one, tangent in zip(back, moved):
                one[here] = _through_the_head(backbone, flat[here], tangent[here])
        leaves = {name: p.detach().requires_grad_(True) for name, p in tracked.parameters.items()}
        with torch.enable_grad():
            again = backbone.hidden(batch, leaves)
            last = len(back) - 1
            found = [
                torch.autograd.grad(
                    again, list(leaves.values()), one.reshape(again.shape), allow_unused=True, retain_graph=k < last
                )
                for k, one in enumerate(back)
            ]
    return [[torch.zeros_like(p) if g is None else g for p, g in zip(leaves.values(), parts)] for parts in found]


def _through_the_head(backbone: Backbone, rows: Tensor, tangents: Tensor) -> Tensor:
    """``J^T (diag p - p p^T) J`` of the output head alone, applied to ``tangents [R, d]`` at ``rows [R, d]``."""
    with torch.no_grad():
        logits, change = torch.func.jvp(backbone.logits, (rows,), (tangents,))[:2]
        p = logits.to(accumulator(logits.dtype)).softmax(-1)
        change = p * change.to(p.dtype)
        change = (change - p * change.sum(-1, keepdim=True)).to(rows.dtype)
    with torch.enable_grad():
        leaf = rows.detach().requires_grad_(True)
        return torch.autograd.grad(backbone.logits(leaf), leaf, change)[0]
