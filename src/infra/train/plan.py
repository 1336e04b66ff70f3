"""What happens in which step, decided before training from the seed and the lengths alone. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PASS_TOKENS = 256
"""Fixed cost of one more forward and backward pass, in tokens: what a microbatch must save in padding to be
worth it."""


def data_order(n_examples: int, epochs: float, seed: int) -> NDArray[np.int64]:
    """int64 ``[ceil(epochs), n_examples]``: one permutation an epoch, epoch e drawn from the generator of
    (seed, e)."""
    rows = [np.random.default_rng([seed, e]).permutation(n_examples) for e in range(math.ceil(epochs))]
    return np.stack(rows).astype(np.int64)


def step_indices(order: NDArray[np.int64], batch_size: int, epochs: float) -> list[NDArray[np.int64]]:
    """The examples of each optimiser step. An epoch's last step may be smaller; steps never span two
    epochs."""
    steps = [row[i : i + batch_size] for row in order for i in range(0, len(row), batch_size)]
    per_epoch = math.ceil(order.shape[1] / batch_size)
    return steps[: math.ceil(round(per_epoch * epochs, 9))]


def learning_rate_factor(step: int, n_steps: int, warmup_ratio: float, schedule: str) -> float:
    """Learning rate of 0-based ``step`` as a share of the peak, transformers' formulas: warm-up from 0 over
    ceil(ratio x steps), then half a cosine or a line to 0 at ``n_steps``, or constant."""
    warmup = math.ceil(round(warmup_ratio * n_steps, 9))
    if step < warmup:
        return step / max(1, warmup)
    if schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, n_steps - warmup)
    if schedule == "linear":
        return max(0.0, 1.0 - progress)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def padded_groups(lengths: Sequence[int], max_tokens: int, pass_tokens: int = PASS_TOKENS) -> list[list[int]]:
    """Indices cut into padded microbatches at the least cost: sum over groups of size x longest +
    ``pass_tokens``.

    Sorted by length, neighbours go together, so the best cut is a shortest path over the sorted positions,
    O(n^2). No group exceeds ``max_tokens`` unless it is a single example. Ties in length keep the given
    order.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    n = len(order)
    best = np.zeros(n + 1)
    cut = np.zeros(n + 1, dtype=np.int64)
    for j in range(1, n + 1):
        longest = lengths[order[j - 1]]
        sizes = np.arange(j, 0, -1)  # group [i, j) has size j - i, for i = 0 .. j - 1
        cost = best[:j] + sizes * longest + pass_tokens
        cost[(sizes * longest > max_tokens) & (sizes > 1)] = np.inf
        cut[j] = int(np.argmin(cost))
        best[j] = cost[cut[j]]
    groups: list[list[int]] = []
    j = n
    while j > 0:
        groups.append(order[cut[j] : j])
        j = int(cut[j])
    return groups[::-1]
