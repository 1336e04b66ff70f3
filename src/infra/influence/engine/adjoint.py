"""The exact derivative of f after training with respect to every loss weight: the adjoint of the SFT run itself.

With state s_t = (theta, m, v), s_{t+1} = AdamW(s_t, g_t) and g_t = sum_i w_i grad L_i(theta_t) / normaliser, the
adjoint lambda_t = df/ds_t runs backwards from lambda_T = (grad f, 0, 0). Per step, with gamma = df/dg_t:

    df/dw_i  = < grad L_i(theta_t) / normaliser, gamma >        the score of a token: again a directional derivative
    lambda_t = (1 - lr wd) lambda_{t+1} + Hessian_t gamma

Both come out of one double backward pass. The states are replayed from about sqrt(T) checkpoints, so memory is
O(sqrt(T) P). (Metagradients: Engstrom et al., arXiv 2503.13751; unrolled differentiation: Maclaurin et al., ICML 2015.)
Where the second moment is zero the derivative through AdamW is taken as zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.data import TokenizedExample
from infra.errors import ModelError
from infra.train.flat_model import FlatModel, Form, loss_weights, microbatches, query_weights
from infra.train.recorded import RecordedRun
from infra.train.replay import AdamState, TrainingPlan, adamw, clip_factor, step_gradient


@dataclass(frozen=True)
class UnrolledScores:
    """d f_k / d w of one recorded run.

    ``tokens``: per example float64 ``[K, T_i]``, the derivative with respect to that token's loss weight times the
    record's own weight, so that minus it is the first-order effect of masking the token. ``variants``: the same for
    each extra sequence, trained on in the place of its example. ``values [K]``: f after training. ``clipped`` is the
    share of steps whose gradient was clipped; ``clip_margin`` the smallest relative distance of a step's gradient norm
    to the clipping bound (the map is not differentiable at 0).
    """

    tokens: list[NDArray[np.float64]]
    variants: list[NDArray[np.float64]]
    values: NDArray[np.float64]
    clipped: float
    clip_margin: float

    @property
    def examples(self) -> NDArray[np.float64]:
        """``[N, K]``: sums over tokens."""
        return np.stack([t.sum(1) for t in self.tokens])


def unrolled(
    run: RecordedRun,
    queries: Sequence[TokenizedExample],
    groups: NDArray[np.floating],
    *,
    weights: Sequence[NDArray[np.float64]] | None = None,
    form: Form = "per_token",
    variants: Sequence[tuple[int, TokenizedExample]] = (),
    progress: Callable[[int], object] | None = None,
) -> UnrolledScores:
    """Scores of every token of every example for ``f_k = sum_q groups[k, q] log p(query q)``, ``groups [K, Q]``.

    ``weights`` is the point at which the derivative is taken (default: every record's own weight). ``variants`` are
    (example index, other sequence) pairs scored as if trained on, with weight zero, in every step that holds the
    example: its text with a step cut out, say. Cost: about 2 + 3 K training runs. Raises ModelError for non-finite
    values.
    """
    flat, plan, examples = run.flat, run.plan, run.examples
    points = list(loss_weights(examples) if weights is None else weights)
    checkpoints, last = _record(flat, plan, examples, points)
    values, adjoint = _final(flat, last, queries, groups, form, plan.max_tokens)
    n, k = len(examples), len(groups)
    extra = [v for _, v in variants]
    # a variant's derivative is taken at weight zero: its own tokens enter the graph multiplied by 0
    sequences = _Sequences([*examples, *extra], [*points, *(np.zeros(len(v)) for v in extra)], n)
    unit = [*loss_weights(examples), *loss_weights(extra)]
    of_example: dict[int, list[int]] = {}
    for j, (i, _) in enumerate(variants):
        of_example.setdefault(i, []).append(n + j)
    scores = [np.zeros((k, len(e))) for e in sequences.examples]
    norms: list[float] = []
    for segment in range(len(checkpoints) - 1, -1, -1):
        begin = checkpoints[segment]
        end = checkpoints[segment + 1].step if segment + 1 < len(checkpoints) else plan.steps
        for state, gradient in reversed(_replay(flat, plan, examples, points, begin, end)):
            norms.append(float(gradient.norm()))
            adjoint, gamma = _through_adamw(adjoint, state, gradient, plan, flat.decayed)
            rows = list(plan.batches[state.step])
            rows += [j for i in dict.fromkeys(rows) for j in of_example.get(i, ())]
            pulled = _through_gradient(run, state.theta, sequences, rows, gamma, scores)
            adjoint = _Adjoint(adjoint.theta + pulled, adjoint.first, adjoint.second)
            if progress is not None:
                progress(1)
    if not all(np.isfinite(s).all() for s in scores):
        raise ModelError(
            "the unrolled adjoint became non-finite; training is too rough in its weights: set eps_root or lower the "
            "learning rate"
        )
    for i, unit_weights in enumerate(unit):
        scores[i] *= unit_weights[None]
    bound = plan.max_grad_norm
    seen = np.array(norms)
    return UnrolledScores(
        scores[:n],
        scores[n:],
        values,
        float(np.mean(seen > bound)) if bound is not None else 0.0,
        float(np.min(np.abs(seen / bound - 1))) if bound is not None else math.inf,
    )


@dataclass(frozen=True)
class _Adjoint:
    """df_k/d(theta, m, v): three ``[K, P]``."""

    theta: Tensor
    first: Tensor
    second: Tensor


def _record(
    flat: FlatModel, plan: TrainingPlan, examples: Sequence[TokenizedExample], weights: Sequence[NDArray[np.float64]]
) -> tuple[list[AdamState], Tensor]:
    """States at every ceil(sqrt(T))-th step, and the trained vector."""
    every = max(1, math.isqrt(plan.steps - 1) + 1)
    state = AdamState.begin(flat.start)
    kept = []
    for rows in plan.batches:
        if state.step % every == 0:
            kept.append(state)
        batches = microbatches(examples, weights, rows, plan.max_tokens, state.theta)
        state = adamw(state, step_gradient(flat, state.theta, batches, plan.normaliser, twice=True), plan, flat.decayed)
    return kept, state.theta


def _replay(
    flat: FlatModel,
    plan: TrainingPlan,
    examples: Sequence[TokenizedExample],
    weights: Sequence[NDArray[np.float64]],
    state: AdamState,
    end: int,
) -> list[tuple[AdamState, Tensor]]:
    """(state before the step, its unclipped gradient ``[P]``) for every step from ``state`` to ``end``."""
    out = []
    while state.step < end:
        batches = microbatches(examples, weights, plan.batches[state.step], plan.max_tokens, state.theta)
        gradient = step_gradient(flat, state.theta, batches, plan.normaliser, twice=True)
        out.append((state, gradient))
        state = adamw(state, gradient, plan, flat.decayed)
    return out


def _final(
    flat: FlatModel,
    theta: Tensor,
    queries: Sequence[TokenizedExample],
    groups: NDArray[np.floating],
    form: Form,
    max_tokens: int,
) -> tuple[NDArray[np.float64], _Adjoint]:
    """f ``[K]`` and its gradient ``[K, P]`` at the trained vector."""
    per_query = query_weights(queries, form)
    gradient = torch.zeros(len(groups), theta.numel(), dtype=theta.dtype, device=theta.device)
    values = np.zeros(len(groups))
    for k, coefficients in enumerate(groups):
        weights = [w * float(c) for w, c in zip(per_query, coefficients)]
        for batch in microbatches(queries, weights, range(len(queries)), max_tokens, theta):
            leaf = theta.detach().requires_grad_()
            value = (flat.log_probs(leaf, batch.ids) * batch.weights).sum()
            gradient[k] += torch.autograd.grad(value, leaf)[0]
            values[k] += float(value.detach())
    return values, _Adjoint(gradient, torch.zeros_like(gradient), torch.zeros_like(gradient))


def _through_adamw(
    after: _Adjoint, state: AdamState, gradient: Tensor, plan: TrainingPlan, decayed: Tensor
) -> tuple[_Adjoint, Tensor]:
    """Pull the adjoint back through one update: (adjoint before, without the gradient's own part; gamma ``[K, P]``).

    u = m^ / (sqrt(v^ + eps_root) + eps): du/dm^ = 1/d, du/dv^ = -m^ / (2 d^2 sqrt(v^ + eps_root)), d the denominator;
    both 0 where v^ = 0. Clipping g~ = c g with c = M / (|g| + 1e-6) < 1 pulls gamma~ back to
    c gamma~ - (M / (|g| + 1e-6)^2) (g . gamma~) g / |g|.
    """
    b1, b2 = plan.betas
    t, rate = state.step + 1, plan.learning_rates[state.step]
    norm = gradient.norm()
    factor = clip_factor(norm, plan.max_grad_norm)
    clipped = gradient * factor
    first = (state.first * b1 + clipped * (1 - b1)) / (1 - b1**t)
    second = (state.second * b2 + clipped * clipped * (1 - b2)) / (1 - b2**t)
    root = (second + plan.eps_root).sqrt()
    bottom = root + plan.eps
    alive = second > 0
    by_first = torch.where(alive, 1 / bottom, 0.0)
    by_second = torch.where(alive, -first / (2 * bottom * bottom * root), 0.0)
    new_first = after.first - after.theta * (rate / (1 - b1**t) * by_first)
    new_second = after.second - after.theta * (rate / (1 - b2**t) * by_second)
    gamma = new_first * (1 - b1) + new_second * (2 * (1 - b2) * clipped)
    if float(factor) < 1:
        bound = float(plan.max_grad_norm or 0)
        along = (gamma @ gradient)[:, None]
        gamma = gamma * factor - bound / (norm + 1e-6) ** 2 / norm * along * gradient
    theta = after.theta * (1 - rate * plan.weight_decay * decayed) if plan.weight_decay else after.theta
    return _Adjoint(theta, new_first * b1, new_second * b2), gamma


@dataclass(frozen=True)
class _Sequences:
    """What is scored: the first ``n_trained`` were trained on. ``weights``: the point at which the derivative is."""

    examples: Sequence[TokenizedExample]
    weights: Sequence[NDArray[np.float64]]
    n_trained: int


def _through_gradient(
    run: RecordedRun,
    theta: Tensor,
    sequences: _Sequences,
    rows: Sequence[int],
    gamma: Tensor,
    scores: list[NDArray[np.float64]],
) -> Tensor:
    """Hessian-vector products ``[K, P]`` along ``gamma``; scores grow by each token's <dg/dw, gamma>."""
    flat, plan, examples = run.flat, run.plan, sequences.examples
    pulled = torch.zeros_like(gamma)
    trained = [r for r in rows if r < sequences.n_trained]
    extra = [r for r in rows if r >= sequences.n_trained]
    batches = [
        (batch, moves)
        for some, moves in ((trained, True), (extra, False))
        for batch in microbatches(examples, sequences.weights, some, plan.max_tokens, theta, keep_silent=True)
    ]
    for batch, moves in batches:
        leaf = theta.detach().requires_grad_()
        w = batch.weights.detach().requires_grad_()
        loss = -(flat.log_probs(leaf, batch.ids, twice=True) * w).sum() / plan.normaliser
        gradient = torch.autograd.grad(loss, leaf, create_graph=True)[0]
        for k in range(len(gamma)):
            # a sequence of weight zero moves nothing: only the derivative with respect to its weights is wanted
            wanted = (w, leaf) if moves else (w,)
            found = torch.autograd.grad(gradient, wanted, grad_outputs=gamma[k], retain_graph=k + 1 < len(gamma))
            if moves:
                pulled[k] += found[1]
            for row, values in zip(batch.rows, found[0].double().cpu().numpy()):
                scores[row][k] += values[: len(examples[row])]
    return pulled


@dataclass(frozen=True)
class FiniteDifference:
    """Unrolled scores against real retraining. ``errors``: step size -> ||unrolled - measured|| / ||measured||."""

    indices: NDArray[np.int64]
    errors: Mapping[float, float]


def check_by_retraining(
    exact: NDArray[np.float64],
    values: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    indices: Sequence[int],
    step_sizes: Sequence[float] = (1e-4, 1e-5),
) -> FiniteDifference:
    """Central differences of real retraining for some example weights, against ``exact [N]``.

    ``values(weights [M, N]) -> [M]`` retrains on each row of example weights and returns f. Two retrains an index and
    step size; do it in float64, away from clipping boundaries.
    """
    errors = {}
    for h in step_sizes:
        weights = np.ones((2, len(indices), len(exact)))
        for row, i in enumerate(indices):
            weights[0, row, i] += h
            weights[1, row, i] -= h
        up, down = values(weights.reshape(-1, len(exact))).reshape(2, -1)
        found = (up - down) / (2 * h)
        errors[h] = float(np.linalg.norm(exact[list(indices)] - found) / np.linalg.norm(found))
    return FiniteDifference(np.array(indices, np.int64), errors)
