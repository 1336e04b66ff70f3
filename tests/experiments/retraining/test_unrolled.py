"""The adjoint is the derivative of real retraining."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from infra.experiments.retraining import (
    FlatModel,
    Retrain,
    UnrolledScores,
    check_by_retraining,
    loss_weights,
    query_values,
    train,
    train_stack,
    unrolled,
)
from infra.train.recorded import RecordedRun
from tests.experiments.retraining.tiny import tiny_examples, tiny_plan

EXAMPLES = tiny_examples(60, seed=1)
QUERIES = tiny_examples(6, seed=2, prefix="q")
GROUPS = np.repeat(np.eye(2), 3, axis=1) / 3


@pytest.fixture(scope="module")
def whole(flat: FlatModel) -> UnrolledScores:
    return unrolled(RecordedRun(flat, tiny_plan(60), EXAMPLES), QUERIES, GROUPS)


@pytest.mark.parametrize("settings", [{}, {"max_grad_norm": 0.5, "weight_decay": 0.1, "epochs": 1.5}])
def test_example_scores_are_the_derivative_of_retraining(
    flat: FlatModel, whole: UnrolledScores, settings: dict[str, float]
) -> None:
    plan = tiny_plan(60, **settings)
    scores = unrolled(RecordedRun(flat, plan, EXAMPLES), QUERIES, GROUPS) if settings else whole
    assert scores.clip_margin > 0.01, "this run lies at a clipping boundary, where there is no derivative"
    assert scores.clipped > 0.5 if settings else scores.clipped == 0

    def values(weights: np.ndarray) -> np.ndarray:
        runs = [Retrain(EXAMPLES, loss_weights(EXAMPLES, w), plan) for w in weights]
        return query_values(flat, train_stack(flat, runs, stack=50), QUERIES) @ GROUPS[1]

    chosen = np.random.default_rng(0).choice(60, 50, replace=False).tolist()
    found = check_by_retraining(scores.examples[:, 1], values, chosen, step_sizes=(1e-4, 1e-5))
    assert found.errors[1e-4] < 1e-4 and found.errors[1e-5] < 1e-4
    assert scores.values[1] == pytest.approx(values(np.ones((1, 60)))[0], abs=1e-12)


def test_token_scores_are_derivatives_with_respect_to_token_weights(flat: FlatModel) -> None:
    plan, h = tiny_plan(60), 1e-5
    weighted = [replace(e, weight=1.5) for e in EXAMPLES]
    scores = unrolled(RecordedRun(flat, plan, weighted), QUERIES, GROUPS)

    def value(example: int, token: int, amount: float) -> float:
        weights = [np.ones(len(e)) for e in weighted]
        weights[example][token] += amount
        theta = train(flat, plan, weighted, loss_weights(weighted, None, weights))
        return float(query_values(flat, theta, QUERIES) @ GROUPS[0])

    rng = np.random.default_rng(1)
    places = [(int(i), int(rng.choice(np.flatnonzero(weighted[i].loss_mask)))) for i in rng.choice(60, 12)]
    measured = np.array([(value(i, t, h) - value(i, t, -h)) / (2 * h) for i, t in places])
    exact = np.array([scores.tokens[i][0, t] for i, t in places])
    assert np.linalg.norm(exact - measured) < 1e-4 * np.linalg.norm(measured)
    assert all(np.all(s[:, ~e.loss_mask] == 0) for s, e in zip(scores.tokens, weighted))


def test_a_variant_scores_as_if_it_were_trained_on(flat: FlatModel) -> None:
    """A copy of an example scores like the example; another sequence like putting it beside with a little weight."""
    plan, h = tiny_plan(60), 1e-5
    other = tiny_examples(1, seed=9, prefix="v")[0]
    scores = unrolled(RecordedRun(flat, plan, EXAMPLES), QUERIES, GROUPS, variants=[(7, EXAMPLES[7]), (7, other)])
    assert np.allclose(scores.variants[0], scores.tokens[7], rtol=1e-9, atol=1e-14)
    beside = replace(plan, batches=tuple((*b, 60) if 7 in b else b for b in plan.batches))
    both = [*EXAMPLES, other]

    def value(amount: float) -> np.ndarray:
        theta = train(flat, beside, both, loss_weights(both, np.array([1.0] * 60 + [amount])))
        return GROUPS @ query_values(flat, theta, QUERIES)

    measured = (value(h) - value(-h)) / (2 * h)
    assert np.linalg.norm(scores.variants[1].sum(1) - measured) < 1e-4 * np.linalg.norm(measured)


def test_accumulation_does_not_change_the_scores(flat: FlatModel, whole: UnrolledScores) -> None:
    split = unrolled(RecordedRun(flat, replace(tiny_plan(60), max_tokens=40), EXAMPLES), QUERIES, GROUPS)
    assert np.linalg.norm(whole.examples - split.examples) < 1e-9 * np.linalg.norm(whole.examples)


def test_parameters_without_gradient_carry_no_derivative(flat: FlatModel) -> None:
    """Where the second moment is zero AdamW has no derivative: a run on nothing but one example stays finite."""
    plan = replace(tiny_plan(60), batches=((0,), (0,), (0,)), learning_rates=(1e-3,) * 3)
    only = np.zeros(60)
    only[0] = 1.0
    for eps_root in (0.0, 1e-12):
        scores = unrolled(
            RecordedRun(flat, replace(plan, eps_root=eps_root), EXAMPLES),
            QUERIES,
            GROUPS,
            weights=loss_weights(EXAMPLES, only),
        )
        assert np.isfinite(scores.examples).all() and scores.examples[0].any()
        assert not scores.examples[1:].any()
