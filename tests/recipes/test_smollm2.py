"""The recipe for a real language model, and `--quick` for any recipe."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from infra.data import Message, Record, read_records
from infra.errors import RecipeError
from infra.evals import get_task, verify_many
from infra.pipeline.data import first_per_domain, with_level
from infra.pipeline.quick import PROBLEMS, SMALLEST, quick_changes
from infra.pipeline.recipe import Recipe, load_recipe
from tests.recipes.test_recipes import RECIPES, Here, here  # noqa: F401  (a fixture)

RECIPE = RECIPES / "smollm2-math-code.yaml"
SHARED = Path(os.environ.get("INFRA_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_shared = pytest.mark.skipif(not (SHARED / "svamp.json").exists(), reason="needs the public data")


def on_shared_data() -> list[str]:
    """Changes that take every file of the recipe from the folder of public data."""
    recipe = load_recipe(RECIPE)
    files = {f"data.sources.{i}.path": s.path for i, s in enumerate(recipe.data.sources)}
    files |= {f"tasks.{i}.path": str(t.path) for i, t in enumerate(recipe.tasks)}
    return [f"{key}={SHARED / Path(path).name}" for key, path in files.items()]


def test_it_names_tasks_that_exist_and_gives_every_domain_a_target() -> None:
    recipe = load_recipe(RECIPE)
    domains = {get_task(t.name).domain for t in recipe.tasks if t.target}
    assert domains == {s.domain for s in recipe.data.sources} == {"math", "code"}
    assert recipe.seeds == 3 and {"flip", "same-difficulty-swap"} <= set(recipe.arms.names)
    assert recipe.arms.token_matched and recipe.targets.samples > 1 and recipe.targets.fallback == "reference"


@needs_shared
@pytest.mark.parametrize("quick", [False, True])
def test_a_dry_run_on_the_public_data_finds_nothing_wrong(here: Here, tmp_path: Path, quick: bool) -> None:  # noqa: F811
    changes = [a for change in on_shared_data() for a in ("--set", change)]
    size = ["--quick"] if quick else []
    code, said = here("run", RECIPE, "--dry-run", "--offline", *size, "--out", tmp_path / "run", *changes)
    assert code == 0 and "nothing was run" in said, said
    assert ("sft/flip-s2" in said) is not quick and "sft/same-difficulty-swap-s0" in said
    assert not (tmp_path / "run").exists()


@needs_shared
def test_leetcodes_levels_and_reference_programs_are_right() -> None:
    """Counted in the file's own words; the first explained programs pass the data set's own checks."""
    task = read_records(SHARED / "LeetCodeDataset-v0.2.0-train.jsonl.gz").records
    assert Counter(r.attributes["difficulty"] for r in task) == {1: 515, 3: 1000, 5: 375}
    some = task[:8]
    assert all(v.correct for v in verify_many(some, [str(r.response) for r in some]))


@needs_shared
def test_every_reference_solution_of_svamp_is_judged_correct() -> None:
    problems = get_task("svamp", SHARED / "svamp.json").load()
    assert len(problems) == 1000 and all(v.correct for v in verify_many(problems, [str(p.response) for p in problems]))


def test_a_quick_run_shrinks_what_is_larger_and_leaves_what_the_user_set() -> None:
    recipe = load_recipe(RECIPE)
    quick = load_recipe(RECIPE, changes=quick_changes(recipe))
    assert quick.quick and quick.name == "smollm2-math-code-quick" and quick.seeds == 1
    assert quick.data.limit == SMALLEST["data.limit"] and all(t.limit == PROBLEMS for t in quick.tasks)
    assert quick.arms.names == ("flip", "same-difficulty-swap")
    same = ("model", "sft", "method", "curvature")
    assert all(getattr(quick, name) == getattr(recipe, name) for name in same)
    assert quick.data.sources == recipe.data.sources
    again = load_recipe(RECIPE, changes=[*quick_changes(recipe), *quick_changes(quick, ["name=x"])])
    assert again == quick, "what is small already stays"
    asked = ["seeds=2", "tasks.1.limit=50", "arms.names=[flip]"]
    own = load_recipe(RECIPE, changes=[*asked, *quick_changes(load_recipe(RECIPE, changes=asked), asked)])
    assert (own.seeds, own.tasks[0].limit, own.tasks[1].limit, own.arms.names) == (2, PROBLEMS, 50, ("flip",))


def test_every_recipe_has_a_quick_form() -> None:
    for path in sorted(RECIPES.glob("*.yaml")):
        recipe = load_recipe(path)
        quick = load_recipe(path, changes=quick_changes(recipe))
        assert isinstance(quick, Recipe) and quick.seeds == 1 and quick.data.limit is not None


def record(number: int, domain: str, source: str, **attributes: int) -> Record:
    return Record(f"{source}-{number}", (Message("user", f"{source} {number}"),), domain, source, attributes=attributes)


def test_a_limit_keeps_the_sources_in_proportion_and_takes_their_first_records() -> None:
    records = [record(i, "math", "a") for i in range(60)] + [record(i, "math", "b") for i in range(30)]
    records += [record(i, "code", "c") for i in range(5)]
    kept = first_per_domain(records, 9)
    assert Counter(r.source for r in kept) == {"a": 6, "b": 3, "c": 5}
    assert [r.id for r in kept if r.source == "a"] == [f"a-{i}" for i in range(6)]
    assert kept == [r for r in records if r in kept] and first_per_domain(records, None) == records
    one = [r for r in records if r.source == "a"]
    assert first_per_domain(one, 7) == one[:7]


def test_a_sources_level_is_for_records_that_have_none() -> None:
    records = [record(0, "code", "a"), record(1, "code", "a", difficulty=5)]
    assert [r.attributes["difficulty"] for r in with_level(records, 2)] == [2, 5]
    assert with_level(records, None) == records
    with pytest.raises(RecipeError, match=r"level"):
        load_recipe(RECIPE, changes=["data.sources.2.level=easy"])
