"""The page as a file: what it holds, what is refused, and how a section is added."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from infra.errors import InputError
from infra.report import SECTIONS, TABLE_COLUMNS, Figure, ReportData, Section, Sentence, Table, render_report
from infra.report.encode import plain
from infra.report.page import embed_json
from infra.report.plot import Mark, Row, forest
from infra.report.sections import TABLES

from . import synthetic


def test_examples_left_out_are_said(tmp_path):
    data = synthetic.report(n_examples=30)
    small = ReportData("t", examples=data.examples)
    render_report(small, tmp_path / "r.html", max_bytes=90_000)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert re.search(r"\d+ of 31 examples are left out", text)
    assert "rounded to 15 square-root steps" in text
    assert (tmp_path / "r.html").stat().st_size <= 90_000


def test_an_empty_report_is_still_a_page(tmp_path):
    render_report(ReportData("Nothing yet"), tmp_path / "deep" / "r.html")
    text = (tmp_path / "deep" / "r.html").read_text(encoding="utf-8")
    assert "No table to answer from was given" in text
    assert "data-table" not in text.split("<script>")[0]
    assert not list((tmp_path / "deep").glob("*.tmp"))


@pytest.mark.parametrize("missing", sorted(TABLE_COLUMNS))
def test_each_table_may_be_absent(tmp_path, missing):
    data = synthetic.small_report()
    tables = {k: v for k, v in data.tables.items() if k != missing}
    render_report(replace(data, tables=tables), tmp_path / "r.html")
    assert f'data-table="{missing}"' not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_table_without_its_columns_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"table 'slope' lacks the column\(s\) n, accuracy"):
        render_report(
            ReportData("t", tables={"slope": pd.DataFrame([{"arm": "sft", "task": "m", "difficulty": 1}])}),
            tmp_path / "r.html",
        )
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": {"loss": np.zeros((4, 3), np.float32)}}, "'loss' scores have shape"),
        ({"loss_mask": np.ones(2, bool)}, "loss_mask"),
        ({"steps": ((0, 10**6, ("plan",)),)}, "lies outside"),
        ({"token_classes": ("prose",)}, "token classes"),
    ],
)
def test_an_example_of_the_wrong_shape_is_refused_by_id(tmp_path, change, words):
    view = replace(synthetic.example(0, np.random.default_rng(0)), **change)
    with pytest.raises(InputError, match=f"example {view.id}.*{words}"):
        render_report(ReportData("t", examples=[view]), tmp_path / "r.html")


def test_scores_that_are_not_finite_are_refused_by_id(tmp_path):
    view = synthetic.example(0, np.random.default_rng(0))
    view.scores["loss"][0, -1] = np.nan
    with pytest.raises(InputError, match=f"example {view.id}.*not finite"):
        render_report(ReportData("t", examples=[view]), tmp_path / "r.html")


def test_json_cannot_leave_its_script_element():
    text = embed_json({"</script>": "<!--<script>\u2028&", "n": plain(float("nan")), "a": plain(np.int64(3))})
    assert "<" not in text and "&" not in text
    assert json.loads(text) == {"</script>": "<!--<script>\u2028&", "n": None, "a": 3}


def test_the_same_data_give_the_same_bytes(tmp_path):
    render_report(synthetic.small_report(), tmp_path / "a.html")
    render_report(synthetic.small_report(), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def _loss_figure(data: ReportData) -> Iterable[Figure]:
    rows = [Row(str(r["task"]), [Mark(r["loss"], r["low"], r["high"], f"loss {r['loss']}")]) for r in _losses(data)]
    if rows:
        yield Figure("loss", [forest("Loss", "Loss of every task", rows, "nats")], "With 95% intervals.")


def _losses(data: ReportData) -> list[dict]:
    return data.tables["loss"].to_dict("records") if "loss" in data.tables else []


def _loss_answer(data: ReportData) -> Iterable[Sentence]:
    for row in _losses(data):
        yield Sentence("How well does it fit?", f"The loss on {row['task']} is {row['loss']}.", "measured", "plain")


LOSS = Section(
    "loss",
    "How well the model fits",
    "Loss is the negative log-likelihood of a response, in nats.",
    (Table("loss", "Loss by task", "task loss low high", filters="task"),),
    _loss_figure,
    _loss_answer,
    caveats=lambda data: ["Loss is not accuracy."] if _losses(data) else [],
)


def test_a_section_of_ones_own_is_one_object_in_ones_own_file(tmp_path):
    """docs/how-to/add-a-section.md: table, figure, sentence and caveat reach the page, not the registry."""
    losses = pd.DataFrame([["art", 1.5, 1.2, 1.8], ["law", 2.5, 2.0, 3.0]], columns=["task", "loss", "low", "high"])
    out = tmp_path / "r.html"
    render_report(ReportData("t", tables={"loss": losses}), out, sections=(*SECTIONS, LOSS))
    text = out.read_text(encoding="utf-8")
    for piece in (
        '<section id="loss"',
        "How well the model fits",
        'data-table="loss"',
        "<title>loss 1.5</title>",
        "The loss on law is 2.5.",
        "Loss is not accuracy.",
        '<a href="#loss">',
    ):
        assert piece in text, piece
    assert '"filters":["task"]' in text
    with pytest.raises(InputError, match="table 'loss' lacks the column"):
        render_report(ReportData("t", tables={"loss": losses[["task"]]}), out, sections=(*SECTIONS, LOSS))
    assert "loss" not in TABLES
    render_report(ReportData("t", tables={"loss": losses}), out)  # without the section the table is still shown
    assert 'data-table="loss"' in out.read_text(encoding="utf-8")


def test_every_section_has_its_own_id_and_tables():
    ids = [s.id for s in SECTIONS]
    names = [t.name for s in SECTIONS for t in s.tables]
    assert len(set(ids)) == len(ids) and len(set(names)) == len(names)


def test_a_page_with_a_ranking_always_has_an_answer(tmp_path):
    """`infra score` on a small file: no effect stands out and no difficulty is known, yet the page answers."""
    data = synthetic.report(n_examples=2)
    kept = {name: data.tables[name] for name in ("top", "top_steps", "top_tokens", "targets")}
    render_report(ReportData("scored", tables=kept, examples=data.examples), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "No table to answer from was given" not in text
    assert "the most helpful is r0000dc0ffee" in re.sub(r"\s+", " ", text)


def test_ids_are_unique_on_the_page(tmp_path):
    render_report(synthetic.small_report(), tmp_path / "r.html")
    ids = re.findall(r'\sid="([^"]+)"', (tmp_path / "r.html").read_text(encoding="utf-8").split("<script>")[0])
    assert len(ids) == len(set(ids)) > 20


def test_the_excerpt_is_of_a_target_that_has_token_scores(tmp_path):
    """Token scores may be kept for few targets (scores.token_targets): the excerpt is then of one of those, or none."""
    data = synthetic.small_report()
    view = synthetic.example(0, np.random.default_rng(0), targets=("code",))
    only = ReportData("t", tables={"top": data.tables["top"]}, examples=[view])
    render_report(only, tmp_path / "r.html")
    assert "The example that helps <b>code</b> most" in (tmp_path / "r.html").read_text(encoding="utf-8")
    bare = replace(view, targets=(), scores={"loss": np.zeros((0, len(view.token_offsets)), np.float32)})
    render_report(ReportData("t", examples=[bare]), tmp_path / "r.html")
    assert 'class="excerpt"' not in (tmp_path / "r.html").read_text(encoding="utf-8")
