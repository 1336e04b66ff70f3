"""A headless Chromium for the page and the explorer, and a guard that records what a page must never do."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Download, Locator, Page, TimeoutError, sync_playwright

from infra.report import render_report
from infra.report.explorer import open_run
from infra.report.explorer.app import build_app

from . import synthetic
from .run_folder import write_run

SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for the session: ``INFRA_CHROMIUM``, one on the path, or Playwright's own."""
    given = os.environ.get("INFRA_CHROMIUM")
    found = given or next((path for path in map(shutil.which, NAMES) if path), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except Exception as error:
            pytest.fail(
                f"no Chromium starts ({found or 'none on the path'}): install one with 'playwright install "
                f"--with-deps chromium' or name one in INFRA_CHROMIUM. {str(error).splitlines()[0]}"
            )
        yield chromium
        chromium.close()


def until(page: Page, expression: str, arg: Any = None, seconds: float = 60.0) -> None:
    """Wait until ``expression`` holds; unlike wait_for_function this needs no eval, which the pages forbid."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, f"{expression} ({arg}) did not come true in {seconds} s"
        page.wait_for_timeout(40)


def downloaded(page: Page, button: Locator) -> Download:
    """What a click on ``button`` downloads. On a busy machine headless Chromium now and then drops one
    of several downloads that follow each other at once (why is not known), so each is waited for and a lost one is
    asked for again."""
    for _ in range(3):
        try:
            with page.expect_download(timeout=5_000) as caught:
                button.click()
            caught.value.path()
            return caught.value
        except TimeoutError:
            page.wait_for_timeout(1_000)
    raise AssertionError(f"three clicks on {button} downloaded nothing")


@dataclass
class Watched:
    """A page and everything it complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def outside(self, own: str) -> list[str]:
        """Requests that left ``own`` (a URL prefix)."""
        return [u for u in self.requests if not u.startswith((own, "data:", "blob:"))]


def axe_source() -> str:
    """The axe-core script, from the package of the ``dev`` extra."""
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


def serious(page: Page) -> list[str]:
    """axe-core's serious and critical findings on the page as it stands."""
    result: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{v['id']}: {v['help']} at {n['target']} {n.get('failureSummary', '')}"
        for v in result["violations"]
        if v["impact"] in ("serious", "critical")
        for n in v["nodes"][:3]
    ]


@pytest.fixture
def watch(browser: Browser) -> Iterator[Any]:
    """Opens pages: ``watch(width, scheme, axe)`` gives a :class:`Watched`."""
    contexts = []

    def open_page(width: int = 1280, scheme: str = "light", axe: bool = False) -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        if axe:
            context.add_init_script(axe_source())
        context.set_default_timeout(20_000)
        page = context.new_page()
        watched = Watched(page)
        page.on(
            "console",
            lambda m: watched.complaints.append(m.text) if m.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda e: watched.complaints.append(str(e)))
        page.on("dialog", lambda d: (watched.complaints.append("dialog " + d.message), d.dismiss()))
        page.on("request", lambda r: watched.requests.append(r.url))
        return watched

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic report, rendered once."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    render_report(synthetic.report(), out)
    return out


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where screenshots are kept as test artifacts."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The application on a port of its own; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A live explorer comparing two made-up runs: (url, examples, folder of the first)."""
    folder = tmp_path_factory.mktemp("site")
    made = write_run(folder / "run-a")
    write_run(folder / "run-b", shift=0.05, recipe={"name": "run-b", "seed": 7})
    with serving(build_app(open_run(folder / "run-a", wait=True), open_run(folder / "run-b", words=False))) as url:
        yield url, made, folder / "run-a"
