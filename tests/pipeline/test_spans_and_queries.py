"""Steps by both definitions, sums per fold, and every query's strongest examples: against scores computed here."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from infra.data import Message
from infra.influence import Curvature, Damping, Engine, combine, example_influence, gradients, open_directions
from infra.models import load_model, tracked_weights
from infra.pipeline.data import load_records
from infra.pipeline.effects import judge_agreement
from infra.pipeline.marked import mark
from infra.pipeline.queries import chosen_queries, strongest_pairs
from infra.pipeline.span_sample import within_budget
from infra.pipeline.tokenized import encode
from infra.store import read_json
from tests.pipeline.conftest import mini


@pytest.fixture(scope="module")
def engine(finished):
    """The run's model, its training examples and records, and its whole targets' directions."""
    path = str(finished / "sft" / "original-s0" / "model")
    model, _ = load_model(path)
    records = {r.id: r for r in load_records(finished / "records" / "train.parquet")}
    weights = read_json(finished / "directions" / "targets.json")
    folds = open_directions(finished / "directions").loaded()
    whole = {t: combine(folds, w, name=t) for t, w in weights.items() if ":" not in t}
    return path, model, records, encode(list(records.values()), path, mini()), whole


def test_token_files_hold_the_text_that_was_scored(finished, engine):
    table = pd.read_parquet(finished / "scores" / "tokens" / "train-00000.parquet").set_index("id")
    for example in engine[3]:
        row = table.loc[example.id]
        assert row.text == example.text and row["mask"].tolist() == example.loss_mask.tolist()
        assert np.array_equal(np.stack([row.starts, row.ends], axis=1), example.offsets)
        assert len(row.loss_math) == len(example)


def test_folds_of_a_step_average_to_its_influence(finished):
    rows, values = (
        pd.read_parquet(finished / "spans" / "fold_steps.parquet"),
        np.load(finished / "spans" / "fold_steps.npy"),
    )
    folds = pd.read_parquet(finished / "spans" / "folds.parquet")
    steps = pd.read_parquet(finished / "spans" / "steps.parquet").set_index(["id", "step"])
    for target in ("math", "code"):
        mine = (folds.target == target).to_numpy()
        mean = np.average(values[:, mine], axis=1, weights=folds.n_queries[mine])
        exact = steps.loc[list(zip(rows.id, rows.step)), f"loss_{target}"].to_numpy()
        assert np.linalg.norm(mean - exact) < 1e-4 * np.linalg.norm(exact)
    assert (rows.n_tokens == (steps.t1 - steps.t0).loc[list(zip(rows.id, rows.step))].to_numpy()).all()


def test_a_deleted_step_is_scored_without_its_text(finished, engine):
    path, model, records, train, whole = engine
    deleted = pd.read_parquet(finished / "spans" / "deleted.parquet")
    steps = pd.read_parquet(finished / "spans" / "steps.parquet").set_index(["id", "step"])
    exact = steps.loc[list(zip(deleted.id, deleted.step)), "loss_math"].to_numpy()
    assert np.allclose(deleted.mask_math, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())
    row = deleted.iloc[len(deleted) // 2]
    start, end = steps.loc[(row.id, row.step), ["start", "end"]]
    record = records[row.id]
    text = (record.response or "")[:start] + (record.response or "")[end:]
    shorter = replace(record, spans=(), messages=(*record.messages[:-1], Message("assistant", text)))
    pair = [next(e for e in train if e.id == row.id), *encode([shorter], path, mini())]
    before, after = example_influence(model, pair, [whole["math"]])[:, 0]
    assert row.delete_math == pytest.approx(float(before) - float(after), rel=1e-3, abs=1e-4 * abs(float(before)))
    agreement = pd.read_parquet(finished / "results" / "tables" / "step_definitions.parquet")
    assert set(agreement.target) == {"math", "code"} and agreement.n_steps.max() == len(deleted)


def test_the_strongest_steps_and_tokens_are_the_strongest(finished):
    steps = pd.read_parquet(finished / "spans" / "steps.parquet")
    train = steps[steps.set == "train"]
    table = pd.read_parquet(finished / "results" / "tables" / "top_steps.parquet")
    mine = table[(table.target == "math") & (table.side == "top")]
    assert np.allclose(mine.influence, train.loss_math.nlargest(len(mine)))
    tokens = pd.read_parquet(finished / "scores" / "tokens" / "train-00000.parquet")
    lowest = np.sort(np.concatenate(tokens.loss_code.to_list()))
    table = pd.read_parquet(finished / "results" / "tables" / "top_tokens.parquet")
    mine = table[(table.target == "code") & (table.side == "bottom")]
    assert np.allclose(mine.influence, lowest[: len(mine)])
    row, text = mine.iloc[0], tokens.set_index("id")
    whole = text.loc[row.id]
    assert whole.text[whole.starts[row.position] : whole.ends[row.position]] == row.token
    assert f"⟦{row.token}⟧" in row.preview


def test_every_query_keeps_its_strongest_examples_with_their_tokens(finished, engine):
    path, model, _, train, _ = engine
    rows = pd.read_parquet(finished / "queries" / "queries.parquet")
    queries = load_records(finished / "targets" / "queries.parquet")
    assert set(rows["query"]) == {q.id for q in queries}
    tracked = tracked_weights(model)
    curvature = Curvature.load(finished / "curvature")
    examples = encode(queries, path, mini())
    raw = gradients(Engine(model, tracked), examples[:2], np.arange(2), ["a", "b"])
    exact = example_influence(model, train, [curvature.inverse(Damping(0.1)) @ g for g in raw])
    place = {e.id: i for i, e in enumerate(train)}
    for q, query in enumerate(examples[:2]):
        mine = rows[rows["query"] == query.id]
        n = len(train)
        kept = {"bottom": min(100, n // 2), "top": min(100, (n + 1) // 2)}
        assert mine.groupby("side")["rank"].max().to_dict() == kept and len(mine) == sum(kept.values())
        order = np.sort(exact[:, q].astype(np.float64))
        close = {"rtol": 1e-3, "atol": 1e-5 * np.abs(order).max()}
        assert np.allclose(np.sort(mine[mine.side == "top"].influence), order[-kept["top"] :], **close)
        assert np.allclose(np.sort(mine[mine.side == "bottom"].influence), order[: kept["bottom"]], **close)
        values = exact[[place[i] for i in mine.id], q]
        assert np.allclose(mine.influence, values, **close)
        top = mine[mine.side == "top"]
        assert (
            top.influence.is_monotonic_decreasing and top.influence.min() >= mine[mine.side == "bottom"].influence.max()
        )
        assert all(len(t) == len(train[place[i]]) for t, i in zip(mine.tokens, mine.id))
    said = read_json(finished / "queries" / "accuracy.json")
    assert said["influence"] == "exact" and said["energy_kept"]["mean"] > 0.9
    sums, whole = np.array([t.sum(dtype=np.float64) for t in rows.tokens]), rows.influence.to_numpy(np.float64)
    lost = np.linalg.norm(sums - whole) / np.linalg.norm(whole)  # by keeping 95% of the directions' energy
    assert lost < 0.25 and said["token_sums_against_influence"] == pytest.approx(lost, rel=1e-3)


def test_results_name_model_and_versions_and_hold_the_new_tables(finished):
    results = read_json(finished / "results" / "results.json")
    assert results["model"]["parameters"] > 0 and len(results["model"]["hash"]) == 64
    assert {"python", "torch", "transformers", "infra"} <= set(results["versions"])
    assert {"permutation", "agreement", "step_definitions", "top_steps", "top_tokens"} <= set(results["tables"])
    page = (finished / "report.html").read_text()
    assert "A step masked and a step deleted" in page and "Do the skills want the same data" in page


def test_a_sample_of_queries_takes_targets_in_turn_and_pairs_go_on_one_side():
    frame = pd.DataFrame({"target": ["math"] * 50 + ["code"] * 5})
    kept = chosen_queries(frame, 20, seed=0)
    assert kept == sorted(set(kept)) and len(kept) == 20 and sum(i >= 50 for i in kept) == 5
    assert chosen_queries(frame, None, seed=0) == list(range(55))
    rows, chosen = strongest_pairs(np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]], np.float32), 5)
    assert [(q, side, i) for q, side, _, i in rows if q == 0] == [(0, "top", 0), (0, "top", 2), (0, "bottom", 1)]
    assert chosen.all() and len(rows) == 6


def test_kappa_between_rules_and_judge_is_per_label():
    steps = pd.DataFrame(
        {
            "rules": [["plan"], ["fact"], ["fact", "computation"], []] * 5,
            "judge": [["plan"], ["fact"], ["computation", "fact"], ["plan"]] * 5,
        }
    )
    table = judge_agreement(steps).set_index("label")
    assert table.kappa["fact"] == table.kappa["computation"] == 1 and np.isnan(table.kappa["subgoal"])
    assert table.kappa["plan"] == pytest.approx(0.5)  # 15 of 20 agree, 10 by chance
    assert (table.n_rules["plan"], table.n_judge["plan"]) == (5, 10) and (table.n_steps == 20).all()


def test_queries_file_is_read_a_few_rows_at_a_time(finished):
    parquet = pq.ParquetFile(finished / "queries" / "queries.parquet")
    assert all(parquet.metadata.row_group(i).num_rows <= 256 for i in range(parquet.num_row_groups))


def test_deleted_steps_are_no_more_than_the_training_examples(engine):
    records, examples = {r.id: r for r in engine[2].values()}, engine[3][:6]
    steps = [len(mark(e, records[e.id]).spans) for e in examples]
    for kept in range(1, 7):
        found = within_budget(examples, records, sum(steps[:kept]))
        assert [e.id for e in found] == [e.id for e in examples[:kept]]
    assert len(within_budget(examples, records, 0)) == 1
