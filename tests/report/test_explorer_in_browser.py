"""The explorer in headless Chromium, against a live server: every control used, nothing asked of anyone else."""

from __future__ import annotations

import numpy as np
import pytest

from .conftest import downloaded, serious, until


@pytest.fixture
def opened(watch, site):
    def open_at(width=1280, scheme="light", axe=False):
        watched = watch(width, scheme, axe)
        watched.page.goto(site[0] + "/#set=all")
        watched.page.wait_for_selector(".tokens .tok")
        return watched

    return open_at


def shown(page) -> str:
    return page.inner_text(".map h3")


def count(page, words):
    until(page, "w => document.querySelector('.listing .count')?.textContent === w", words)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_explorer_is_quiet_accessible_and_fits(opened, site, shots, width, scheme):
    watched = opened(width, scheme, axe=True)
    page = watched.page
    page.screenshot(path=shots / f"explorer-{width}-{scheme}.png", full_page=True)
    assert serious(page) == []
    for name in ("Queries", "Tables", "Compare"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(300)
        page.screenshot(path=shots / f"explorer-{name.lower()}-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert serious(page) == []
    assert watched.complaints == []
    assert watched.outside(site[0]) == []


def test_filter_search_sort_and_page(opened, site):
    page, made = opened().page, site[1]
    page.check(".filters fieldset:has-text('domain') input[data-value=math]")
    count(page, "60 of 120 examples")
    page.uncheck(".filters fieldset:has-text('domain') input[data-value=math]")
    count(page, "120 of 120 examples")
    page.fill(".listing input[type=search]", "zanzibar20")
    count(page, "1 of 120 examples")
    page.locator(".listing li button").click()
    until(page, "id => document.querySelector('.map h3')?.textContent === id", made[20].id)
    page.fill(".listing input[type=search]", "")
    count(page, "120 of 120 examples")
    page.fill(".filters fieldset:has-text('n_tokens') input >> nth=0", "1000")
    until(page, "!document.querySelector('.listing .count')?.textContent.startsWith('120')")
    page.fill(".filters fieldset:has-text('n_tokens') input >> nth=0", "")
    count(page, "120 of 120 examples")
    page.get_by_role("button", name="Next").click()
    until(page, "document.querySelector('.pages .quiet-text')?.textContent.startsWith('51')")
    page.get_by_role("button", name="Previous").click()
    until(page, "document.querySelector('.pages .quiet-text')?.textContent.startsWith('1–')")
    page.select_option(".way select >> nth=0", "code")
    page.select_option(".way select >> nth=1", "asc")
    scores = {v.id: v.totals()[1] for v in made}
    worst = min(scores, key=lambda i: scores[i])
    until(page, "id => document.querySelector('.listing li button').dataset.id === id", worst)


def test_tokens_of_another_target_are_fetched(opened, site):
    page, made = opened().page, site[1]
    page.locator(".listing li button").nth(1).click()
    until(page, "document.querySelector('.listing li:nth-child(2) button').getAttribute('aria-current')")
    page.select_option(".map .controls select", "code-easy")
    until(page, "document.querySelector('.legend')?.textContent.includes('code-easy')")
    view = next(v for v in made if v.id == shown(page))
    t = int(np.abs(view.scores["loss"][3]).argmax())
    page.focus(".tokens")
    page.keyboard.press("m")
    assert page.evaluate("document.querySelector('.tok.at').dataset.t | 0") == t
    value = page.locator(".tip strong").inner_text().replace("−", "-")
    assert float(value) == pytest.approx(float(view.scores["loss"][3, t]), rel=5e-3)


def test_from_a_query_to_an_example_and_back(opened):
    page = opened().page
    page.get_by_role("tab", name="Queries").click()
    page.fill("input[aria-label='Search queries']", "number 3")
    until(page, "document.querySelectorAll('#panel-queries li').length === 1")
    page.locator("#panel-queries li button").click()
    page.wait_for_selector("#panel-queries .table button.link")
    wanted = page.locator("#panel-queries .table button.link").first.inner_text()
    page.locator("#panel-queries .table button.link").first.click()
    until(page, "document.querySelector('.legend')?.textContent.includes('query q3')")
    assert shown(page) == wanted
    link = page.locator(".links button.link", has_text="Query number 3")
    link.wait_for()
    link.click()
    page.wait_for_selector("#panel-queries:not([hidden])")
    assert "Query q3" in page.inner_text("#panel-queries h2")


def test_tables_compare_theme_and_report(opened, site):
    watched = opened()
    page = watched.page
    page.get_by_role("tab", name="Tables").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#panel-tables:not([hidden]), #panel-compare:not([hidden])")
    page.get_by_role("tab", name="Compare").click()
    until(page, "document.querySelector('#panel-compare')?.textContent.includes('Spearman')")
    page.select_option("#panel-compare select >> nth=0", "code")
    until(page, "document.querySelector('#panel-compare')?.textContent.includes('for code (a)')")
    page.locator("#panel-compare button.link").first.click()
    page.wait_for_selector("#panel-examples:not([hidden])")
    page.get_by_role("tab", name="Tables").click()
    page.wait_for_selector("#panel-tables [role=region]")
    file = downloaded(page, page.locator("#panel-tables").get_by_role("button", name="Download CSV"))
    assert file.suggested_filename == "effects.csv"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.click("#report")
    page.wait_for_selector("#h-answer")
    assert watched.complaints == []
    assert watched.outside(site[0]) == []


def test_hostile_text_and_errors_are_shown_as_text(opened, site):
    watched = opened()
    page = watched.page
    page.fill(".listing input[type=search]", "<b>r</b></script>")
    count(page, "1 of 120 examples")
    page.locator(".listing li button").click()
    until(page, "document.querySelector('.map h3')?.textContent.startsWith('<b>')")
    assert page.evaluate("window.pwned === undefined")
    assert "U+202E" in page.inner_text(".tokens")
    page.goto("about:blank")  # a page of its own: nothing of the last one is under way
    page.goto(site[0] + "/#example=nobody")
    page.wait_for_selector("#problem:not([hidden])")
    assert "no example 'nobody'" in page.inner_text("#problem")
