"""What is dear to make is made once a test session, whichever of its processes asks first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """This process's own copy of the folder that ``make`` writes.

    pytest-xdist runs the session in several processes, each with fixtures of its own. One of them makes the folder, the
    others wait for it. Every process gets a copy, because a test may run commands in it.
    """
    base = factory.getbasetemp()
    common = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    first = common / f"{name}-made"
    with FileLock(common / f"{name}.lock"):
        if not first.exists():
            part = common / f"{name}-part"
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(first)
    own = factory.mktemp(name) / "run"
    shutil.copytree(first, own)
    return own
