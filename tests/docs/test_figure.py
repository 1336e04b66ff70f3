"""The picture of what influence is: its slopes are those of the retrained points beside them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from docgen.figure import OUT, draw, f_after, small_run

NUMBERS = json.loads((OUT / "influence.json").read_text())


@pytest.mark.parametrize("example", NUMBERS["examples"], ids=lambda e: e["name"])
def test_influence_is_the_slope_of_f_at_weight_one(example: dict) -> None:
    weights, f = np.array(NUMBERS["weights"]), np.array(example["f"])
    near = np.abs(weights - 1) <= 0.25
    slope = np.polyfit(weights[near], f[near], 1)[0]
    largest = max(abs(e["influence"]) for e in NUMBERS["examples"])
    assert example["influence"] == pytest.approx(slope, abs=0.04 * largest)


def test_the_figure_is_drawn_from_the_numbers_beside_it(tmp_path) -> None:
    draw(NUMBERS, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (OUT / "influence.svg").read_bytes()


def test_the_numbers_are_those_of_real_training() -> None:
    run, queries = small_run()
    example = NUMBERS["examples"][0]
    index = [e.id for e in run.examples].index(example["id"])
    assert f_after(run, queries, index, 0.0) == pytest.approx(example["f"][0], rel=1e-3)
