"""What all rooms' tests share: one thread, no network of the hub, and a mark on tests that need a browser."""

import os

import pytest
from hypothesis import settings

# the same examples every time: what a change did is what a failure says. HYPOTHESIS=random looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("random" if os.environ.get("HYPOTHESIS") == "random" else "same")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # many small models: threads would only wait for each other
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # the longest files first, so that no process is left alone with one of them at the end
    items.sort(key=lambda item: not item.nodeid.startswith("tests/pipeline"))
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
            # headless Chromium on a shared machine loses an event now and then; a fault of ours fails three times
            item.add_marker(pytest.mark.flaky(reruns=2, only_rerun="TimeoutError|did not come true"))
        elif "together" in vars(getattr(item, "module", None) or object):
            # a forked process inherits locks of pytest-xdist's threads and may hang before it has done anything
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun="Hung"))
