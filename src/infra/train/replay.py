"""Retraining as a pure function: start vector, data order, loss weights -> trained vector.

The arithmetic is that of the SFT room (AdamW with bias correction, decoupled weight decay, global-norm clipping, a loss
summed over tokens and divided by a FIXED normaliser), so leaving an example out is giving it weight 0 and nothing else
moves. On a CPU one model at a time over its non-silent examples measured fastest (half the work for half subsets); on a
device with many idle lanes a *stack* of models goes through one vmapped pass.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from infra.data import TokenizedExample
from infra.errors import InputError, ModelError
from infra.train import SFTConfig, data_order, learning_rate_factor, step_indices
from infra.train.flat_model import FlatModel, Microbatch, microbatches


@dataclass(frozen=True)
class TrainingPlan:
    """Everything but the data that an SFT run's result depends on.

    ``batches``: the example indices of each optimiser step. ``learning_rates`` ``[T]``, one a step. ``normaliser``
    divides the summed loss of every step. ``eps_root`` is added under the square root of AdamW's second moment (0 in
    the usual optimiser). ``max_grad_norm`` None leaves gradients unclipped.
    """

    batches: tuple[tuple[int, ...], ...]
    learning_rates: tuple[float, ...]
    normaliser: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    eps_root: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    max_tokens: int = 4096

    def __post_init__(self) -> None:
        if len(self.batches) != len(self.learning_rates) or not self.batches:
            raise InputError(
                f"{len(self.batches)} batches but {len(self.learning_rates)} learning rates; give one each"
            )
        if not self.normaliser > 0:
            raise InputError(f"the loss normaliser is {self.normaliser}; it must be positive and fixed for the run")

    @property
    def steps(self) -> int:
        """T, the number of optimiser steps."""
        return len(self.batches)

    def reordered(self, n: int, seed: int) -> TrainingPlan:
        """The same steps over ``n`` examples in the order that an SFT run with another seed would take."""
        places = sum(len(b) for b in self.batches)
        order = data_order(n, math.ceil(places / n), seed).reshape(-1)
        cuts = np.cumsum([0, *(len(b) for b in self.batches)])
        return replace(self, batches=tuple(tuple(order[a:b].tolist()) for a, b in itertools.pairwise(cuts)))


def plan_of_sft(config: SFTConfig, n: int, seed: int, normaliser: float) -> TrainingPlan:
    """The plan of ``fine_tune`` on ``n`` examples: its batches, learning rates and optimiser.

    Raises ModelError for settings whose arithmetic is not that of a plain replay (autocast, LoRA).
    """
    if config.autocast is not None or config.lora_rank is not None:
        which = "autocast" if config.autocast is not None else "lora_rank"
        raise ModelError(
            f"the SFT run used {which}, which retraining here does not replay; validate a run with full weights in "
            "float32 or float64"
        )
    batches = step_indices(data_order(n, config.epochs, seed), config.batch_size, config.epochs)
    rates = tuple(
        config.learning_rate * learning_rate_factor(t, len(batches), config.warmup_ratio, config.schedule)
        for t in range(len(batches))
    )
    return TrainingPlan(
        tuple(tuple(b.tolist()) for b in batches),
        rates,
        normaliser,
        config.betas,
        config.eps,
        0.0,
        config.weight_decay,
        config.max_grad_norm or None,
        config.max_tokens_per_microbatch,
    )


@dataclass(frozen=True)
class AdamState:
    """Parameters, first and second moment after ``step`` updates; each ``[P]`` or ``[R, P]``."""

    theta: Tensor
    first: Tensor
    second: Tensor
    step: int

    @staticmethod
    def begin(theta: Tensor) -> AdamState:
        """Before the first update."""
        return AdamState(theta, torch.zeros_like(theta), torch.zeros_like(theta), 0)


def clip_factor(norm: Tensor, max_norm: float | None) -> Tensor:
    """What the gradient is multiplied by: min(1, max_norm / (norm + 1e-6)), as torch clips."""
    if max_norm is None:
        return torch.ones_like(norm)
    return (max_norm / (norm + 1e-6)).clamp(max=1.0)


def adamw(state: AdamState, gradient: Tensor, plan: TrainingPlan, decayed: Tensor) -> AdamState:
    """One AdamW update (Loshchilov and Hutter 2019) with clipping; shapes as in the state.

    theta <- theta (1 - lr wd) - lr m^ / (sqrt(v^ + eps_root) + eps), m^ and v^ bias-corrected.
    """
    b1, b2 = plan.betas
    t = state.step + 1
    rate = plan.learning_rates[state.step]
    gradient = gradient * clip_factor(gradient.norm(dim=-1, keepdim=True), plan.max_grad_norm)
    first = state.first * b1 + gradient * (1 - b1)
    second = state.second * b2 + gradient * gradient * (1 - b2)
    root = (second / (1 - b2**t) + plan.eps_root).sqrt_().add_(plan.eps)
    theta = state.theta * (1 - rate * plan.weight_decay * decayed) if plan.weight_decay else state.theta
    return AdamState(theta - rate / (1 - b1**t) * first / root, first, second, t)


def step_gradient(
    flat: FlatModel, theta: Tensor, batches: Sequence[Microbatch], normaliser: float, *, twice: bool = False
) -> Tensor:
    """d/dtheta of -sum(weights * log p) / normaliser over a step's microbatches: ``[P]``."""
    total = torch.zeros_like(theta)
    for batch in batches:
        leaf = theta.detach().requires_grad_()
        loss = -(flat.log_probs(leaf, batch.ids, batch.weights != 0, twice=twice) * batch.weights).sum() / normaliser
        total += torch.autograd.grad(loss, leaf)[0]
    return total


