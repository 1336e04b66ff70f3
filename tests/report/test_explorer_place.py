"""The explorer keeps its place: address, history and keyboard; and its links between answers and training data."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from .conftest import downloaded, serious, until
from .run_folder import answer, link_scores


@pytest.fixture
def page(watch, site):
    watched = watch()
    watched.page.goto(site[0])
    watched.page.wait_for_selector(".tokens .tok")
    yield watched.page
    assert watched.complaints == [] and watched.outside(site[0]) == []


@pytest.fixture(scope="module")
def frame(site):
    return pd.read_parquet(site[2] / "scores" / "examples.parquet")


def address(page) -> str:
    return page.evaluate("decodeURIComponent(location.hash)")


def seen(page) -> dict:
    """What the reader sees of the state."""
    return page.evaluate(
        """() => ({
          view: document.querySelector("[role=tab][aria-selected=true]").textContent,
          count: document.querySelector(".listing .count").textContent,
          ticked: [...document.querySelectorAll(".filters input:checked")].map((i) => i.dataset.value),
          ranges: [...document.querySelectorAll(".filters input[type=number]")].map((i) => i.value),
          search: document.querySelector(".listing input[type=search]").value,
          sort: [...document.querySelectorAll(".way select")].map((s) => s.value),
          first: document.querySelector(".listing li button")?.dataset.id,
          example: document.querySelector(".map h3").textContent,
          legend: document.querySelector(".legend").textContent,
          token: document.querySelector(".tok.at")?.dataset.t ?? null,
          step: document.querySelector(".gutter [aria-selected=true]")?.textContent ?? null,
          radios: [...document.querySelectorAll("input[type=radio]:checked")].map((r) => r.value),
        })"""
    )


def settled(page) -> dict:
    """What is seen once it no longer changes."""
    before, now = None, seen(page)
    while before != now:
        page.wait_for_timeout(350)
        before, now = now, seen(page)
    return now


def arrange(page) -> None:
    """A state with something of everything."""
    page.check(".filters fieldset:has-text('domain') input[data-value=math]")
    page.fill(".filters fieldset:has-text('n_tokens') input >> nth=0", "600")
    page.select_option(".way select >> nth=0", "code")
    page.select_option(".way select >> nth=1", "asc")
    page.fill(".listing input[type=search]", '"how many"')
    settled(page)
    page.locator(".listing li button").nth(2).click()
    until(page, "document.querySelector('.listing li:nth-child(3) button').getAttribute('aria-current')")
    page.check(".map input[value=position]", force=True)
    page.check(".map input[value=token]", force=True)
    page.locator(".map .gutter .choice").nth(1).click()
    page.locator(".tok").nth(40).click()


def test_reload_and_a_pasted_link_restore_everything_seen(page, site, watch):
    arrange(page)
    before = settled(page)
    assert before["ticked"] == ["math"] and before["token"] == "40" and before["step"]
    assert "on code" in before["legend"] and before["sort"] == ["code", "asc"] and before["search"] == '"how many"'
    assert {"position", "token", "train"} <= set(before["radios"])
    page.reload()
    page.wait_for_selector(".tok.at")
    assert settled(page) == before
    pasted = watch().page
    pasted.goto(page.url)
    pasted.wait_for_selector(".tok.at")
    assert settled(pasted) == before
    page.goto(site[0] + "/#view=tables")  # pasted into the open tab
    page.wait_for_selector("#panel-tables:not([hidden])")
    page.go_back()
    assert settled(page) == before


def test_back_and_forward_go_through_what_was_done(page):
    looked = [settled(page)]
    for act in (
        lambda: page.locator(".listing li button").nth(3).click(),
        lambda: page.select_option(".way select >> nth=0", "math-hard"),
        lambda: page.check(".filters fieldset:has-text('family') input[data-value=family-2]"),
        lambda: page.get_by_role("tab", name="Compare").click(),
    ):
        act()
        looked.append(settled(page))
    assert len({str(x) for x in looked}) == len(looked)
    for then in reversed(looked[:-1]):
        page.go_back()
        assert settled(page) == then
    for then in looked[1:]:
        page.go_forward()
        assert settled(page) == then


def test_typing_a_search_is_one_entry_of_the_history(page):
    entries = page.evaluate("history.length")
    for text in ("m", "ma", "mar", "marb"):
        page.fill(".listing input[type=search]", text)
        until(page, "text => new URLSearchParams(location.hash.slice(1)).get('search') === text", text)
    assert page.evaluate("history.length") == entries + 1
    page.go_back()
    until(
        page, "!location.hash.includes('search') && document.querySelector('.listing input[type=search]').value === ''"
    )


def test_an_address_of_nonsense_opens_the_first_example(page, site):
    page.goto(site[0] + "/#token=x&sort=no&is.=&in.n_tokens=a..b&view=none&offset=-3&__proto__=1")
    page.reload()
    page.wait_for_selector(".tokens .tok")
    assert settled(page)["view"] == "Examples"


def test_training_data_and_pool_are_apart_from_the_first_screen(page, frame):
    assert settled(page)["count"] == f"{(frame.set == 'train').sum()} of {len(frame)} examples"
    page.check("input[value=pool]", force=True)
    until(
        page,
        "n => document.querySelector('.listing .count')?.textContent.startsWith(n)",
        f"{(frame.set == 'pool').sum()} ",
    )
    best = frame[frame.set == "pool"].sort_values("score_math", ascending=False).iloc[0]
    assert settled(page)["first"] == best.id and "set=pool" in address(page)


def test_keys_walk_the_list_search_and_leave(page, frame):
    train = frame[frame.set == "train"].sort_values("score_math", ascending=False, kind="stable")["id"].tolist()
    shown = "id => document.querySelector('.map h3')?.textContent === id"
    walked = [("j", 1), ("j", 2), ("ArrowDown", 3), ("k", 2), ("ArrowUp", 1), ("k", 0), ("k", 0)]
    assert train[0] == "<b>r</b></script>"
    for key, place in walked:
        page.keyboard.press(key)
        until(page, shown, train[place])
        until(page, "id => document.querySelector('.listing [aria-current]').dataset.id === id", train[place])
    page.evaluate("document.querySelector('.listing li:last-child button').click()")
    until(page, shown, train[49])
    page.keyboard.press("j")  # on to the next page
    until(page, shown, train[50])
    assert "offset=50" in address(page)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.type("jkj?")  # in a field they are letters
    assert page.input_value(".listing input[type=search]") == "jkj?"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")
    page.keyboard.press("?")
    assert page.locator("dialog.help:not(.select)").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog.help:not(.select)").is_hidden()


def test_escape_leaves_the_chosen_token_and_step(page):
    page.locator(".map .gutter .choice").first.click()
    page.locator(".tok").nth(40).click()
    until(page, "location.hash.includes('token=40') && location.hash.includes('step=0')")
    page.locator(".tok").first.click()  # in the step: Enter gives it up and chooses it again
    until(page, "location.hash.includes('token=0')")
    for chosen in (0, 1):
        settled(page)
        page.keyboard.press("Enter")
        until(page, f"document.querySelectorAll('.map .choice[aria-selected=true]').length === {chosen}")
        until(page, f"location.hash.includes('step=0') === {'true' if chosen else 'false'}")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Escape")
    until(page, "!location.hash.includes('token=') && !location.hash.includes('step=')")
    assert page.locator(".tok.at").count() == 0


def test_counts_follow_the_other_filters(page, frame):
    page.check(".filters fieldset:has-text('domain') input[data-value=math]")
    counts = settled(page) and page.locator(".filters fieldset:has-text('difficulty') .n").all_inner_texts()
    train = frame[(frame.set == "train") & (frame.domain == "math")]
    assert list(map(int, counts)) == [int((train.difficulty == d).sum()) for d in range(1, 6)]
    code = page.locator(".filters fieldset:has-text('domain') label:has(input[data-value=code]) .n")
    assert int(code.inner_text()) == ((frame.set == "train") & (frame.domain == "code")).sum()


def test_a_brush_over_the_histogram_filters_the_scores(page, frame):
    page.select_option(".way select >> nth=0", "code-easy")
    settled(page)
    box = page.locator(".histogram svg").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 1.2 * box["width"], box["y"] + 20, steps=4)
    page.mouse.up()
    now = settled(page)
    least = float(page.input_value("[aria-label='least influence on code-easy']"))
    assert page.input_value("[aria-label='most influence on code-easy']") == ""  # to the edge: without an end
    kept = ((frame.set == "train") & (frame["score_code-easy"] >= least)).sum()
    assert now["count"] == f"{kept} of {len(frame)} examples" and 0 < kept < (frame.set == "train").sum()
    assert float(page.get_attribute(".histogram .brush", "width")) == pytest.approx(140, abs=3)
    page.click("text=Clear filters")
    assert settled(page)["count"].startswith(f"{(frame.set == 'train').sum()} ")


def open_answer(page):
    page.get_by_role("tab", name="Queries").click()
    page.locator("#panel-queries li button[data-query=q3]").click()
    page.wait_for_selector(".answer .tok")


def raisers(page) -> list[tuple[str, float]]:
    found = page.evaluate(
        "[...document.querySelectorAll('.raisers > li')].map((li) => "
        "[li.querySelector('[data-from]').dataset.from, li.querySelector('.num')?.textContent])"
    )
    return [(i, float(v.replace("−", "-"))) for i, v in found]


def test_a_token_and_a_step_of_an_answer_show_the_examples_that_raised_them(page, site):
    by_id = {v.id: v for v in site[1]}
    given = answer(3)
    open_answer(page)
    ids = [i for i, _ in raisers(page)]
    blocks = {i: link_scores(3, by_id[i]) for i in ids}

    def check(a, b):
        sums = {i: float(block[:, a:b].sum()) for i, block in blocks.items()}
        order = sorted(ids, key=lambda i: -sums[i])
        until(page, "id => document.querySelector('.raisers [data-from]').dataset.from === id", order[0])
        found = raisers(page)
        assert [i for i, _ in found] == order
        np.testing.assert_allclose([v for _, v in found], [sums[i] for i in order], rtol=6e-2)
        first = page.locator(".raisers > li").first.locator("[data-unit]").first
        assert int(first.get_attribute("data-unit")) == int(blocks[order[0]][:, a:b].sum(axis=1).argmax())

    check(0, len(given.token_offsets))
    a, b, _ = given.steps[2]
    page.locator(".answer .gutter .choice").nth(2).click()
    check(a, b)
    assert "part=s2" in address(page)
    page.locator(".answer .tok").nth(b).click()
    check(b, b + 1)
    assert f"part=t{b}" in address(page)
    page.locator(".answer .tok").nth(a).hover()
    check(a, a + 1)
    page.mouse.move(5, 5)
    check(b, b + 1)


def test_a_training_step_shows_the_part_of_the_answer_it_raised_and_back(page, site):
    by_id = {v.id: v for v in site[1]}
    open_answer(page)
    page.locator(".raisers [data-unit]").nth(1).click()
    until(page, "location.hash.includes('unit=')")
    chosen = page.evaluate("new URLSearchParams(location.hash.slice(1)).get('from')")
    unit = int(page.evaluate("new URLSearchParams(location.hash.slice(1)).get('unit')"))
    row = link_scores(3, by_id[chosen])[unit]
    until(
        page, "u => document.querySelector('.answer .legend')?.textContent.includes(`step ${u + 1} of example`)", unit
    )
    page.focus(".answer .tokens")
    page.keyboard.press("m")
    until(page, "t => document.querySelector('.answer .tok.at').dataset.t == t", int(np.abs(row).argmax()))
    page.reload()
    page.wait_for_selector(".answer .tok.at")
    assert page.locator(f".raisers > li.on [data-unit='{unit}'][aria-pressed=true]").count() == 1
    page.locator(".raisers > li.on").get_by_role(
        "button", name="Open"
    ).click()  # to the example, and from its step back
    until(page, "id => document.querySelector('.map h3')?.textContent === id", chosen)
    assert "by=q3" in address(page)
    page.locator("#panel-examples .gutter .choice").nth(unit).click()
    link = page.locator(".links li", has_text="query q3").get_by_role("button")
    link.wait_for()
    link.click()
    page.wait_for_selector("#panel-queries:not([hidden]) .answer .tok")
    sums = [link_scores(3, by_id[chosen])[unit, a:b].sum() for a, b, _ in answer(3).steps]
    assert f"part=s{int(np.argmax(sums))}" in address(page) and f"unit={unit}" in address(page)


def test_two_targets_stand_side_by_side_with_the_largest_moves_first(page, frame):
    page.get_by_role("tab", name="Compare").click()
    page.select_option("[aria-label='Compared with']", "this")
    page.select_option("[aria-label='Target compared']", "math")
    page.select_option("[aria-label='Its target']", "math-hard")
    until(page, "document.querySelector('#panel-compare')?.textContent.includes('for math-hard (b)')")
    train = frame[frame.set == "train"].set_index("id")
    moved = train["score_math"].rank(ascending=False) - train["score_math-hard"].rank(ascending=False)
    first = page.locator("#panel-compare button.link").first.inner_text()
    assert abs(moved[first]) == moved.abs().max()
    assert "view=compare" in address(page) and "b=math-hard" in address(page)
    page.reload()
    until(page, "document.querySelector('#panel-compare')?.textContent.includes('for math-hard (b)')")


def test_the_list_and_every_table_are_saved_as_csv_and_parquet(page, frame):
    page.check(".filters fieldset:has-text('domain') input[data-value=code]")
    settled(page)
    wanted = frame[(frame.set == "train") & (frame.domain == "code")].sort_values("score_math", ascending=False)
    file = downloaded(page, page.locator(".exports").get_by_role("button", name="Parquet"))
    assert pd.read_parquet(file.path())["id"].tolist() == wanted["id"].tolist()
    file = downloaded(page, page.locator(".exports").get_by_role("button", name="CSV"))
    rows = list(csv.DictReader(io.StringIO(Path(file.path()).read_text(encoding="utf-8"), newline="")))
    assert len(rows) == len(wanted)
    page.get_by_role("tab", name="Tables").click()
    page.wait_for_selector("#panel-tables table")
    page.locator("#panel-tables select").nth(0).select_option(index=1)
    file = downloaded(page, page.locator("#panel-tables").get_by_role("button", name="Parquet"))
    table = pd.read_parquet(file.path())
    assert file.suggested_filename == "effects.parquet" and table["target"].nunique() == 1
    assert table["effect"].dtype == np.float64 and len(table) > 0


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_linked_answers_and_keys_are_accessible_and_fit(watch, site, shots, width, scheme):
    watched = watch(width, scheme, axe=True)
    page = watched.page
    page.goto(site[0] + "/#view=queries&query=q3&part=s2")
    page.wait_for_selector(".answer .tok")
    settled(page)
    page.screenshot(path=shots / f"explorer-answer-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(page) == []
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    page.screenshot(path=shots / f"explorer-keys-{width}-{scheme}.png")
    assert serious(page) == [] and watched.complaints == []
