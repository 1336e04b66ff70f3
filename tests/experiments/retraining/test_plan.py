"""Plans are written before anything runs and do not change afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.errors import ArtifactError, InputError
from infra.experiments.retraining import (
    Problem,
    SubsetPlan,
    example_units,
    flat_model,
    load_plan,
    make_subset_plan,
    random_subsets,
    token_units,
)
from tests.experiments.retraining.tiny import tiny_examples, tiny_model, tiny_plan

EXAMPLES = tiny_examples(30, seed=1)
QUERIES = tiny_examples(4, seed=2, prefix="q")


BLOCKS = [("half", "same_seed"), ("token", "seed_mean")]
TOKENS = token_units(EXAMPLES)
UNITS = {"example": example_units(EXAMPLES), "token": TOKENS, "step": TOKENS}  # a step of one token is a step
PROBLEM = Problem(flat_model(tiny_model()), tiny_plan(30), EXAMPLES, QUERIES, UNITS, model_hash="m")


def a_plan(problem: Problem = PROBLEM, blocks: Any = BLOCKS, **changes: Any) -> SubsetPlan:
    return make_subset_plan(problem, blocks, **changes)


def test_a_plan_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    plan = a_plan()
    plan.commit(tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json")
    assert again.hash == plan.hash and again.runs == plan.runs
    assert all(np.array_equal(again.subsets[k], s) for k, s in plan.subsets.items())
    assert len({r.id for r in plan.runs}) == len(plan.runs) == 100 + 1 + 3 * 101
    plan.commit(tmp_path / "plan.json")  # the same plan again is no change


def test_another_plan_in_the_way_is_refused(tmp_path: Path) -> None:
    a_plan().commit(tmp_path / "plan.json")
    with pytest.raises(ArtifactError, match="another subset plan"):
        a_plan(seed=1).commit(tmp_path / "plan.json")


def test_an_edited_plan_is_noticed(tmp_path: Path) -> None:
    a_plan().commit(tmp_path / "plan.json")
    raw = json.loads((tmp_path / "plan.json").read_text())
    raw["settings"]["seeds"] = [1, 2, 4]
    (tmp_path / "plan.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match="edited"):
        load_plan(tmp_path / "plan.json")


def test_hash_depends_on_data_order_and_settings() -> None:
    plans = [
        a_plan(),
        a_plan(seed=1),
        a_plan(seeds=(1, 2, 3)),
        a_plan(replace(PROBLEM, model_hash="n")),
        a_plan(replace(PROBLEM, training=tiny_plan(30, learning_rate=2e-3))),
        a_plan(replace(PROBLEM, examples=EXAMPLES[::-1])),
        a_plan(replace(PROBLEM, queries=QUERIES[:3])),
        a_plan(replace(PROBLEM, form="summed")),
    ]
    assert len({p.hash for p in plans}) == len(plans)
    assert a_plan().hash == a_plan().hash


@pytest.mark.parametrize("kind, units, dropped", [("half", 30, 15), ("drop1", 2400, 24), ("token", 31, 16)])
def test_subsets_have_one_size_and_are_uniform(kind: str, units: int, dropped: int) -> None:
    keep = random_subsets(kind, units, 200, seed=0)
    assert set((~keep).sum(1)) == {dropped}
    share = dropped / units
    spread = np.sqrt(share * (1 - share) / 200)
    assert np.abs((~keep).mean(0) - share).max() < 5 * spread
    assert len({row.tobytes() for row in keep}) == 200


def test_step_kinds_share_their_subsets() -> None:
    plan = a_plan(blocks=[("step_mask", "same_seed"), ("step_delete", "same_seed")])
    assert np.array_equal(plan.subsets["step_mask"], plan.subsets["step_delete"])


def test_the_protocols_minima_hold() -> None:
    with pytest.raises(InputError, match="99 subsets"):
        a_plan(n_subsets=99)
    with pytest.raises(InputError, match="2 seeds"):
        a_plan(seeds=(1, 2))
    with pytest.raises(InputError, match="1% drops of 30 examples"):
        a_plan(blocks=[("drop1", "same_seed")])
    assert a_plan(n_subsets=5, extra={"below_protocol": True}).settings["below_protocol"]