def train(
    flat: FlatModel,
    plan: TrainingPlan,
    examples: Sequence[TokenizedExample],
    weights: Sequence[NDArray[np.float64]],
    *,
    start: Tensor | None = None,
    visit: Callable[[AdamState], None] | None = None,
) -> Tensor:
    """The trained parameter vector ``[P]`` of one run.

    ``weights`` are those of :func:`loss_weights`; an example with weight 0 costs nothing. ``visit`` sees the state
    before every step and after the last. Raises ModelError when parameters become non-finite.
    """
    state = AdamState.begin(flat.start if start is None else start)
    for rows in plan.batches:
        if visit is not None:
            visit(state)
        batches = microbatches(examples, weights, rows, plan.max_tokens, state.theta)
        state = adamw(state, step_gradient(flat, state.theta, batches, plan.normaliser), plan, flat.decayed)
    if visit is not None:
        visit(state)
    if not torch.isfinite(state.theta).all():
        raise ModelError("retraining ended in non-finite parameters; lower the learning rate of the SFT run")
    return state.theta


@dataclass(frozen=True)
class Retrain:
    """One retraining run: its data (a step may be cut out of some examples), loss weights and order."""

    examples: Sequence[TokenizedExample]
    weights: Sequence[NDArray[np.float64]]
    plan: TrainingPlan


def train_stack(flat: FlatModel, runs: Sequence[Retrain], stack: int = 1) -> Tensor:
    """Trained vectors of several runs: ``[R, P]``, ``stack`` models at a time.

    With ``stack`` 1 the runs go one after another; otherwise each step is one vmapped pass over the models, every
    model on its own examples. The runs must share the schedule and differ in data, weights and order only.
    """
    if stack == 1:
        return torch.stack([train(flat, r.plan, r.examples, r.weights) for r in runs])
    return torch.cat([_train_together(flat, runs[i : i + stack]) for i in range(0, len(runs), stack)])


def _train_together(flat: FlatModel, runs: Sequence[Retrain]) -> Tensor:
    plan = runs[0].plan
    if any(r.plan.learning_rates != plan.learning_rates or r.plan.normaliser != plan.normaliser for r in runs):
        raise InputError("runs trained in one stack must share learning rates and normaliser; use stack=1")
    state = AdamState.begin(flat.start.expand(len(runs), -1).clone())

    def loss(theta: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        return -(flat.log_probs(theta, ids, twice=True) * weights).sum() / plan.normaliser

    for step in range(plan.steps):
        ids, weights = _stacked(runs, step, state.theta)
        gradient = torch.zeros_like(state.theta)
        if ids.numel():
            leaf = state.theta.detach().requires_grad_()
            gradient = torch.autograd.grad(vmap(loss)(leaf, ids, weights).sum(), leaf)[0]
        state = adamw(state, gradient, plan, flat.decayed)
    if not torch.isfinite(state.theta).all():
        raise ModelError("retraining ended in non-finite parameters; lower the learning rate of the SFT run")
    return state.theta


def _stacked(runs: Sequence[Retrain], step: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """A step's examples of every run as ``ids, weights [R, n, T]``, padded with silent rows."""
    kept = [[i for i in r.plan.batches[step] if r.weights[i].any()] for r in runs]
    n = max(len(k) for k in kept)
    longest = max((len(r.examples[i]) for r, k in zip(runs, kept) for i in k), default=0)
    ids = np.zeros((len(runs), n, longest), np.int64)
    weights = np.zeros((len(runs), n, longest))
    for m, (run, rows) in enumerate(zip(runs, kept)):
        for j, i in enumerate(rows):
            ids[m, j, : len(run.examples[i])] = run.examples[i].input_ids
            weights[m, j, : len(run.examples[i])] = run.weights[i]
    return torch.from_numpy(ids).to(like.device), torch.from_numpy(weights).to(like)
