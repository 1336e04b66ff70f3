"""Links between the steps of training examples and the tokens of answers, against directions of full rank."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from infra.influence import Engine, LowRankSettings, fit_ekfac, gradients, token_influence
from infra.layout import Run
from infra.models import tracked_weights
from infra.pipeline.links import REST, Unit, cut_to, link_scores
from tests.influence import toys
from tests.pipeline.conftest import mini


def halves(example) -> list[Unit]:
    """The tokens under the loss in two units."""
    places = np.flatnonzero(example.loss_mask)
    parts = np.array_split(places, 2)
    masks = [np.isin(np.arange(len(example)), part) for part in parts]
    return [Unit(int(p[0]), int(p[-1]) + 1, (), m) for p, m in zip(parts, masks)]


def test_with_all_the_energy_links_are_those_of_full_rank():
    """And they add up to the influence of the pair; pairs that are not asked for are not there."""
    model, train, answers = toys.qwen2(), toys.examples(4), toys.examples(3, seed=1)
    train = [replace(e, id=f"z{i}") for i, e in enumerate(train)]
    answers = [replace(e, id=f"q{i}") for i, e in enumerate(answers)]
    tracked = tracked_weights(model)
    inverse = fit_ekfac(model, train, tracked).inverse()
    engine = Engine(model, tracked)
    units = {e.id: halves(e) for e in train}
    pairs = [("q0", "z0"), ("q0", "z2"), ("q2", "z2"), ("q1", "z3")]
    exact = LowRankSettings(energy=1.0, max_rank=10_000)
    by_id, asked = {e.id: e for e in train}, {e.id: e for e in answers}
    found = link_scores(engine, inverse, units, by_id, asked, pairs, settings=exact)
    assert list(found) == pairs
    for (query, id_), block in found.items():
        example, answer = by_id[id_], asked[query]
        whole = [replace(example, loss_mask=u.mask, content_mask=None) for u in units[id_]]
        raw = gradients(engine, whole, np.arange(2), ["a", "b"], "summed")
        (chunk,) = token_influence(model, [answer], [inverse @ g for g in raw], decomposition="position")
        np.testing.assert_allclose(block, chunk.scores[0], rtol=1e-4, atol=1e-6 * np.abs(chunk.scores[0]).max())
        (direction,) = gradients(engine, [answer], np.zeros(1, int), ["answer"], "summed")
        (other,) = token_influence(model, [example], [inverse @ direction])
        assert block.sum() == pytest.approx(float(other.scores[0].sum()), rel=1e-3)


def test_a_cut_ends_with_its_unit():
    example = toys.examples(1)[0]
    first, second = (cut_to(example, u) for u in halves(example))
    assert len(first) < len(second) <= len(example) and first.loss_mask[-1] and second.loss_mask[-1]
    assert first.n_response_tokens + second.n_response_tokens == example.n_response_tokens
    assert (first.input_ids == example.input_ids[: len(first)]).all() and len(first.offsets) == len(first)


def test_a_run_links_the_strongest_examples_of_every_query(finished):
    run = Run(finished)
    table, answers = pd.read_parquet(run.links), pd.read_parquet(run.link_answers).set_index("query")
    pairs = pd.read_parquet(run.query_scores, columns=["query", "side", "rank", "id", "influence"])
    pairs = pairs[pairs["rank"] <= mini().scores.query_links].reset_index(drop=True)
    assert table[["query", "id", "side", "rank"]].equals(pairs[["query", "id", "side", "rank"]])
    steps = pd.read_parquet(run.step_scores)
    steps = steps[steps.set == "train"].groupby("id")
    sums = []
    for row in table.itertuples():
        head = answers.loc[row.query]
        block = np.reshape(row.scores, (len(row.t0), len(head["mask"])))
        sums.append(block.sum(dtype=np.float64))
        mine = steps.get_group(row.id)
        named = [(a, b) for a, b, labels in zip(row.t0, row.t1, row.labels) if REST not in labels]
        assert set(named) <= set(zip(mine.t0, mine.t1)) and len(row.texts) == len(row.t0)
    lost = np.linalg.norm(np.array(sums) - table.influence) / np.linalg.norm(table.influence)
    assert lost < 0.25  # by keeping 95% of the directions' energy
