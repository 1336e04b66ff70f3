"""The validation stage of a run: where it stands, what it writes, how a refusal is said."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from infra.errors import ArtifactError, PlanTooLong, RecipeError
from infra.experiments.retraining import read_run
from infra.pipeline import stages_of, validity
from infra.pipeline.graph import job_of_run
from infra.pipeline.recipe import Recipe, load_recipe, validation_settings
from infra.pipeline.stage import Context
from infra.store import RunFolder
from infra.world import BASE_MODEL

QUICK = BASE_MODEL.parent / "quick.yaml"


def recipe(**settings: object) -> Recipe:
    return load_recipe(QUICK).model_copy(update={"validation": validation_settings(**settings) if settings else None})


def test_effects_and_results_wait_for_the_validation(tmp_path: Path) -> None:
    plain = {s.name: s for s in stages_of(recipe(), tmp_path)}
    asked = {s.name: s for s in stages_of(recipe(minutes=5), tmp_path)}
    assert validity.STAGE not in plain and list(asked).index("scores") < list(asked).index(validity.STAGE)
    for name in ("effects", "results"):
        assert set(asked[name].needs) - set(plain[name].needs) == {validity.STAGE}
    assert asked[validity.STAGE].config["validation"]["minutes"] == 5


def test_a_validated_run_stays_validated(tmp_path: Path) -> None:
    asked = recipe(minutes=5, seeds=4)
    stage = next(s for s in stages_of(asked, tmp_path) if s.name == validity.STAGE)
    with RunFolder(tmp_path).writing(stage.name, stage.config, {}) as part:
        (part / "validation.json").write_text("{}")
    assert validity.with_recorded(recipe(), tmp_path).validation == asked.validation
    assert validity.STAGE in [s.name for s in stages_of(recipe(), tmp_path)]


def test_a_refusal_is_said_in_the_report_and_ends_only_what_requires_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PlanTooLong("the subset plan would take about 90.0 minutes and 5 were given")

    monkeypatch.setattr(validity, "validate_run", refuse)

    def validate(asked: Recipe) -> None:
        [stage] = validity.VALIDATION.stages(job_of_run(asked))
        validity.run_validation(Context(stage, tmp_path, tmp_path))

    validate(recipe(minutes=5))
    assert "refused: the subset plan would take about 90.0 minutes" in validity.validation_note(tmp_path)["validation"]
    assert validity.validation_tables(tmp_path) == {}
    with pytest.raises(PlanTooLong, match=r"about 90\.0 minutes"):
        validity.measured_table(tmp_path)
    with pytest.raises(PlanTooLong):
        validate(recipe(minutes=5, required=True))


def test_the_note_says_what_was_left_out_and_how_smooth_training_is(tmp_path: Path) -> None:
    told = {"validity": {"example": {}}, "left_out": [["token", "seed_mean"]], "metasmoothness": [0.9, 0.85]}
    (tmp_path / "validation.json").write_text(json.dumps(told))
    said = validity.validation_note(tmp_path)["validation"]
    assert "token (seed_mean)" in said and "0.90, 0.85" in said
    (tmp_path / "validation.json").write_text(json.dumps({"validity": {}, "left_out": []}))
    assert "not validated" in validity.validation_note(tmp_path)["validation"]


def test_the_page_shows_whole_targets(tmp_path: Path) -> None:
    pd.DataFrame({"target": ["math", "math:3", "mean"], "value": [0.3, 0.2, 0.3]}).to_parquet(tmp_path / "lds.parquet")
    assert validity.validation_tables(tmp_path)["validation_lds"].target.tolist() == ["math", "mean"]


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no run folder"):
        validity.validate_finished(tmp_path, validation_settings())
    (tmp_path / "recipe.json").write_text(json.dumps(recipe().model_dump(mode="json", by_alias=True)))
    with pytest.raises(ArtifactError, match=r"sft\.json is missing.*unrolled.*`infra run` records"):
        validity.validate_finished(tmp_path, validation_settings())
    with pytest.raises(ArtifactError, match="LDS"):
        read_run(tmp_path)
    with pytest.raises(RecipeError, match="kinds"):
        validation_settings(kinds=["whole"])
