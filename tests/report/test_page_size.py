"""The largest page that is promised: 1,000 examples of 4,000 tokens, four targets, both decompositions."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from infra.report import ExampleView, ReportData, render_report

from . import synthetic
from .conftest import until

COMMON = "the of so we get x = 2 + 3 then check that n is even because wait"


def big_example(i: int, rng: np.random.Generator, tokens: int = 4000) -> ExampleView:
    """Words drawn from a skewed vocabulary, heavy-tailed scores; a tenth of the tokens are prompt."""
    words = np.array([f" {w}" for w in COMMON.split()])
    rare = np.array([f" w{k:04x}" for k in range(4096)])
    pick = np.where(
        rng.random(tokens) < 0.7, words[rng.integers(0, len(words), tokens)], rare[rng.integers(0, 4096, tokens)]
    )
    ends = np.cumsum([len(w) for w in pick])
    mask = np.arange(tokens) >= tokens // 10
    scores = rng.standard_t(3, size=(2, 4, tokens)).astype(np.float32) * np.float32(1e-3)
    scores[0][:, ~mask] = 0
    cuts = [*range(tokens // 10, tokens, 40), tokens]
    return ExampleView(
        f"r{i:06d}",
        {"domain": "math", "difficulty": 1 + i % 5},
        "".join(pick),
        np.stack([ends - [len(w) for w in pick], ends], 1),
        mask,
        {"loss": scores[0], "position": scores[1]},
        synthetic.TARGETS,
        [(a, b, ("computation",)) for a, b in pairwise(cuts)],
    )


@pytest.mark.slow
def test_a_thousand_long_examples_fit_and_open_fast(watch, tmp_path):
    rng = np.random.default_rng(0)
    data = synthetic.report(n_examples=1)
    views = [big_example(i, rng) for i in range(1000)]
    out = tmp_path / "big.html"
    start = time.perf_counter()
    render_report(ReportData(data.title, tables=data.tables, results=data.results, examples=views), out)
    made = time.perf_counter() - start
    text = out.read_text(encoding="utf-8")
    assert out.stat().st_size <= 40_000_000
    assert text.count('<script type="text/plain"') == 1000
    watched = watch()
    opened = []
    for _ in range(3):
        watched.page.goto("about:blank")
        start = time.perf_counter()
        watched.page.goto(out.as_uri())
        watched.page.wait_for_selector("#browser .tok")
        opened.append(time.perf_counter() - start)
    size = out.stat().st_size / 1e6
    print(f"\n{size:.1f} MB, made in {made:.1f} s, first tokens after {', '.join(f'{s:.2f}' for s in opened)} s")
    assert watched.complaints == []
    assert min(opened) < 2


def test_long_examples_are_put_on_the_page_piece_by_piece(watch, tmp_path):
    rng = np.random.default_rng(0)
    line = "x" * 1_000_000
    huge = ExampleView(
        "huge",
        {},
        "a" + line,
        np.array([[0, 1], [1, 1 + len(line)]]),
        np.array([False, True]),
        {"loss": np.array([[0, 2e-3]] * 4, np.float32)},
        synthetic.TARGETS,
    )
    out = tmp_path / "long.html"
    render_report(ReportData("long", examples=[big_example(0, rng, 5000), huge]), out)
    watched = watch()
    page = watched.page
    page.goto(out.as_uri())
    page.wait_for_selector(".tok")
    shown = "document.querySelectorAll('.tok').length"
    assert page.evaluate(shown) == 2000
    page.get_by_role("button", name="Show 2\u2009000 more of 3\u2009000 tokens left").click()
    assert page.evaluate(shown) == 4000
    page.focus(".tokens")
    page.keyboard.press("End")
    assert page.evaluate(shown) == 5000
    assert page.evaluate("document.querySelector('.tok.at').dataset.t") == "4999"
    page.locator(".picker li button").nth(1).click()
    until(page, "document.querySelector('.map h3').textContent === 'huge'")
    assert "998\u2009000 more characters" in page.inner_text(".tokens")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert watched.complaints == []
