"""`infra score`, then `infra select`: the user's ids and rows all the way."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from infra.errors import InputError
from infra.layout import Run
from infra.pipeline.data import make_records, share_of
from infra.pipeline.origins import labels_of
from infra.pipeline.score import run_score, score_recipe
from infra.pipeline.settings import SourceSettings
from infra.pipeline.targets import fold_of
from infra.world import BASE_MODEL, build_world

from .conftest import context_of
from .test_cli import infra


def lines(records, **more) -> list[str]:
    rows = [{**more, "prompt": r.question, "response": r.response, "mine": [i]} for i, r in enumerate(records)]
    return [json.dumps(row | {"id": f"q-{i}"} if not more else row) for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Path:
    """A run over a packed file with ids and a bad line, and a file without ids."""
    folder = tmp_path_factory.mktemp("select")
    train = [r for r in build_world().train if r.domain == "math"]
    packed = lines(train[:8])
    packed.insert(2, "no JSON")
    (folder / "ids.jsonl.gz").write_bytes(gzip.compress("\n".join(packed).encode()))
    (folder / "lines.jsonl").write_text("\n".join(lines(train[8:14], source="b")) + "\n")
    (folder / "queries.jsonl").write_text("\n".join(lines(train[14:22])) + "\n")
    sources = [{"path": str(folder / name)} for name in ("ids.jsonl.gz", "lines.jsonl")]
    recipe = score_recipe(
        sources[0]["path"],
        str(folder / "queries.jsonl"),
        method="gradient",
        data={"max_length": 512, "on_error": "skip", "sources": sources},
        model={"base": str(BASE_MODEL)},
        targets={"folds": 2, "minimum": 4},
        effects={"bootstrap": 20},
        scores={"span_examples": 5, "query_top": 0},
    )
    run_score(recipe, folder / "run", None)
    return folder


def test_scores_carry_the_users_ids_and_lines(scored: Path) -> None:
    ids = pd.read_parquet(Run(scored / "run").example_scores).id.tolist()
    assert ids == [*(f"q-{i}" for i in range(8)), *(f"lines.jsonl:{i}" for i in range(1, 7))]
    page = (scored / "run" / "report.html").read_text()
    assert "infra select . --keep 0.8 --control length" in page


def test_select_writes_the_users_rows_and_their_control(scored: Path) -> None:
    out = scored / "out"
    done = infra("select", scored / "run", "--keep", "0.5", "--control", "length", "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"kept: {out / 'kept' / 'ids.jsonl'}" in done.stdout and "why each row is in or out" in done.stdout
    given = [*gzip.decompress((scored / "ids.jsonl.gz").read_bytes()).decode().splitlines()]
    given += (scored / "lines.jsonl").read_text().splitlines()
    files = [p for name in ("ids.jsonl", "lines.jsonl") if (p := out / "kept" / name).exists()]
    kept = [line for file in files for line in file.open()]
    assert len(kept) == 7 and [k.strip() for k in kept] == [g for g in given if g in {k.strip() for k in kept}]
    told = [json.loads(line) for line in (out / "manifest.jsonl").open()]
    assert [r["id"] for r in told][2] is None and "a bad row" in told[2]["why"]
    best = pd.read_parquet(Run(scored / "run").example_scores).nlargest(7, "score_math").id
    assert {r["id"] for r in told if r["kept"]} == set(best) and sum(r.get("control", False) for r in told) == 7


def test_weights_are_trained_with_by_infra_itself(scored: Path) -> None:
    done = infra("select", scored / "run", "--weights", "--out", scored / "weighted")
    assert done.returncode == 0, done.stderr
    recipe = score_recipe(
        str(scored / "weighted" / "kept"),
        str(scored / "queries.jsonl"),
        data={"max_length": 512},
        model={"base": str(BASE_MODEL)},
    )
    context = context_of("records", recipe, scored / "again.part", scored / "again")
    make_records(context)
    weights = pd.read_parquet(context.records("train")).weight
    assert weights.nunique() > 5 and weights.between(0.5, 2).all()


@pytest.mark.parametrize(
    ("option", "words"), [((), "nothing to select by"), (("--top", "3", "--target", "x"), "target 'x'")]
)
def test_a_selection_that_cannot_be_made_is_one_sentence(scored: Path, option: tuple, words: str) -> None:
    done = infra("select", scored / "run", *option)
    assert done.returncode == 2 and words in done.stderr and not (scored / "run" / "selected").exists()


def recipe_of(folder: Path, files: dict[str, list[dict]], **source):
    for name, rows in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [{"path": str(folder / name), **source} for name in files]
    queries = str(folder / next(iter(files)))
    return score_recipe(queries, queries, data={"sources": sources}, model={"base": str(BASE_MODEL)})


def test_two_files_that_give_one_id_to_different_records_are_refused_with_both_places(tmp_path: Path) -> None:
    a = [{"id": 1, "prompt": "Q", "response": "A"}, {"id": 2, "prompt": "R", "response": "A"}]
    b = [{"id": 3, "prompt": "S", "response": "A"}, {"id": 2, "prompt": "T", "response": "A"}]
    recipe = recipe_of(tmp_path, {"a.jsonl": a, "b.jsonl": b})
    context = context_of("records", recipe, tmp_path / "part", tmp_path / "run")
    with pytest.raises(InputError, match=re.escape("the id '2' names two different records")) as caught:
        make_records(context)
    assert "a.jsonl, line 2 and" in str(caught.value) and "b.jsonl, line 2)" in str(caught.value)
    recipe = recipe_of(tmp_path, {"a.jsonl": a, "b.jsonl": b}, ids="line")
    context = context_of("records", recipe, tmp_path / "part", tmp_path / "run")
    make_records(context)
    ids = pd.read_parquet(context.records("train")).id.tolist()
    assert ids == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1", "b.jsonl:2"]


def test_copies_go_by_content_and_are_noted_with_their_place(tmp_path: Path) -> None:
    a = [{"id": 1, "prompt": "Q", "response": "A"}, {"id": 2, "prompt": "Q", "response": "A"}]
    recipe = recipe_of(tmp_path, {"a/x.jsonl": a, "b/x.jsonl": a[:1]})
    context = context_of("records", recipe, tmp_path / "part", tmp_path / "run")
    make_records(context)
    origins = pd.read_parquet(context.origins)
    assert origins[["id", "source", "line", "set"]].values.tolist() == [
        ["1", 0, 1, "train"],
        ["2", 0, 2, ""],
        ["1", 1, 1, ""],
    ]
    assert origins.why[1] == "a copy of 1" and origins.why[2].endswith("a/x.jsonl, line 1)")


def test_folds_and_shares_go_by_content_and_not_by_ids() -> None:
    for record in build_world().pool[:40]:
        renamed = replace(record, id="another")
        assert fold_of(renamed, 5) == fold_of(record, 5)
        assert share_of(renamed, {"train": 0.5, "pool": 0.5}) == share_of(record, {"train": 0.5, "pool": 0.5})


def test_sources_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("a/x", "b/x"):
        (tmp_path / name).mkdir(parents=True)
    paths = [str(tmp_path / p) for p in ("a/rows.jsonl", "b/rows.jsonl", "c.jsonl", "a/x", "b/x")]
    labels = labels_of([SourceSettings(path=p) for p in [*paths, "hf:org/name", "world:default"]])
    assert labels == ["a/rows.jsonl", "b/rows.jsonl", None, "a/x", "b/x", None, None]
    assert labels_of([SourceSettings(path=paths[3])]) == [None]
