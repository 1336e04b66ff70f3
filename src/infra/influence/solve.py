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

from infra.errors import InputError, ModelError
from infra.influence.batches import DEFAULT_MAX_TOKENS, Batch, batches, halving_on_memory
from infra.influence.curvature import Curvature, ekfac_direction
from infra.influence.derivative import hidden_tangents
from infra.influence.direction import Direction, combine
from infra.influence.functional import HEAD_ELEMENTS, Backbone, accumulator, engine_mode
from infra.influence.support import check_forward_mode
from infra.influence.visit import device_of
from infra.models.tracked import TrackedWeights
from infra.records.tokenized import TokenizedExample


@dataclass(frozen=True)
class Solve:
    """A solved system: the direction, the relative residual ``|b - (H + lambda) v| / |b|`` after each step."""

    direction: Direction
    residuals: tuple[float, ...]
    damping: float


def cg_direction(
    model: Any,
    examples: Sequence[TokenizedExample],
    grad: Direction,
    tracked: TrackedWeights,
    curvature: Curvature | None = None,
    damping: float = 10.0,
    absolute: bool = False,
    steps: int = 20,
    tolerance: float = 1e-10,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    on_step: Callable[[int, float], None] | None = None,
) -> Solve:
    """``(H + lambda)^-1 grad`` with the exact Gauss-Newton matrix H of the summed response loss over ``examples``.

    ``damping`` is relative to the mean eigenvalue of ``curvature`` over all tracked weights, or itself lambda when
    ``absolute`` (then ``curvature``, the preconditioner, may be None). Each step costs two passes over the examples;
    a fraction of the training data is enough. ``on_step(step, relative residual)`` reports progress.

    Raises :class:`InputError` for a relative damping without curvature and :class:`ModelError` when the products
    are not finite or not positive.
    """
    if curvature is None and not absolute:
        raise InputError("a damping relative to the mean eigenvalue needs a curvature; give one, or absolute=True")
    lam = damping if absolute or curvature is None else damping * mean_eigenvalue(curvature)
    if lam <= 0:
        raise InputError(f"the damping comes to {lam}; conjugate gradients need a positive one")
    size = grad.norm()
    if size == 0.0:
        return Solve(grad, (0.0,), lam)

    def apply(vector: Direction) -> Direction:
        product = gauss_newton_product(model, examples, vector, tracked, max_tokens)
        return combine([product, vector], [1.0, lam])

    def precondition(vector: Direction) -> Direction:
        return vector if curvature is None else ekfac_direction(curvature, vector, lam, absolute=True)

    solution, residual = grad * 0.0, grad
    z = precondition(residual)
    step_along, rz = z, residual.dot(z)
    history = [1.0]
    for step in range(steps):
        image = apply(step_along)
        bend = step_along.dot(image)
        if not bend > 0:
            raise ModelError(f"step {step} of conjugate gradients: curvature {bend} along the search direction")
        length = rz / bend
        solution = combine([solution, step_along], [1.0, length])
        residual = combine([residual, image], [1.0, -length])
        history.append(residual.norm() / size)
        if on_step is not None:
            on_step(step + 1, history[-1])
        if history[-1] < tolerance:
            break
        z = precondition(residual)
        rz, before = residual.dot(z), rz
        step_along = combine([z, step_along], [1.0, rz / before])
    return Solve(solution.renamed(grad.name), tuple(history), lam)


def mean_eigenvalue(curvature: Curvature) -> float:
    """The mean over all tracked scalars: the trace of H over its size."""
    total = sum(float(f.eigenvalues.double().sum()) for f in curvature.factors.values())
    return total / sum(f.eigenvalues.numel() for f in curvature.factors.values())


def gauss_newton_product(
    model: Any,
    examples: Sequence[TokenizedExample],
    vector: Direction,
    tracked: TrackedWeights,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Direction:
    """``H u = (1/N) sum_n sum_t J_t^T (diag p_t - p_t p_t^T) J_t u`` over response positions.

    J u by a forward derivative, J^T by a backward pass; exact, in the dtype of the model.
    Raises :class:`ModelError` when a tracked weight belongs to the output head.
    """
    backbone = Backbone(model)
    device, dtype = device_of(model), next(model.parameters()).dtype
    inside = backbone.head_parameters & set(vector.tensors)
    if inside:
        raise ModelError(f"{sorted(inside)[0]} belongs to the output head; conjugate gradients do not support that")
    stacked = {name: t.to(device, dtype)[None] for name, t in vector.tensors.items()}
    total = {name: torch.zeros_like(p, dtype=accumulator(dtype)) for name, p in tracked.parameters.items()}
    for number, planned in enumerate(batches(examples, max_tokens, device)):
        if number == 0:
            check_forward_mode(backbone, planned, stacked)
        for _, parts in halving_on_memory(planned, lambda b, _: _batch_product(model, backbone, b, stacked, tracked)):
            for name, part in zip(total, parts):
                total[name] += part / len(examples)
    return Direction(total, vector.name)


def _batch_product(
    model: Any, backbone: Backbone, batch: Batch, stacked: dict[str, Tensor], tracked: TrackedWeights
) -> Sequence[Tensor]:
    with engine_mode(model, forward_mode=True):
        hidden, tangent = hidden_tangents(backbone, batch, stacked)
    where = batch.loss.reshape(-1).nonzero()[:, 0]
    back = torch.zeros_like(hidden).reshape(-1, hidden.shape[-1])
    flat, moved = hidden.reshape(-1, hidden.shape[-1]), tangent[0].reshape(-1, hidden.shape[-1])
    vocabulary = int(backbone._config.get_text_config().vocab_size)
    step = max(1, HEAD_ELEMENTS // vocabulary)
    with engine_mode(model):
        for start in range(0, len(where), step):
            here = where[start : start + step]
            back[here] = _through_the_head(backbone, flat[here], moved[here])
        leaves = {name: p.detach().requires_grad_(True) for name, p in tracked.parameters.items()}
        with torch.enable_grad():
            again = backbone.hidden(batch, leaves)
            parts = torch.autograd.grad(again, list(leaves.values()), back.reshape(again.shape), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(leaves.values(), parts)]


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
