"""A run opened from Python: frames, token maps and figures that say what the files say."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from infra.errors import ArtifactError, InputError
from infra.report import load_run

from . import synthetic
from .run_folder import write_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("run") / "run-a"
    views = write_run(root)
    tables = synthetic.tables(np.random.default_rng(0))
    for name, table in tables.items():
        table.astype({c: str for c in table.columns if table[c].dtype == object}).to_parquet(
            root / "results" / "tables" / f"{name}.parquet", index=False
        )
    pd.DataFrame([{"a": "math", "b": "code", "rho": 0.5, "low": 0.4, "high": 0.6, "n": 80}]).to_parquet(
        root / "results" / "tables" / "agreement.parquet", index=False
    )
    rows = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
    (root / "results" / "results.json").write_text(json.dumps({"name": "run <a>", "tables": rows}))
    return load_run(root), views


def test_frames_are_those_of_the_files(made):
    run, views = made
    assert run.examples["id"].tolist() == [v.id for v in views]
    assert {"effects", "top", "hypotheses"} <= set(run.tables)
    assert set(run.queries()["query"]) == {f"q{q}" for q in range(5)}
    one = run.queries("q3")
    assert len(one) == 20 and one[one.side == "top"]["influence"].is_monotonic_decreasing


@pytest.mark.parametrize("number", [0, 1, 7])
def test_an_example_comes_back_with_its_tokens_steps_and_scores(made, number):
    run, views = made
    found, wanted = run.view(views[number].id), views[number]
    assert found.text == wanted.text.replace("\ud83d", "�") and found.targets == list(wanted.targets)
    np.testing.assert_array_equal(found.token_offsets, wanted.token_offsets)
    np.testing.assert_array_equal(found.scores["loss"], wanted.scores["loss"])
    np.testing.assert_array_equal(found.loss_mask, wanted.loss_mask)
    assert [tuple(s) for s in found.steps] == [tuple(s) for s in wanted.steps]
    html = run.tokens(wanted.id, "code")._repr_html_()
    assert "<script" not in html and html.count("<bdi") == len(wanted.token_offsets)


def test_a_querys_tokens_name_their_decomposition(made):
    run, _ = made
    id_ = run.queries("q3")["id"].iloc[0]
    shown = run.query_tokens("q3", id_)
    assert shown.decomposition == "position" and set(shown.values.tolist()) == {4.0}
    assert "query q3" in shown._repr_html_()
    with pytest.raises(InputError, match="not among the strongest"):
        run.query_tokens("q3", "nobody")


def test_every_figure_is_written_as_vectors_twice_the_same(made, tmp_path):
    run, _ = made
    paths = run.save_figures(tmp_path)
    names = {p.stem for p in paths}
    assert {"accuracy", "effects-difficulty", "effects-style", "behaviours", "token_classes", "contrasts"} <= names
    assert "targets" in names and {p.suffix for p in paths} == {".pdf", ".svg"}
    first = {p.name: p.read_bytes() for p in paths}
    run.save_figures(tmp_path)
    assert {p.name: p.read_bytes() for p in paths} == first
    words = first["behaviours.svg"].decode()
    assert "influence per step" in words and "Target math" in words and "n = " in words and "math data" in words


def test_the_notebook_form_gives_the_answer_as_text(made):
    html = made[0]._repr_html_()
    assert "run &lt;a&gt;" in html and "Flip minus same-difficulty swap" in html and "effects (" in html


def test_what_is_not_there_is_said(made, tmp_path):
    run, _ = made
    with pytest.raises(InputError, match="no token scores of an example 'nobody'"):
        run.view("nobody")
    with pytest.raises(ArtifactError, match=r"scores/examples\.parquet"):
        load_run(tmp_path)
