"""Carrying out plans: units become weights, every run is listed, a killed plan goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.data import Message, Record, TokenizedExample
from infra.errors import ArtifactError, InputError, ResourceError
from infra.experiments.retraining import (
    Budget,
    FlatModel,
    PlannedRun,
    Problem,
    Speed,
    cut_response,
    deal_folds,
    example_units,
    finished_part,
    fit_budget,
    gathered,
    lds_table,
    loss_weights,
    make_subset_plan,
    metasmoothness,
    query_values,
    removal,
    run_retrains,
    runs_of,
    score_methods,
    step_units,
    sum_tokens,
    token_units,
    train,
)
from infra.experiments.retraining.plan import RECORDED, SubsetPlan
from tests.experiments.retraining.tiny import tiny_examples, tiny_plan

EXAMPLES = tiny_examples(24, seed=1)
QUERIES = tiny_examples(8, seed=2, prefix="q")
UNITS = {"example": example_units(EXAMPLES), "token": token_units(EXAMPLES)}
TARGETS = deal_folds(["math"] * 4 + ["code"] * 4, folds=2)
BLOCKS = [("half", "same_seed"), ("half", "seed_mean"), ("token", "same_seed")]


def problem_of(flat: FlatModel, **changes: object) -> Problem:
    return replace(Problem(flat, tiny_plan(24, epochs=1), EXAMPLES, QUERIES, UNITS, stack=25), **changes)


def small_plan(problem: Problem, n: int = 12) -> SubsetPlan:
    return make_subset_plan(problem, BLOCKS, n_subsets=n, extra={"below_protocol": True})


def test_runs_measure_what_retraining_by_hand_gives(flat: FlatModel, tmp_path: Path) -> None:
    problem = problem_of(flat)
    plan = small_plan(problem)
    journal = run_retrains(problem, plan, tmp_path)
    keep = plan.subsets["half"][3]
    by_hand = train(flat, problem.order(102), EXAMPLES, loss_weights(EXAMPLES, keep.astype(float)))
    assert np.allclose(journal.values["half/3/102"], query_values(flat, by_hand, QUERIES), rtol=1e-9)
    assert gathered(journal, plan, "half", "seed_mean").shape == (12, 3, 8)
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert sum(x["event"] == "started" for x in lines) == len(plan.runs) == len(journal.values)


def test_a_killed_plan_goes_on_to_the_same_numbers(flat: FlatModel, tmp_path: Path) -> None:
    problem = problem_of(flat, stack=1)
    plan = small_plan(problem, n=3)
    whole = run_retrains(problem, plan, tmp_path / "a")
    run_retrains(problem, plan, tmp_path / "b")
    lines = (tmp_path / "b/runs.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b/runs.jsonl").write_text("".join(lines[:9]) + lines[9][:20])  # a writer killed in its line
    resumed = run_retrains(problem, plan, tmp_path / "b")
    assert all(np.array_equal(resumed.values[r.id], whole.values[r.id]) for r in plan.runs)
    with pytest.raises(ArtifactError, match="another subset plan"):
        run_retrains(problem, small_plan(problem, n=5), tmp_path / "b")


def test_workers_share_a_plan(flat: FlatModel, tmp_path: Path) -> None:
    problem = problem_of(flat, stack=1)
    plan = small_plan(problem, n=3)
    first = run_retrains(problem, plan, tmp_path, worker=(1, 2))
    assert len(first.values) == -(-len(plan.runs) // 2)
    run_retrains(problem, plan, tmp_path, worker=(2, 2))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    both = run_retrains(problem, plan, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before  # nothing is left to run
    whole = run_retrains(problem, plan, tmp_path / "whole")
    assert all(np.array_equal(both.values[r.id], whole.values[r.id]) for r in plan.runs)
    assert {r.id for r in runs_of(plan, "half", "seed_mean")} <= set(both.seconds)
    with pytest.raises(InputError, match="worker 3 of 2"):
        run_retrains(problem, plan, tmp_path, worker=(3, 2))


def test_what_is_finished_is_told_from_what_is_not(flat: FlatModel, tmp_path: Path) -> None:
    problem = problem_of(flat)
    plan = small_plan(problem, n=3)
    first = replace(plan, runs=plan.runs[:9])  # half/same_seed and a part of the rest
    journal = run_retrains(problem, first, tmp_path)
    done, left = finished_part(plan, journal)
    assert done.settings["blocks"] == [["half", "same_seed"]]
    assert left == [["half", "seed_mean"], ["token", "same_seed"]]


def test_the_time_given_is_kept_and_nothing_is_lost(flat: FlatModel, tmp_path: Path) -> None:
    problem = problem_of(flat, stack=1)
    with pytest.raises(ResourceError, match="goes on from there"):
        run_retrains(problem, small_plan(problem), tmp_path, seconds=0.0)


def test_a_plan_that_takes_too_long_is_refused_with_its_estimate(flat: FlatModel) -> None:
    problem, slow = problem_of(flat), Speed(tokens_per_second=1.0, query_seconds=1.0)
    tokens = sum(len(e) for e in EXAMPLES)
    minutes = 100 * (tokens / 2 + 1) / 60
    with pytest.raises(ResourceError, match=f"about {minutes:.1f} minutes"):
        fit_budget(problem, [("half", "same_seed")], Budget(1.0), slow)
    sizing = fit_budget(problem, BLOCKS, Budget(minutes + 1), slow)
    assert sizing.blocks == (("half", "same_seed"),) and len(sizing.left_out) == 2
    with pytest.raises(ResourceError):
        fit_budget(problem, BLOCKS, Budget(minutes + 1, insist=True), slow)


def test_unrolled_scores_predict_small_removals(flat: FlatModel, tmp_path: Path) -> None:
    """Where training is smooth (a large eps), dropping one example of 24 moves f as the derivative says."""
    problem = problem_of(flat, training=tiny_plan(24, epochs=1, eps=1.0, learning_rate=0.1))
    scores = score_methods(problem, TARGETS, ["unrolled"])["unrolled"]
    keep = ~np.eye(24, dtype=bool)
    plan = replace(
        small_plan(problem), subsets={"half": keep}, runs=tuple(PlannedRun("half", s, RECORDED) for s in range(24))
    )
    plan = replace(plan, settings={**plan.settings, "blocks": [["half", "same_seed"]]})
    journal = run_retrains(problem, plan, tmp_path)
    table, pairs = lds_table(
        problem, plan, journal, {"unrolled": scores, "flipped": negated(scores)}, TARGETS, n_boot=50
    )
    best = table[(table.method == "unrolled") & (table.target == "mean")].iloc[0]
    assert best.value > 0.95 and best.ceiling == 1.0 and best.n_subsets == 24
    assert (pairs[pairs.target == "mean"].difference < -1).all() and pairs.excludes_zero.all()


def negated(scores):  # type: ignore[no-untyped-def]
    return replace(scores, examples=-scores.examples, tokens=None)


def test_removal_lists_every_extreme(flat: FlatModel, tmp_path: Path) -> None:
    problem = problem_of(flat)
    scores = score_methods(problem, TARGETS, ["unrolled"])["unrolled"]
    found = removal(problem, {"unrolled": scores}, TARGETS, tmp_path, fractions=(0.25,))
    change = found.set_index(["target", "side"]).query_loss_change
    assert (change.xs("top", level="side") > change.xs("bottom", level="side")).all()
    assert (tmp_path / "plan.json").exists() and len(found) == 4


def test_training_with_a_tiny_step_is_smooth(flat: FlatModel) -> None:
    smooth = metasmoothness(flat, tiny_plan(24, epochs=1, eps=1e-2), EXAMPLES, step=1e-4, directions=2, stack=5)
    assert (smooth > 0.99).all()


def responses() -> tuple[list[Record], list[TokenizedExample]]:
    text = "Two and two make four. So the answer is four. \\boxed{4}"
    record = Record("r", (Message("user", "q?"), Message("assistant", text)), "math", "test")
    whole = "q?" + text
    offsets = np.array([(i, i + 1) for i in range(len(whole))], np.int32)
    mask = np.arange(len(whole)) >= 2
    ids = np.arange(len(whole), dtype=np.int64) % 24
    return [record], [TokenizedExample("r", ids, mask, offsets, whole, 2)]


def test_steps_partition_the_response_and_are_cut_out_of_its_text() -> None:
    records, examples = responses()
    units = step_units(examples, records)
    assert len(units) >= 2
    assert units.start[0] == 2 and units.end[-1] == len(examples[0]) and (units.start[1:] == units.end[:-1]).all()
    shorter = cut_response(records[0], units, np.array([0])).response
    assert shorter is not None and shorter.startswith("So the answer") and "Two and two" not in shorter
    scores = [np.arange(2 * len(examples[0]), dtype=float).reshape(2, -1)]
    assert np.allclose(sum_tokens(units, scores).sum(0), scores[0][:, 2:].sum(1))


def test_deleting_every_step_leaves_an_example_without_loss(flat: FlatModel) -> None:
    records, examples = responses()
    units = step_units(examples, records)
    problem = Problem(
        flat,
        tiny_plan(1),
        examples,
        QUERIES,
        {"step": units},
        records=records,
        encode=lambda rs: [replace(examples[0], id=r.id) for r in rs],
    )
    gone = problem.without("step_delete", np.zeros(len(units), bool), problem.training)
    assert not gone.weights[0].any()
    some = problem.without("step_delete", np.arange(len(units)) > 0, problem.training)
    assert some.weights[0].any()
