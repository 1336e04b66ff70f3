"""Many queries at once, self-influence and baselines, against scores computed one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from infra.errors import InputError
from infra.influence import (
    BASELINES,
    TOKEN_BASELINES,
    Damping,
    MeanLogLikelihood,
    baseline_scores,
    baseline_tokens,
    example_influence,
    fit_ekfac,
    gradient,
    log_likelihoods,
    pairwise_influence,
    pairwise_tokens,
    query_directions,
    self_influence,
    token_influence,
)
from infra.influence.engine.lowrank import compress
from infra.influence.methods.baselines import bm25, representations
from infra.models import float64_everywhere, tracked_weights
from tests.influence import toys


@pytest.fixture(scope="module")
def world():
    model, train, queries = toys.qwen2(), toys.examples(6), toys.examples(4, seed=1)
    tracked = tracked_weights(model)
    return model, train, queries, tracked, fit_ekfac(model, train, tracked)


@pytest.fixture(scope="module")
def one_by_one(world):
    model, train, queries, tracked, curvature = world
    directions = [curvature.inverse() @ gradient(model, MeanLogLikelihood(q.id, [q]), tracked) for q in queries]
    return directions, example_influence(model, train, directions)


def test_with_all_the_energy_the_matrix_is_exact(world, one_by_one):
    model, train, queries, tracked, curvature = world
    found = pairwise_influence(model, train, queries, tracked, curvature, energy=1.0, max_tokens=30)
    assert toys.error(found.scores, one_by_one[1]) < 1e-9
    assert (found.kept > 1 - 1e-9).all() and not found.exact.any()


def test_low_rank_loses_no_more_than_it_says_and_rescoring_is_exact(world, one_by_one):
    model, train, queries, tracked, curvature = world
    found = pairwise_influence(model, train, queries, tracked, curvature, energy=0.8, rescore=2)
    assert (found.exact.sum(0) == 2).all()
    assert toys.error(found.scores[found.exact], one_by_one[1][found.exact]) < 1e-9
    assert 0.7 < found.kept.mean() < 1
    low = query_directions(model, queries, tracked, curvature, energy=0.8)
    directions, _ = one_by_one
    for q, direction in enumerate(directions):  # kept is one minus the squared relative distance
        gap = sum(
            float((low.left[b.key][q] @ low.right[b.key][q].T - b.matrix(direction.tensors)).square().sum())
            for b in tracked.blocks
        )
        assert gap / direction.dot(direction) == pytest.approx(1 - float(low.kept[q]), abs=1e-9)


def test_an_absolute_damping_is_taken_as_it_is(world):
    model, train, queries, tracked, curvature = world
    found = pairwise_influence(model, train, queries[:1], tracked, curvature, Damping(3.0, "absolute"), energy=1.0)
    raw = gradient(model, MeanLogLikelihood("q", queries[:1]), tracked)
    expected = example_influence(model, train, [curvature.inverse(Damping(3.0, "absolute")) @ raw])
    assert toys.error(found.scores, expected) < 1e-9


def test_tokens_of_many_queries_are_their_position_scores(world, one_by_one):
    model, train, queries, tracked, curvature = world
    low = query_directions(model, queries, tracked, curvature, energy=1.0)
    found = {i: s for c in pairwise_tokens(model, train, low, tracked) for i, s in zip(c.indices, c.scores)}
    plain = token_influence(model, train, one_by_one[0], decomposition="position")
    for chunk in plain:
        for index, expected in zip(chunk.indices, chunk.scores):
            assert toys.error(found[index], expected) < 1e-9


def test_compress_takes_the_rank_that_the_energy_asks_for():
    values = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)  # squares 16, 4, 1 of 21
    matrix = {"w": torch.diag(values)[None]}
    assert compress(matrix, 16 / 21).ranks == {"w": 1}
    assert compress(matrix, 0.9).ranks == {"w": 2}
    assert compress(matrix, 1.0).ranks == {"w": 3}
    with pytest.raises(InputError, match="energy"):
        compress(matrix, 0.0)


def test_self_influence_is_the_influence_of_an_example_on_itself(world):
    model, train, _, tracked, curvature = world
    found = self_influence(model, train, tracked, curvature, max_tokens=30)
    for i, item in enumerate(train):
        own = gradient(model, MeanLogLikelihood("own", [item], "summed"), tracked)
        assert found[i] == pytest.approx((curvature.inverse() @ own).dot(own), rel=1e-9)


def test_every_baseline_gives_a_finite_matrix(world):
    model, train, queries, tracked, _ = world
    targets = [MeanLogLikelihood("a", queries[:2]), MeanLogLikelihood("b", queries[2:])]
    for name in BASELINES:
        scores = baseline_scores(name, model, train, targets, tracked)
        assert scores.shape == (6, 2) and np.isfinite(scores).all()
    with pytest.raises(InputError, match="no baseline 'magic'"):
        baseline_scores("magic", model, train, targets, tracked)


def test_gradient_cosine_is_one_for_the_target_itself(world):
    model, train, _, tracked, _ = world
    targets = [MeanLogLikelihood("first", train[:1])]
    cosines = baseline_scores("gradient_cosine", model, train, targets, tracked)[:, 0]
    assert cosines[0] == pytest.approx(1.0) and (np.abs(cosines) <= 1 + 1e-12).all()


def test_bm25_by_hand():
    """Two documents, 'a a b' and 'c'; query 'A': idf log(1 + 1.5/1.5), tf 2, lengths 3 against a mean of 2."""
    texts = {"x": "a a b", "y": "c", "q": "A"}
    x, y, q = (replace(toys.example(name, 4, 2, 0), text=text) for name, text in texts.items())
    expected = np.log(2.0) * 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 1.5))
    assert bm25([x, y], [[q]])[:, 0] == pytest.approx([expected, 0.0])


def test_token_baselines_are_zero_outside_the_response_and_sum_to_the_examples(world):
    model, train, _, tracked, _ = world
    targets = [MeanLogLikelihood(str(k), train[:1]) for k in range(2)]
    for name in TOKEN_BASELINES:
        tokens = baseline_tokens(name, model, train, 2, seed=5)
        assert all(t.shape == (2, len(e)) and not t[:, ~e.loss_mask].any() for t, e in zip(tokens, train))
        sums = baseline_scores(name, model, train, targets, tracked, seed=5)
        assert toys.error([t.sum(1) for t in tokens], sums) < 1e-12
    losses = -log_likelihoods(model, train)
    assert toys.error([t.sum(1)[0] for t in baseline_tokens("training_loss", model, train, 1)], losses) < 1e-12


def test_representations_are_means_over_the_responses_own_tokens(world):
    model, train, _, _, _ = world
    for item, found in zip(train, representations(model, train, max_tokens=30)):
        with float64_everywhere(), torch.no_grad():
            hidden = model.model(input_ids=torch.from_numpy(item.input_ids)[None])[0][0]
        assert toys.error(found, hidden[torch.from_numpy(item.loss_mask)].mean(0)) < 1e-12
