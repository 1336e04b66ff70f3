"""Stage `queries` inverts the curvature with the damping that the recipe asks for, in either scale."""

from types import SimpleNamespace

import numpy as np
import pytest

from infra.influence import Damping, MeanLogLikelihood, example_influence, fit_ekfac, gradient
from infra.influence.scores import TokenScores
from infra.models import tracked_weights
from infra.pipeline import queries
from tests.influence import toys
from tests.pipeline.conftest import mini


@pytest.mark.parametrize("bytes_for_directions", [1 << 29, 1])
def test_an_absolute_damping_of_the_recipe_is_taken_as_it_is(tmp_path, monkeypatch, bytes_for_directions):
    """At full rank, and at low rank where full directions do not fit."""
    model, train, asked = toys.qwen2(), toys.examples(6), toys.examples(2, seed=1)
    tracked = tracked_weights(model, "mlp")
    curvature = fit_ekfac(model, train, tracked)
    monkeypatch.setattr(queries, "DIRECTION_BYTES", bytes_for_directions)
    monkeypatch.setattr(queries, "ENERGY", 1.0)
    base = mini()

    def scored(scale: str, folder: str) -> np.ndarray:
        c = base.curvature.model_copy(update={"damping": 3.0, "damping_scale": scale})
        (tmp_path / folder).mkdir()
        recipe = base.model_copy(update={"curvature": c})
        context = SimpleNamespace(out=tmp_path / folder, label="queries", recipe=recipe)
        return queries.first_visit(context, model, tracked, curvature, train, asked).scores

    for scale in ("relative", "absolute"):
        inverse = curvature.inverse(Damping(3.0, scale))
        v = [inverse @ gradient(model, MeanLogLikelihood(q.id, [q]), tracked) for q in asked]
        expected = example_influence(model, train, v)
        assert np.allclose(scored(scale, scale), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_one_visit_with_low_rank_directions_keeps_the_tokens_of_the_strongest_pairs():
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(4, rng.integers(3, 9))).astype(np.float32) for _ in range(60)]
    rows[17] = rows[5]  # a tie
    order = rng.permutation(60)
    chunks = (
        TokenScores(["" for _ in part], list(part), [rows[i] for i in part], "position")
        for part in np.array_split(order, 20)
    )
    base = mini()
    recipe = base.model_copy(update={"scores": base.scores.model_copy(update={"query_top": 3})})
    visit = queries._low_rank_visit(chunks, [None] * 4, 60, recipe)
    sums = np.stack([r.sum(axis=1) for r in rows])
    assert np.array_equal(visit.scores, sums)
    _, chosen = queries.strongest_pairs(sums, 3)
    for i, q in zip(*np.nonzero(chosen)):
        assert np.array_equal(visit.tokens[i, q], rows[i][q])
    assert len(visit.tokens) < 4 * 60  # the rest was let go along the way
