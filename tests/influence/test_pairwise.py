"""Many queries at once and self-influence, against scores computed one by one."""

import pytest
import torch

from infra.errors import InputError
from infra.influence import (
    Damping,
    Engine,
    LowRankSettings,
    MeanLogLikelihood,
    example_influence,
    fit_ekfac,
    gradient,
    pairwise_influence,
    pairwise_tokens,
    query_directions,
    self_influence,
    token_influence,
)
from infra.influence.engine.lowrank import compress
from infra.models import tracked_weights
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
    found = pairwise_influence(
        Engine(model, tracked, 30), train, queries, curvature.inverse(), settings=LowRankSettings(1.0)
    )
    assert toys.error(found.scores, one_by_one[1]) < 1e-9
    assert (found.kept > 1 - 1e-9).all() and not found.exact.any()


def test_low_rank_loses_no_more_than_it_says_and_rescoring_is_exact(world, one_by_one):
    model, train, queries, tracked, curvature = world
    found = pairwise_influence(
        Engine(model, tracked), train, queries, curvature.inverse(), settings=LowRankSettings(0.8, rescore=2)
    )
    assert (found.exact.sum(0) == 2).all()
    assert toys.error(found.scores[found.exact], one_by_one[1][found.exact]) < 1e-9
    assert 0.7 < found.kept.mean() < 1
    low = query_directions(Engine(model, tracked), queries, curvature.inverse(), settings=LowRankSettings(0.8))
    directions, _ = one_by_one
    for q, direction in enumerate(directions):  # kept is one minus the squared relative distance
        gap = sum(
            float((low.left[b.key][q] @ low.right[b.key][q].T - b.matrix(direction.tensors)).square().sum())
            for b in tracked.blocks
        )
        assert gap / direction.dot(direction) == pytest.approx(1 - float(low.kept[q]), abs=1e-9)


def test_an_absolute_damping_is_taken_as_it_is(world):
    model, train, queries, tracked, curvature = world
    found = pairwise_influence(
        Engine(model, tracked),
        train,
        queries[:1],
        curvature.inverse(Damping(3.0, "absolute")),
        settings=LowRankSettings(1.0),
    )
    raw = gradient(model, MeanLogLikelihood("q", queries[:1]), tracked)
    expected = example_influence(model, train, [curvature.inverse(Damping(3.0, "absolute")) @ raw])
    assert toys.error(found.scores, expected) < 1e-9


def test_tokens_of_many_queries_are_their_position_scores(world, one_by_one):
    model, train, queries, tracked, curvature = world
    low = query_directions(Engine(model, tracked), queries, curvature.inverse(), settings=LowRankSettings(1.0))
    found = {i: s for c in pairwise_tokens(Engine(model, tracked), train, low) for i, s in zip(c.indices, c.scores)}
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
    found = self_influence(Engine(model, tracked, 30), train, curvature.inverse())
    for i, item in enumerate(train):
        own = gradient(model, MeanLogLikelihood("own", [item], "summed"), tracked)
        assert found[i] == pytest.approx((curvature.inverse() @ own).dot(own), rel=1e-9)
