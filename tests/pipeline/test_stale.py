"""A changed tokenizer, chat template or generation configuration makes what depends on it anew, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.evals import EvalSettings
from infra.models import (
    generation_config_hash,
    load_model,
    load_tokenizer,
    model_hash,
    tokenizer_hash,
)
from infra.models.generation import Sampling
from infra.pipeline import plan_table, stages_of
from infra.pipeline.score import score_recipe, score_stages
from infra.pipeline.stage import Stage
from infra.pipeline.standalone import evaluate_tasks
from infra.store import RunFolder
from infra.world import BASE_MODEL
from tests.pipeline.conftest import mini


def change_template(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = tokenizer.chat_template.replace("'\\n'", "'\\n\\n'")
    tokenizer.save_pretrained(folder)


def add_token(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["therefore"])
    tokenizer.save_pretrained(folder)


def change_ends(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [2, 5]}))


def model_parts(folder: Path) -> dict[str, str]:
    hashes = {"weights": model_hash, "tokenizer": tokenizer_hash, "generation config": generation_config_hash}
    return {part: found(folder) for part, found in hashes.items()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(BASE_MODEL, tmp_path / "model")
    return tmp_path / "model"


def pretend(stages: list[Stage], folder: Path) -> None:
    """Finish every stage with an output of its own."""
    run, digests = RunFolder(folder), {}
    for stage in stages:
        inputs = {**stage.inputs, **{n: digests[n] for n in stage.needs}}
        with run.writing(stage.name, stage.config, inputs) as part:
            (part / "out").write_text(stage.name)
        made = run.manifest(stage.name)
        assert made is not None
        digests[stage.name] = made.digest


def to_do(stages: list[Stage], folder: Path) -> set[str]:
    return {name for name, state, _ in plan_table(stages, RunFolder(folder)) if state != "done"}


@pytest.mark.parametrize("change", [change_template, add_token, change_ends])
def test_a_model_s_parts_are_hashed_apart_from_folder_and_memory_alike(
    model: Path, change: Callable[[Path], None]
) -> None:
    before = model_parts(model)
    loaded, tokenizer = load_model(model)
    in_memory = (model_hash(loaded), tokenizer_hash(tokenizer), generation_config_hash(loaded))
    assert in_memory == tuple(before.values())
    tokenizer(["a", "a b"], padding=True, truncation=True, max_length=5)  # leaves its traces in the tokenizer
    assert tokenizer_hash(tokenizer) == before["tokenizer"]
    change(model)
    changed = {part for part, found in model_parts(model).items() if found != before[part]}
    assert changed == ({"generation config"} if change is change_ends else {"tokenizer"})


def test_a_folder_without_a_generation_config_has_the_one_its_config_implies(model: Path) -> None:
    (model / "generation_config.json").unlink()
    assert generation_config_hash(model) == generation_config_hash(load_model(model)[0])


@pytest.mark.parametrize("change", [change_template, add_token, change_ends])
def test_score_makes_anew_what_read_a_changed_tokenizer_and_keeps_what_generates_nothing(
    model: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "1 + 1?", "response": "2"}) + "\n")
    recipe, out = score_recipe(str(rows), str(rows), model={"base": str(model)}), tmp_path / "run"
    pretend(score_stages(recipe, None), out)
    assert to_do(score_stages(recipe, None), out) == set()
    change(model)
    left = to_do(score_stages(recipe, None), out)
    if change is change_ends:
        assert left == set()
    else:
        assert {"tokenized", "targets", "spans"} <= left and "records" not in left


@pytest.mark.parametrize("change", [change_template, add_token, change_ends])
def test_run_trains_and_answers_anew_after_a_change_of_the_base_model_s_tokenizer_or_generation(
    model: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    recipe, out = mini(model={"base": str(model)}), tmp_path / "run"
    pretend(stages_of(recipe, out), out)
    assert to_do(stages_of(recipe, out), out) == set()
    change(model)
    left = to_do(stages_of(recipe, out), out)
    assert {"evals/base", "sft/original-s0", "responses", "evals/original-s0"} <= left and "records" not in left


@pytest.mark.parametrize("change", [change_template, add_token, change_ends])
def test_eval_draws_again_after_a_change_and_not_without_one(
    model: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    settings = EvalSettings(("world-math",), Sampling(max_new_tokens=4), limit=3)

    def drawn() -> int:
        evaluate_tasks(str(model), tmp_path / "eval", settings)
        return len((tmp_path / "eval" / "generations.jsonl").read_text().splitlines())

    assert drawn() == drawn() == 3
    change(model)
    assert drawn() == 6
