"""Token scores of chosen pairs are those of all pairs, cut out; and add up to the example scores."""

import numpy as np
import pytest

from infra.errors import InputError
from infra.influence import (
    Engine,
    LowRankSettings,
    MeanLogLikelihood,
    chosen_tokens,
    example_influence,
    fit_ekfac,
    gradient,
    query_directions,
    token_influence,
)
from infra.models import tracked_weights
from tests.influence import toys
from tests.influence.test_architectures import qwen3_moe


@pytest.mark.parametrize("max_tokens", [30, 8192])
@pytest.mark.parametrize("family", [toys.qwen2, lambda: qwen3_moe().double().eval()], ids=["dense", "experts"])
def test_chosen_pairs_have_the_position_scores_of_their_query(family, max_tokens):
    model, train, queries = family(), toys.examples(6), toys.examples(4, seed=1)
    tracked = tracked_weights(model)
    curvature = fit_ekfac(model, train, tracked)
    low = query_directions(Engine(model, tracked), queries, curvature.inverse(), settings=LowRankSettings(1.0))
    full = [curvature.inverse() @ gradient(model, MeanLogLikelihood(q.id, [q]), tracked) for q in queries]
    expected = {
        i: s
        for chunk in token_influence(model, train, full, decomposition="position")
        for i, s in zip(chunk.indices, chunk.scores)
    }
    sums = example_influence(model, train, full)
    chosen = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]], bool)
    seen = []
    for index, which, tokens in chosen_tokens(Engine(model, tracked, max_tokens), train, low, chosen):
        seen.append(index)
        assert which.tolist() == np.flatnonzero(chosen[index]).tolist()
        assert toys.error(tokens, expected[index][which]) < 1e-9
        assert toys.error(tokens.sum(axis=1), sums[index, which]) < 1e-9
    assert sorted(seen) == [0, 2, 3, 4, 5]


def test_a_choice_of_another_shape_is_refused():
    model, train, queries = toys.qwen2(), toys.examples(3), toys.examples(2, seed=1)
    tracked = tracked_weights(model)
    low = query_directions(Engine(model, tracked), queries, fit_ekfac(model, train, tracked).inverse())
    with pytest.raises(InputError, match="3 examples x 2 queries"):
        next(chosen_tokens(Engine(model, tracked), train, low, np.ones((2, 2), bool)))
