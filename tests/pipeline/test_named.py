"""The embedded world is one more base model and data source, known by name in one place each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import infra
from infra.data import is_named_data, read_records
from infra.errors import InputError
from infra.models import is_named_model, load_tokenizer, model_folder, model_hash, model_place, tokenizer_hash
from infra.pipeline.data import RECORDS, load_records, make_records
from infra.pipeline.graph import given_models
from infra.pipeline.needs import needs_table
from infra.pipeline.recipe import parse_recipe
from infra.pipeline.stage import Context
from infra.pipeline.step import Job
from infra.world import BASE_MODEL, build_world
from tests.pipeline.conftest import MINI, mini


def test_a_named_model_is_loaded_hashed_and_found_like_a_folder(tmp_path: Path) -> None:
    assert model_place("world") == str(BASE_MODEL) and model_place("org/name") == "org/name"
    assert model_folder("world") == BASE_MODEL and model_hash("world") == model_hash(BASE_MODEL)
    assert tokenizer_hash("world") == tokenizer_hash(load_tokenizer(BASE_MODEL))
    assert given_models(mini()) == {"base": str(BASE_MODEL)}
    (tmp_path / "world").mkdir()  # a folder of that name beside the recipe is not meant
    assert parse_recipe(MINI, where="mini", folder=tmp_path).model.base == "world" and is_named_model("world")
    assert not is_named_model("./world")


def test_a_named_source_gives_training_data_and_pool_as_the_world_has_them(tmp_path: Path) -> None:
    world = build_world("opposite")
    assert read_records("world:opposite").records == [*world.train, *world.pool]
    assert len(read_records("world:opposite", limit=7).records) == 7 and not is_named_data("worlds.jsonl")
    with pytest.raises(InputError, match="mars"):
        read_records("world:mars")
    recipes = [
        mini(data={"world": "opposite", "limit": 5}),
        mini(data={"sources": [{"path": "world:opposite", "shares": "own"}], "limit": 5}),
    ]
    made = []
    for name, recipe in zip("ab", recipes):
        [stage] = RECORDS.stages(Job(recipe))
        (tmp_path / name).mkdir()
        make_records(Context(stage, tmp_path / name, tmp_path))
        made.append({w: (tmp_path / name / f"{w}.parquet").read_bytes() for w in ("train", "pool")})
    assert made[0] == made[1]
    ids = {r.id for r in load_records(tmp_path / "a" / "train.parquet")}
    assert ids <= {r.id for r in world.train} and len(ids) == 10


def test_a_dry_run_says_that_they_are_embedded() -> None:
    rows = {what: (where, state) for what, where, state in needs_table(mini())}
    assert rows["base model"] == ("world", "embedded")
    assert rows["training data and pool, as marked"] == ("world:default", "embedded")
    assert rows["task world-math: target math and accuracy"][1] == "embedded"


def test_no_other_room_compares_with_the_name() -> None:
    root = Path(infra.__file__).parent
    found = [
        p.relative_to(root).as_posix()
        for p in root.rglob("*.py")
        if re.search(r"""[=!]= "world"|import BASE_MODEL""", p.read_text()) and "world/" not in p.as_posix()
    ]
    assert found == []
