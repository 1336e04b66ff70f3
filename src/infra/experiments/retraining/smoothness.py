"""How smooth training is in its data weights: unrolled scores, being derivatives, are only as good as that.

Empirical metasmoothness (Engstrom et al., arXiv 2503.13751): along a direction v of data weights, with
finite-difference changes D(w) = (theta(w + h v) - theta(w)) / h of the trained parameters,

    S = sign(D(w))^T diag(|D(w)| / |D(w)|_1) sign(D(w + h v))          in [-1, 1]; 1 is smooth

so the share of parameter change whose sign survives a step of h, weighted by its size, less the share that flips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.data import TokenizedExample
from infra.errors import InputError
from infra.train.flat_model import FlatModel, loss_weights
from infra.train.replay import Retrain, TrainingPlan, train_stack


def agreement(at: Tensor, after: Tensor, later: Tensor) -> float:
    """S from the parameters ``[P]`` trained at w, w + h v and w + 2 h v. Raises InputError when nothing changed."""
    first, second = after - at, later - after
    size = first.abs()
    if not bool(size.any()):
        raise InputError("training did not change along this direction of weights; take a larger step")
    return float((size * first.sign() * second.sign()).sum() / size.sum())


def metasmoothness(
    flat: FlatModel,
    plan: TrainingPlan,
    examples: Sequence[TokenizedExample],
    *,
    step: float = 0.1,
    directions: int = 3,
    seed: int = 0,
    stack: int = 1,
) -> NDArray[np.float64]:
    """S along random directions of example weights (each entry -1 or 1), at weights 1: float64 ``[directions]``.

    Two retrains a direction, and one more. ``step`` 0.1 changes every example's weight by 10%.
    """
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (directions, len(examples)))
    points = [np.ones(len(examples)), *(1 + k * step * v for v in signs for k in (1, 2))]
    thetas = train_stack(flat, [Retrain(examples, loss_weights(examples, w), plan) for w in points], stack)
    with torch.no_grad():
        return np.array([agreement(thetas[0], thetas[1 + 2 * i], thetas[2 + 2 * i]) for i in range(directions)])
