"""`infra validate` on a finished run: what is retrained, and what the report then says beside every effect."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from infra.pipeline import run_recipe
from infra.pipeline.recipe import validation_settings
from infra.pipeline.validity import validate_finished
from infra.store import read_json
from tests.pipeline.conftest import mini


def states(folder: Path) -> dict[str, int]:
    return {s: (folder / s / "manifest.json").stat().st_mtime_ns for s in ("scores", "arms", "measure", "effects")}


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_too_few_subsets_validate_nothing(run: Path) -> None:
    before = states(run)
    settings = validation_settings(minutes=60, subsets=4, seeds=2, kinds=["half"], methods=["random"], required=True)
    table = validate_finished(run, settings)
    assert set(table.method) == {"ekfac", "random"} and set(table.protocol) == {"same_seed", "seed_mean"}
    after = states(run)
    assert {s for s in before if before[s] != after[s]} == {"effects"}  # nothing was trained or scored again
    results = read_json(run / "summary.json")["results"]
    assert {row["validity"] for row in results["tables"]["effects"]} == {"not validated"}
    assert "not validated" in results["validation"] and results["tables"]["validation_lds"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Do the scores predict retraining" in page and "fewer than the protocol asks" in page


@pytest.mark.slow
@pytest.mark.timeout(5400)  # 804 retrains: 12 minutes on two idle cores
def test_at_the_protocols_size_validity_stands_beside_every_effect(run: Path) -> None:
    settings = validation_settings(
        minutes=240, kinds=["half", "step_mask"], methods=["random", "unrolled"], required=True
    )
    validate_finished(run, settings)
    tables = read_json(run / "summary.json")["results"]["tables"]
    for name, words in (("effects", "half subsets, 3 seeds"), ("behaviours", "subsets of half the steps, 3 seeds")):
        assert tables[name] and all(words in row["validity"] for row in tables[name]), name
    assert {row["validity"] for row in tables["token_classes"]} == {"not validated"}  # tokens were not removed
    before = (run / "validation" / "runs.jsonl").read_bytes()
    run_recipe(mini(), run)  # the plain command keeps what was measured
    assert (run / "validation" / "runs.jsonl").read_bytes() == before
    effects = pd.read_parquet(run / "results" / "tables" / "effects.parquet")
    assert effects.validity.str.startswith("LDS").all()
