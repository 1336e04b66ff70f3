"""Strategies in a real run: training sets differ from their controls in the use of influence and in nothing else."""

import numpy as np
import pandas as pd
import pytest

from infra.errors import InputError, RecipeError
from infra.experiments.selection import CONTROLS
from infra.pipeline import run_recipe, stages_of
from infra.pipeline.data import load_records
from infra.pipeline.recipe import parse_recipe
from infra.pipeline.strategies import behaviour_influence, run_strategies
from infra.store import read_json
from tests.pipeline.conftest import MINI, context_of, mini

ALL = {"names": ["select", "prune", "weights", "truncate"], "behaviours": ["verification"], "group": "family"}


@pytest.fixture(scope="module")
def made(finished, tmp_path_factory):
    """The training sets of every strategy, from the scores of the undisturbed mini run."""
    out = tmp_path_factory.mktemp("strategies")
    run_strategies(context_of("strategies", mini(strategies=ALL), out, finished))
    return finished, out


@pytest.mark.slow
def test_every_strategy_has_its_control_a_model_and_a_row(tmp_path):
    guided = tmp_path / "run"
    run_recipe(mini(strategies=ALL, tasks=[{**t, "limit": 6} for t in MINI["tasks"]]), guided)
    tables = read_json(guided / "summary.json")["results"]["tables"]
    rows = pd.DataFrame(tables["strategies"])
    pairs = set(zip(rows.arm, rows.control))
    assert {(s, c) for s, c in CONTROLS.items()} | {("select", "flip")} <= pairs
    assert rows.role.eq("exploratory").all() and rows.n_problems.gt(0).all()
    assert set(CONTROLS) | set(CONTROLS.values()) <= set(pd.DataFrame(tables["accuracy"]).arm)
    assert {"select", "random-selection", "prune", "weights"} <= set(pd.DataFrame(tables["arms"]).arm)
    page = (guided / "report.html").read_text()
    assert "random-selection" in page or "random selection" in page


def test_a_strategy_and_its_control_change_equally_much(made):
    run, out = made
    train = {r.id: r for r in load_records(run / "records/train.parquet")}
    sets = {n: load_records(out / f"{n}.parquet") for s in CONTROLS for n in (s, CONTROLS[s])}
    for strategy, control in CONTROLS.items():
        a, b = sets[strategy], sets[control]
        assert len(a) == len(b), strategy
        assert [r.domain for r in a] != [] and sum(r.domain == "math" for r in a) == sum(r.domain == "math" for r in b)
    flip = read_json(run / "arms/flip.json")
    taken = {i for i, w in read_json(out / "select.json")["weight_changes"].items() if w < 0}
    assert taken == set(flip["out"])
    weights = np.array([r.weight for r in sets["weights"]])
    shuffled = np.array([r.weight for r in sets["shuffled-weights"]])
    assert weights.min() >= 0.5 and weights.max() <= 2 and not np.array_equal(weights, shuffled)
    cut = [r for r in sets["truncate"] if r.id not in train]
    assert cut and all(len(r.response) < len(train[r.attributes["cut_from"]].response) for r in cut)


def test_a_selected_record_is_worth_more_than_a_randomly_selected_one(made):
    run, out = made
    table = pd.read_parquet(run / "scores/examples.parquet").set_index("id")
    scaled = sum(table[c] / table[c].std() for c in table if c.startswith("score_") and ":" not in c)

    def worth(arm):
        changes = read_json(out / f"{arm}.json")["weight_changes"]
        return np.mean([scaled[i] for i, w in changes.items() if w > 0])

    assert worth("select") > worth("random-selection")


def test_behaviour_influence_is_a_mean_per_token():
    steps = pd.DataFrame(
        {
            "behaviours": [["plan"], ["plan", "fact"], ["fact"], []],
            "t0": [0, 0, 0, 0],
            "t1": [2, 2, 4, 1],
            "loss_math": [1.0, 3.0, -3.0, -1.0],
        }
    )
    found = behaviour_influence(steps, ["math"]).set_index("behaviour")
    spread = steps.loss_math.std()
    assert found.loc["plan", "per_token"] == pytest.approx(4 / 4 / spread)
    assert found.loc["fact", "per_token"] == pytest.approx(0.0)
    assert found.n_steps.to_dict() == {"plan": 2, "fact": 2}
    with pytest.raises(InputError, match="token_targets"):
        behaviour_influence(steps, ["code"])


def test_selection_needs_the_flip(tmp_path):
    raw = {**MINI, "arms": {**MINI["arms"], "names": ["random-swap"]}, "strategies": {"names": ["select"]}}
    with pytest.raises(RecipeError, match="add 'flip'"):
        parse_recipe(raw, where="mini", folder=tmp_path)
    assert not any("strategies" in s.name for s in stages_of(mini(), tmp_path))
