"""The page in headless Chromium: every control works, nothing leaves the page, text stays text."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from . import synthetic
from .conftest import downloaded, serious, until

TOKENS = "#browser .tokens"


def strengths(page) -> list[float]:
    return page.eval_on_selector_all(
        TOKENS + " .tok",
        "es => es.map(e => +e.style.getPropertyValue('--s') * (e.matches('.n') ? -1 : 1))",
    )


@pytest.fixture
def opened(watch, page_file):
    def open_at(width=1280, scheme="light", axe=False, unfold=True):
        watched = watch(width, scheme, axe)
        watched.page.goto(page_file.as_uri())
        watched.page.wait_for_selector(TOKENS + " .tok")
        if unfold:
            watched.page.eval_on_selector_all("details.fold", "els => els.forEach(e => e.open = true)")
        return watched

    return open_at


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_quiet_accessible_and_fits(opened, page_file, shots, width, scheme):
    checked = (width, scheme) in ((390, "light"), (1280, "dark"))
    watched = opened(width, scheme, axe=checked)
    page = watched.page
    page.eval_on_selector_all("details", "els => els.forEach(e => e.open = true)")
    assert not checked or serious(page) == []
    assert watched.complaints == []
    assert watched.outside(page_file.parent.as_uri()) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=shots / f"report-{width}-{scheme}.png", full_page=True)


def test_policy_forbids_everything_but_the_two_inline_blocks(opened, page_file):
    watched = opened()
    page = watched.page
    assert "default-src 'none'" in page.get_attribute("meta[http-equiv]", "content")
    assert page.locator("[style]:not(.tok):not(.ramp i):not(.tip)").count() == 0
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert page.evaluate("window.ran === undefined")
    assert page.evaluate("fetch('https://example.invalid/').then(() => 'sent', () => 'refused')") == "refused"
    # Chromium reports an attempt even when the policy stops it: nothing may have been answered
    assert any("Content Security Policy" in c for c in watched.complaints)


def test_colours_follow_target_decomposition_and_scale(opened):
    page = opened().page
    view = synthetic.report().examples[0]
    loss = view.scores["loss"]

    def expected(row, reference):
        return np.sign(row) * np.sqrt(np.minimum(1, np.abs(row) / reference))

    np.testing.assert_allclose(strengths(page), expected(loss[0], np.abs(loss[0]).max()), atol=1e-3)
    page.select_option("#browser .controls select", "code")
    np.testing.assert_allclose(strengths(page), expected(loss[1], np.abs(loss[1]).max()), atol=1e-3)
    page.check("#browser input[value=position]")
    position = view.scores["position"][1]
    np.testing.assert_allclose(strengths(page), expected(position, np.abs(position).max()), atol=1e-3)
    page.check("#browser input[value=token]")
    everything = np.concatenate(
        [np.abs(v.scores["position"][1][v.loss_mask]) for v in synthetic.report().examples if "position" in v.scores]
    )
    reference = np.sort(everything)[int(np.ceil(0.999 * (len(everything) - 1)))]
    np.testing.assert_allclose(strengths(page), expected(position, reference), atol=2e-3)
    assert "same colour is the same influence" in page.inner_text("#browser .legend")


def test_hover_shows_the_number(opened):
    page = opened().page
    view = synthetic.report().examples[0]
    t = int(np.abs(view.scores["loss"][0]).argmax())
    page.locator(f"{TOKENS} .tok[data-t='{t}']").hover()
    tip = page.locator(".tip")
    assert tip.is_visible()
    shown = tip.locator("strong").inner_text().replace("−", "-")
    assert float(shown) == pytest.approx(float(view.scores["loss"][0, t]), rel=5e-3)
    assert f"token {t + 1} of" in tip.inner_text()


def test_keyboard_walks_tokens_and_steps(opened):
    page = opened().page
    view = synthetic.report().examples[0]
    page.focus(TOKENS)
    at = "document.querySelector('.tok.at').dataset.t | 0"
    first = int(np.flatnonzero(view.loss_mask)[0])
    assert page.evaluate(at) == first
    page.keyboard.press("ArrowRight")
    assert page.evaluate(at) == first + 1
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(at) == first
    page.keyboard.press("ArrowDown")
    assert page.evaluate(at) == view.steps[1][0]
    page.keyboard.press("ArrowUp")
    assert page.evaluate(at) == view.steps[0][0]
    page.keyboard.press("End")
    assert page.evaluate(at) == len(view.token_offsets) - 1
    page.keyboard.press("Home")
    assert page.evaluate(at) == 0
    page.keyboard.press("m")
    assert page.evaluate(at) == int(np.abs(view.scores["loss"][0]).argmax())
    assert re.search(r"token \d+ of", page.inner_text("#browser p.sr"))
    page.keyboard.press("t")
    assert page.input_value("#browser .controls select") == "code"
    page.keyboard.press("d")
    assert page.is_checked("#browser input[value=position]")
    page.keyboard.press("s")
    assert page.is_checked("#browser input[value=token]")
    page.keyboard.press("Escape")
    assert page.locator(".tip").is_hidden()


def test_the_controls_are_reached_by_tab(opened):
    page = opened().page
    name = "(e => e.id || e.className || e.tagName)(document.activeElement)"
    page.keyboard.press("Tab")
    assert page.evaluate(name) == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate(name) == "theme"
    page.fill("#browser input[type=search]", "family:family-3")
    seen = []
    while "tokens" not in seen and len(seen) < 20:
        page.keyboard.press("Tab")
        seen.append(page.evaluate("(e => e.name || e.type || e.className)(document.activeElement)"))
    assert seen[-1] == "tokens"
    assert {"select-one", "button", "map0d", "map0s", "checkbox"} <= set(seen)


def test_steps_can_be_hidden_and_carry_their_behaviours_and_sums(opened):
    page = opened().page
    view = synthetic.report().examples[0]
    start, end, labels = view.steps[0]
    gutter = page.locator(f"{TOKENS} .row.step .gutter").first.inner_text().replace("−", "-").split("\n")
    assert gutter[0] == labels[0].replace("_", " ")
    assert float(gutter[1]) == pytest.approx(float(view.scores["loss"][0, start:end].sum()), rel=5e-2)
    page.uncheck("#browser input[type=checkbox]")
    assert page.locator(f"{TOKENS} .gutter").first.is_hidden()


def test_tables_lie_folded_under_their_figures(opened):
    page = opened(unfold=False).page
    fold = page.locator("#effects details.fold")
    assert fold.locator("table").is_hidden() and "rows, CSV" in fold.locator("summary").inner_text()
    fold.locator("summary").click()
    assert fold.locator("table").is_visible()
    assert page.locator("#hypotheses table").is_visible()  # no figure says it: the table is open


def test_targets_are_set_against_each_other(opened):
    page = opened().page
    panel = page.locator("#agreement .panel")
    heading = panel.locator("h4").inner_text()
    assert "ρ = 0.40" in heading and "n = 3\u2009000" in heading
    marks = panel.locator("svg use").evaluate_all("es => es.map(e => e.getAttribute('fill'))")
    assert (marks.count("var(--d0)"), marks.count("var(--d1)")) == (200, 200)
    assert page.locator("#agreement figcaption").inner_text().startswith("A mark per training example")


def test_search_sort_and_open_examples(opened):
    page = opened().page
    page.fill("#browser input[type=search]", "family:family-3")
    data = synthetic.report().examples
    hits = [v for v in data if v.attributes.get("family") == "family-3"]
    assert page.locator("#browser .picker .count").inner_text() == f"{len(hits)} of {len(data)} examples"
    page.fill("#browser input[type=search]", "")
    page.select_option("#browser .picker select", "help")
    best = max(data, key=lambda v: v.totals()[0])
    page.locator("#browser .picker li button").first.click()
    until(page, "id => document.querySelector('#browser .map h3')?.textContent === id", best.id)
    page.select_option("#browser .picker select", "harm")
    page.locator("#browser .picker li button").first.click()
    worst = min(data, key=lambda v: v.totals()[0])
    until(page, "id => document.querySelector('#browser .map h3')?.textContent === id", worst.id)


def test_a_table_row_leads_to_its_tokens(opened):
    page = opened().page
    link = page.locator("[data-table=top] button.link").first
    wanted = link.inner_text()
    link.click()
    until(page, "id => document.querySelector('#browser .map h3')?.textContent === id", wanted)
    assert page.evaluate("document.activeElement.className") == "tokens"


def test_hostile_text_is_shown_as_text(opened):
    watched = opened()
    page = watched.page
    page.locator("#browser .picker li button").nth(1).click()
    until(page, "document.querySelector('#browser .map h3')?.textContent.startsWith('<b>')")
    assert page.evaluate("window.pwned === undefined")
    assert page.locator(".map img, .map b:not(.gutter b)").count() == 0
    text = page.inner_text(TOKENS)
    for piece in (
        "</script>",
        "<img src=x onerror=alert(1)>",
        "U+202E",
        "U+200B",
        "العربية",
        "🇫",
        "�",
        "${x}",
    ):
        assert piece in re.sub(r"\s*\n\s*", "", text), piece
    assert watched.complaints == []


def test_every_table_downloads_exact_values(opened):
    page = opened().page
    tables = synthetic.report().tables
    for root in page.locator("[data-table]").all():
        name = root.get_attribute("data-table")
        if name not in tables:
            continue
        file = downloaded(page, root.get_by_role("button", name="Download CSV"))
        rows = list(csv.DictReader(io.StringIO(Path(file.path()).read_text(encoding="utf-8"))))
        assert file.suggested_filename == name + ".csv"
        assert len(rows) == len(tables[name])
        numeric = [
            c for c in tables[name].columns if tables[name][c].dtype.kind == "f" and tables[name][c].notna().all()
        ]
        for column in numeric:
            assert [float(r[column]) for r in rows] == tables[name][column].tolist()


def test_token_csv_holds_every_token_and_guards_formulas(opened):
    page = opened().page
    view = synthetic.report().examples[0]
    file = downloaded(page, page.get_by_role("button", name="Tokens as CSV"))
    rows = list(csv.DictReader(io.StringIO(Path(file.path()).read_bytes().decode("utf-8"), newline="")))
    pieces = [view.text[a:b] for a, b in view.token_offsets]
    assert [r["text"].removeprefix("'") for r in rows] == pieces
    np.testing.assert_array_equal(np.float32([r["loss_math"] for r in rows]), view.scores["loss"][0])
    assert not any(r["text"][:1] in "=+-@" and r["text"] for r in rows)


def test_tables_sort_filter_and_unfold(opened):
    page = opened().page
    root = page.locator("[data-table=effects]")
    frame = synthetic.report().tables["effects"]
    root.locator("select").nth(3).select_option("per_token")
    hits = frame[frame["form"] == "per_token"]
    assert root.locator(".count").inner_text() == f"6 of {len(frame)} rows"
    root.get_by_role("button", name="Show all").click()
    assert root.locator("tbody tr").count() == len(hits)
    root.locator("th button", has_text="effect").first.click()
    assert root.locator("th[aria-sort=descending]").inner_text().startswith("effect")
    top = root.locator("tbody tr").first.locator("td").nth(5).inner_text()
    base, _, power = top.replace("−", "-").partition("×10")
    digits = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    assert float(base) * 10 ** int(power.translate(digits) or 0) == pytest.approx(hits["effect"].max(), rel=1e-2)
    root.get_by_role("button", name="Show fewer").click()
    assert root.locator("tbody tr").count() == 6


def test_form_switch_folds_and_theme(opened):
    page = opened(scheme="light").page
    section = page.locator("#effects")
    shown = "es => es.filter(e => !e.hidden).map(e => e.dataset.form)"
    assert section.locator("figure").evaluate_all(shown) == ["length_matched"] * 2
    section.locator("input[value=per_token]").check()
    assert section.locator("figure").evaluate_all(shown) == ["per_token"] * 2
    folded = page.locator("#behaviours")
    before = folded.locator(".panel:visible").count()
    folded.locator(".unfold:visible").click()
    assert folded.locator(".panel:visible").count() > before
    folded.locator(".unfold:visible").click()
    assert folded.locator(".panel:visible").count() == before
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert page.get_attribute("#theme", "aria-label") == "Light theme"


def test_the_first_screen_answers_before_it_navigates(opened):
    """At 390 pixels the answer stands on the first screen and the contents come after it."""
    page = opened(width=390).page
    top = "s => document.querySelector(s).getBoundingClientRect().top"
    assert page.evaluate(top, "#answer .answers li") < 300
    assert page.evaluate(top, ".contents") > page.evaluate(top, "#answer .twin") > 0
    wide = opened(width=1280).page
    assert wide.evaluate(top, "#answer .excerpt") < 900 and wide.evaluate(top, ".contents") < 300


def test_the_excerpt_leads_to_its_example(opened):
    page = opened().page
    views = synthetic.report().examples
    best = max(views, key=lambda v: v.totals()[0])
    page.locator("[data-open]").click()
    until(page, "id => document.querySelector('#browser .map h3')?.textContent === id", best.id)
    assert page.locator(".excerpt .coloured span.s10").count() >= 1


def test_a_mark_of_a_figure_has_its_numbers_as_a_tooltip(opened):
    page = opened().page
    said = page.locator("#arms .tipped title").first.text_content()
    assert re.match(r"flip minus same-difficulty swap: [+−]\d+\.\d \[.*\], undecided", said)


def test_figures_follow_the_theme(opened):
    fills = []
    for scheme in ("light", "dark"):
        page = opened(scheme=scheme).page
        fills.append(page.evaluate("getComputedStyle(document.querySelector('#arms svg text')).fill"))
    assert fills[0] != fills[1]
