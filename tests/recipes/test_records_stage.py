"""What a recipe makes of its files: judged levels, whole benchmarks held out, the training data's system prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.data import read_records
from infra.errors import InputError, RecipeError
from infra.pipeline.data import RECORDS, make_records
from infra.pipeline.recipe import Recipe, load_recipe
from infra.pipeline.stage import Context
from infra.pipeline.step import Job
from infra.store import read_json
from tests.models.generation.test_server import serving
from tests.recipes import published
from tests.recipes.test_recipes import RECIPES, rate


def recipe_for(folder: Path, server: str, *changes: str) -> Recipe:
    """The 7B recipe over small files in ``folder``."""
    train = published.stratos(40, 0)
    files = {
        "train": train,
        "pool": published.stratos(40, 1) + train[:6],
        "math500": published.math500(12, 2),
        "aime24": published.aime24(3),
        "aime25": published.aime25(4),
        "lcb": published.livecodebench(12, 5),
    }
    for name, rows in files.items():
        published.write(folder / f"{name}.jsonl", rows)
    tasks = [f"tasks.{i}.path={folder / n}.jsonl" for i, n in enumerate(("math500", "aime24", "aime25", "lcb"))]
    return load_recipe(
        RECIPES / "qwen2.5-7b-stratos.yaml",
        changes=[
            f"data.sources.0.path={folder / 'train.jsonl'}",
            f"data.sources.1.path={folder / 'pool.jsonl'}",
            "data.sources.1.shares={pool: 1.0}",
            f"data.judge.server={server}",
            *tasks,
            *changes,
        ],
    )


def make(recipe: Recipe, run: Path, name: str = "records") -> Path:
    out = run / name
    out.mkdir(parents=True)
    [stage] = RECORDS.stages(Job(recipe))
    make_records(Context(stage, out, run))
    return out


def test_setup_b_makes_of_its_files_what_it_says(tmp_path: Path) -> None:
    with serving(rate) as (url, asked):
        recipe = recipe_for(tmp_path, url)
        out = make(recipe, tmp_path / "run")
        n_asked = len(asked)
        again = make(recipe, tmp_path / "run", "again")
        assert len(asked) == n_asked == 3 * 80  # three votes for 40 training and 40 pool problems, and never again
    sets = {name: read_records(out / f"{name}.parquet").records for name in ("train", "pool")}
    assert [len(s) for s in sets.values()] == [40, 40]  # the six training problems in the pool's file are not there
    assert not {r.question for r in sets["train"]} & {r.question for r in sets["pool"]}
    for domain in ("math", "code"):
        mine = [r.attributes for s in sets.values() for r in s if r.domain == domain]
        assert {a["difficulty"] for a in mine} <= {1, 2, 3, 4, 5} and all(
            a["difficulty_judge_votes"] == 3 for a in mine
        )
        pairs = [(float(a["difficulty_judge"]), int(a["difficulty"])) for a in mine]
        assert all(p[1] <= q[1] for p in pairs for q in pairs if p[0] <= q[0]) and len(pairs) == 40
    assert read_json(out / "counts.json")["judge"]["code"] == {"n": 40, "unreadable_votes": 0, "alpha": 1.0}
    splits = {}
    for name in ("math500", "aime24", "aime25", "livecodebench"):
        problems = read_records(out / "problems" / f"{name}.parquet").records
        splits[name] = {str(p.attributes["split"]) for p in problems}
        assert all(p.messages[0].content == published.SYSTEM and p.messages[0].role == "system" for p in problems)
    assert splits["aime24"] == splits["aime25"] == {"held-out"} and splits["math500"] == {"held-out", "target"}
    assert (again / "train.parquet").read_bytes() == (out / "train.parquet").read_bytes()


def test_a_native_level_stays_beside_the_judges(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"What is {' and '.join(map(str, range(n)))} {n}?", "response": str(n), "difficulty": 9 - n % 7}
        for n in range(2, 12)
    ]
    with serving(rate) as (url, _):
        recipe = recipe_for(
            tmp_path, url, "data.sources.0.domain=math", "eval.system=null", "data.difficulty={math: judge}"
        )
        source = recipe.data.sources[0].model_copy(update={"schema_": "auto"})
        recipe = recipe.model_copy(
            update={"data": recipe.data.model_copy(update={"sources": (source, recipe.data.sources[1])})}
        )
        published.write(tmp_path / "train.jsonl", rows)
        out = make(recipe, tmp_path / "run")
    found = {r.question: r.attributes for r in read_records(out / "train.parquet").records}
    assert all(found[row["prompt"]]["difficulty_native"] == row["difficulty"] for row in rows)
    assert len({a["difficulty"] for a in found.values()}) > 1


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    def mute(body: dict[str, Any], number: int) -> tuple[int, Any]:
        return 200, {"choices": [{"message": {"content": "hard to say"}, "finish_reason": "stop"}], "usage": {}}

    with serving(mute) as (url, _), pytest.raises(InputError, match="no readable rating for 40 records, record train"):
        make(recipe_for(tmp_path, url), tmp_path / "mute")
    with pytest.raises(InputError, match="names domain 'chess', and no record has it; the domains are code, math"):
        make(recipe_for(tmp_path, "http://x", "data.difficulty={chess: text-estimate}"), tmp_path / "chess")
    with pytest.raises(InputError, match="no pool records"):
        make(recipe_for(tmp_path, "http://x", "data.sources.1.shares={train: 1.0}"), tmp_path / "nopool")
    with pytest.raises(RecipeError, match=r"needs data\.judge"):
        recipe_for(tmp_path, "http://x", "data.judge=null")
    with pytest.raises(InputError, match="no option stage"):
        make(recipe_for(tmp_path, "http://x", "tasks.3.options={stage: x}"), tmp_path / "options")
