"""The run in the terminal and token maps in a notebook."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from infra.errors import InputError
from infra.report import print_summary, show_tokens
from infra.report.tokenmap import colour

from . import synthetic


def printed(results, width=120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_summary(results, console)
    return console.file.getvalue()


def as_results(tables):
    return {
        "name": "made-up [red]run[/red]",
        "quick": True,
        "tables": {k: t.to_dict("records") for k, t in tables.items()},
    }


def test_summary_says_the_answer_the_caveats_and_the_tables():
    tables = synthetic.tables(np.random.default_rng(0))
    text = printed(
        {
            "results": as_results(tables),
            "runtime": {"stages": {f"stage-{i}": {"seconds": float(i), "peak_memory_bytes": 2**30} for i in range(12)}},
        }
    )
    assert "made-up [red]run[/red]" in text
    assert "Flip minus same-difficulty swap on math" in text
    assert "too small to conclude from" in text
    sft = tables["accuracy"].query("arm == 'sft' and task == 'math'")["accuracy"].mean()
    assert f"{100 * sft:.1f}%" in text
    assert re.search(r"flip minus same-difficulty swap \*\s+math", text)
    assert re.search(r"stage-11\s+11\.0\s+1\.00", text) and re.search(r"4 others\s+6\.0", text)


def test_definitions_of_a_step_that_disagree_are_a_caveat():
    tables = synthetic.tables(np.random.default_rng(0))
    assert "Masking a step" not in printed(as_results(tables))
    tables["step_definitions"]["rho"] = [0.09, 0.7]
    assert "rank steps differently for math (ρ 0.090): step effects" in re.sub(r"\s+", " ", printed(as_results(tables)))


def test_summary_of_a_scoring_run_without_arms_is_printed():
    tables = synthetic.tables(np.random.default_rng(0))
    text = printed(as_results({"effects": tables["effects"], "targets": tables["targets"]}))
    assert "Influence suggests" in text and "Contrasts" not in text
    assert printed({"name": "empty"}).strip() == "empty"


def test_summary_fits_a_narrow_terminal():
    text = printed(as_results(synthetic.tables(np.random.default_rng(0))), width=80)
    assert max(map(len, text.splitlines())) <= 80


class Reader(HTMLParser):
    """Collects the text and the tags of a fragment."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.titles: list[str] = []
        self.pieces: list[str] = []
        self.depth = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.depth += tag == "bdi"
        self.titles += [v for k, v in attrs if k == "title"]

    def handle_endtag(self, tag):
        self.depth -= tag == "bdi"

    def handle_data(self, data):
        if self.depth:
            self.pieces.append(data)


def test_a_token_map_shows_every_token_with_its_number():
    view = synthetic.example(2, np.random.default_rng(0))
    shown = show_tokens(view, "code", decomposition="position")
    found = Reader(shown._repr_html_())
    assert "".join(found.pieces) == view.text
    values = view.scores["position"][1]
    assert [
        float(
            t.split(": ")[1]
            .replace("−", "-")
            .replace("+", "")
            .replace("×10", "e")
            .translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
        )
        for t in found.titles
    ] == pytest.approx(values.tolist(), rel=6e-3)
    assert shown.reference == pytest.approx(float(np.abs(values).max()))


def test_a_token_map_of_hostile_text_stays_text():
    view = synthetic.hostile_example(np.random.default_rng(0))
    html = show_tokens(view)._repr_html_()
    assert set(Reader(html).tags) <= {"p", "b", "span", "div", "bdi"}
    assert "⟨U+202E⟩" in html and "\u202e" not in html
    assert show_tokens(
        replace(
            view,
            token_offsets=view.token_offsets[:0],
            loss_mask=view.loss_mask[:0],
            scores={"loss": np.zeros((4, 0), np.float32)},
            steps=(),
        )
    )._repr_html_()


def test_unknown_targets_are_refused():
    view = synthetic.example(0, np.random.default_rng(0))
    with pytest.raises(InputError, match="'art' under 'loss' is not among them"):
        show_tokens(view, "art")


def test_colours_are_clear_at_zero_and_opposite():
    assert colour(0).endswith(",0.000)")
    assert colour(1) != colour(-1)
