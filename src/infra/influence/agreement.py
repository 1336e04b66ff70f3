"""Whether two curvatures say the same: the rank agreement of the scores that their directions give.

The measure behind two choices that save time: how much of the training data the factors need, and whether products
across positions may be dropped from the eigenvalues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.curvature import Curvature
from infra.influence.damping import Damping
from infra.influence.directions import Direction
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS
from infra.influence.engine.engine import Engine
from infra.influence.engine.functional import record_stream
from infra.influence.engine.gradient import gradients
from infra.influence.scores import example_influence
from infra.models.tracked import TrackedWeights

PROBES = 2
QUERIES_A_PROBE = 16
SCORED = 128


@dataclass(frozen=True)
class Probes:
    """Gradients to precondition, and the examples whose scores are compared."""

    gradients: Sequence[Direction]
    scored: Sequence[TokenizedExample]


def training_probes(
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    seed: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Probes:
    """Two targets of 16 training examples each, and 128 others to score (fewer of each when there are too few).

    Drawn by hash of seed and id. For when the real targets are not known yet; theirs are better probes.

    Args:
        model: in memory.
        examples: the training data.
        tracked: weights that count.
        seed: of the draw.
        max_tokens: tokens of a batch.

    Raises:
        InputError: there are fewer than four examples with a response.
    """
    order = sorted((e for e in examples if e.n_response_tokens), key=lambda e: _draw(seed, e.id))
    if len(order) < 2 * PROBES:
        raise InputError(
            f"{len(order)} examples are too few to compare curvatures on; at least {2 * PROBES} are needed"
        )
    size = max(1, min(QUERIES_A_PROBE, len(order) // (2 * PROBES)))
    queries, scored = order[: PROBES * size], order[PROBES * size : PROBES * size + SCORED]
    groups = np.repeat(np.arange(PROBES), size)
    return Probes(
        gradients(Engine(model, tracked, max_tokens), queries, groups, [f"probe {k}" for k in range(PROBES)]), scored
    )


def rank_agreement(
    model: Any,
    probes: Probes,
    one: Curvature,
    other: Curvature,
    damping: Damping | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> float:
    """How alike two curvatures rank the same examples.

    Args:
        model: in memory.
        probes: gradients, and the examples whose scores are compared.
        one: a curvature.
        other: another.
        damping: of both.
        max_tokens: tokens of a batch.

    Returns:
        Spearman correlation over the scored examples, mean over probes, from -1 to 1.
    """
    directions = [c.inverse(damping) @ g for c in (one, other) for g in probes.gradients]
    scores = example_influence(model, probes.scored, directions, max_tokens).astype(np.float64)
    k = len(probes.gradients)
    return float(np.mean([spearmanr(scores[:, i], scores[:, k + i]).statistic for i in range(k)]))


def scale_difference(one: Curvature, other: Curvature) -> float:
    """The largest relative difference between a block's mean eigenvalues under either curvature."""
    worst = 0.0
    for key, factor in one.factors.items():
        a, b = (float(f.eigenvalues.double().mean()) for f in (factor, other.factors[key]))
        if max(a, b) > 0:
            worst = max(worst, abs(a - b) / max(a, b))
    return worst


def _draw(seed: int, record_id: str) -> float:
    return float(record_stream(seed, f"probe:{record_id}").random())
