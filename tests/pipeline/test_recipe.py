"""A recipe is checked before anything runs, and each mistake is one sentence that names the key."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import RecipeError
from infra.pipeline.recipe import Recipe, load_recipe, parse_recipe

MINIMAL = {"name": "x", "data": {"world": "default"}, "tasks": [{"name": "world-math", "target": "math"}]}


def check(raw, match):
    with pytest.raises(RecipeError, match=match):
        parse_recipe(raw, where="r.yaml", folder=Path("."))


def test_a_minimal_recipe_is_filled_with_stated_defaults():
    recipe = parse_recipe(MINIMAL, where="r", folder=Path("."))
    assert recipe.arms.fraction == 0.3 and recipe.curvature.damping == 0.1


def test_unknown_keys_are_named_with_the_nearest_known_one():
    check({**MINIMAL, "seedz": 3}, "unknown key 'seedz'; did you mean 'seed")
    check({**MINIMAL, "sft": {"learning_rat": 1}}, r"unknown key 'sft.learning_rat'; did you mean 'learning_rate'")
    sources = {"sources": [{"path": "a.jsonl", "shema": "auto"}]}
    check({**MINIMAL, "data": sources}, r"unknown key 'data.sources.0.shema'; did you mean 'schema'")


def test_values_out_of_range_are_named():
    check({**MINIMAL, "seeds": 0}, "'seeds'")
    check({**MINIMAL, "arms": {"fraction": 2}}, "arms.fraction")
    check({**MINIMAL, "data": {}}, "either data.world or data.sources")
    check({**MINIMAL, "tasks": []}, "at least one task needs a `target`")
    check({**MINIMAL, "tasks": [{"name": "world-math"}]}, "at least one task needs a `target`")
    shares = {"sources": [{"path": "a", "shares": {"train": 0.8, "pool": 0.5}}]}
    check({**MINIMAL, "data": shares}, "add up to at most 1")


def test_files_that_are_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    for text, match in [
        ("", "mapping"),
        ("- a", "mapping"),
        ("a: [1", "line"),
        ("\x00", "recipe"),
        ("a: b: c", "line 1"),
    ]:
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(RecipeError, match=match):
            load_recipe(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "r.yaml")


def test_relative_paths_are_taken_from_the_recipe_file(tmp_path):
    (tmp_path / "d.jsonl").write_text("{}")
    raw = {**MINIMAL, "data": {"sources": [{"path": "d.jsonl"}, {"path": "org/set"}]}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(raw))
    recipe = load_recipe(tmp_path / "r.yaml")
    assert recipe.data.sources[0].path == str(tmp_path / "d.jsonl")
    assert recipe.data.sources[1].path == "org/set"


def test_a_key_with_a_line_break_is_named_in_one_line():
    with pytest.raises(RecipeError, match=r"unknown key 'data.\\n'"):
        parse_recipe({**MINIMAL, "data": {"\n": None}}, where="r", folder=Path("."))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([*Recipe.model_fields, "junk"]), json_values, max_size=6))
def test_any_mapping_is_a_recipe_or_a_recipe_error(raw):
    try:
        parse_recipe({**MINIMAL, **raw}, where="r", folder=Path("."))
    except RecipeError as error:
        assert "\n" not in str(error).strip()
