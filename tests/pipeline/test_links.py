"""Links between the steps of training examples and the tokens of answers, against scores made from the other side."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from infra.influence import Curvature, Damping, Engine, gradients, token_influence
from infra.layout import Run
from infra.models import load_model, tracked_weights
from infra.pipeline.data import load_records
from infra.pipeline.links import REST
from infra.pipeline.tokenized import encode
from tests.pipeline.conftest import mini


@pytest.fixture(scope="module")
def links(finished):
    run = Run(finished)
    table = pd.read_parquet(run.links)
    answers = pd.read_parquet(run.link_answers).set_index("query")
    table["blocks"] = [np.reshape(s, (len(t0), -1)) for s, t0 in zip(table.scores, table.t0)]
    return run, table, answers


def test_steps_and_tokens_of_a_link_add_up_to_the_influence_of_the_pair(links):
    run, table, answers = links
    pairs = pd.read_parquet(run.query_scores, columns=["query", "side", "rank", "id", "influence"])
    pairs = pairs[pairs["rank"] <= mini().scores.query_links].reset_index(drop=True)
    assert table[["query", "id", "side", "rank"]].equals(pairs[["query", "id", "side", "rank"]])
    sums = np.array([b.sum(dtype=np.float64) for b in table.blocks])
    close = np.abs(sums - pairs.influence) <= 1e-3 * np.abs(pairs.influence) + 1e-4 * np.abs(pairs.influence).max()
    assert close.all()
    for query, block in zip(table["query"], table.blocks):
        mask = answers.loc[query, "mask"]
        assert block.shape[1] == len(mask) and not block[:, ~mask].any()


def test_a_link_is_the_same_when_the_answer_is_the_direction(links, finished):
    """The inverse is symmetric: the answer's step as the direction gives its training step the same influence."""
    run, table, answers = links
    path = str(finished / "sft" / "original-s0" / "model")
    model, _ = load_model(path)
    records = {r.id: r for r in load_records(run.records("train"))}
    asked = {r.id: r for r in load_records(run.queries)}
    row = table.iloc[0]
    answer, example = (
        encode(
            [
                asked[row["query"]],
            ],
            path,
            mini(),
        )[0],
        encode([records[row.id]], path, mini())[0],
    )
    head = answers.loc[row["query"]]
    a, b = next((a, b) for a, b in zip(head.t0, head.t1) if answer.loss_mask[a:b].any())
    own = np.zeros(len(answer), bool)
    own[a:b] = answer.loss_mask[a:b]
    tracked = tracked_weights(model)
    raw = gradients(Engine(model, tracked), [replace(answer, loss_mask=own)], np.zeros(1, int), ["answer"], "summed")
    inverse = Curvature.load(run.curvature).inverse(Damping(0.1))
    (chunk,) = token_influence(model, [example], [inverse @ raw[0]])
    scores = chunk.scores[0][0] / answer.n_response_tokens
    for t0, t1, labels, block in zip(row.t0, row.t1, row.labels, row.blocks):
        if REST not in labels:
            expected = float(scores[t0:t1].sum())
            assert block[:, own].sum() == pytest.approx(expected, rel=1e-3, abs=1e-5 * np.abs(row.blocks).max())
