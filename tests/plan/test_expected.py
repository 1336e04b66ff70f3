"""What a run says of its stages beforehand: from the plan's formulas, learnt from, and noted beside what they took."""

from __future__ import annotations

import json

import pytest

from infra.layout import Run
from infra.models.shape import shape_of
from infra.pipeline.plan import DEVICES, Amounts, Costs, as_it_stands
from infra.pipeline.plan import expected as module
from infra.pipeline.plan.expected import Expectations, expectations, near
from infra.pipeline.runner import run_stages
from infra.pipeline.score import score_recipe
from infra.pipeline.stage import Stage
from infra.store import RunFolder
from tests.pipeline.conftest import mini

DEVICE = DEVICES["h100"]


@pytest.fixture
def costs() -> Costs:
    amounts = Amounts(600, 600, 0, 250.0, 0.7, 80.0, 170.0, (), given_queries=40)
    return Costs(score_recipe("t.jsonl", "q.jsonl"), shape_of("SmolLM2-135M"), amounts, trains=False)


def run_costs() -> Costs:
    amounts = Amounts(600, 600, 0, 250.0, 0.7, 80.0, 170.0, ())
    return Costs(mini(), shape_of("SmolLM2-135M"), amounts)


def test_the_first_figures_are_those_of_infra_plan(costs, tmp_path):
    found = Expectations(costs, DEVICE, Run(tmp_path))
    for stage in as_it_stands(costs, DEVICE).stages:
        told = found.of(stage.stage)
        assert (told.seconds, told.memory) == (stage.seconds, stage.memory)


def test_later_members_of_a_family_are_expected_to_take_what_the_finished_ones_took(tmp_path):
    found = Expectations(run_costs(), DEVICE, Run(tmp_path))
    first = found.of("sft/original-s0")
    found.learn("sft/original-s0", 3 * first.seconds, 0.5 * first.memory)
    second, other = found.of("sft/flip-s0"), found.of("evals/base")
    assert second.seconds == pytest.approx(3 * first.seconds) and second.memory == pytest.approx(first.memory / 2)
    found.learn("sft/flip-s0", 3 * first.seconds, 0.5 * first.memory)  # the correction does not grow with each
    assert found.of("sft/flip-s0").seconds == pytest.approx(3 * first.seconds)
    assert other == Expectations(run_costs(), DEVICE, Run(tmp_path)).of("evals/base")


def test_a_stage_that_no_formula_fits_is_told_without_figures(costs, tmp_path, monkeypatch):
    def unknown(self, name):
        raise KeyError(name)

    monkeypatch.setattr(Costs, "stage", unknown)
    assert Expectations(costs, DEVICE, Run(tmp_path)).of("scores") is None


def test_a_short_run_measures_no_machine(costs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "calibrate", lambda costs: pytest.fail("measured"))
    assert expectations(costs, Run(tmp_path), []) is None
    assert expectations(costs, Run(tmp_path), ["targets"]) is None
    assert expectations(None, Run(tmp_path), ["scores"]) is None


@pytest.mark.parametrize(("told", "taken", "right"), [(1.29, 1.0, True), (1.31, 1.0, False), (0.69, 1.0, False)])
def test_thirty_per_cent_is_near(told, taken, right):
    assert near(told, taken) is right


def test_a_runs_log_has_what_was_expected_beside_what_it_took(costs, tmp_path, capsys):
    def work(context):
        (context.out / "x").write_text("x")

    told = Expectations(costs, DEVICE, Run(tmp_path))
    run_stages([Stage("curvature", work), Stage("scores", work, ("curvature",))], RunFolder(tmp_path), expected=told)
    said = capsys.readouterr().err
    assert "curvature ... about " in said and "(expected " in said
    entries = [json.loads(line) for line in (tmp_path / "runtime.jsonl").read_text().splitlines()]
    assert {e["stage"] for e in entries} == {"curvature", "scores"}
    for entry in entries:
        wanted = told.of(entry["stage"])
        assert entry["expected_memory_bytes"] == pytest.approx(wanted.memory)
        assert entry["expected_seconds"] == pytest.approx(wanted.seconds, abs=1e-3)
    told.learn("scores", 100.0, told.of("scores").memory)
    assert "memory of 1 of 1 stages" in told.summary()
