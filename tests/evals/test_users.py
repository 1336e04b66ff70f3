"""The ways into a sandbox that depend on who asks: an ordinary user, and root with an interpreter anybody can read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pytest

import infra

ROOT = Path(__file__).parents[2]
NOBODY = 65534
ATTACKS = (
    "fork bomb",
    "kill everything",
    "read passwords",
    "write outside",
    "tcp",
    "become root",
    "attack and solve: fork",
)


@lru_cache(maxsize=1)
def open_interpreter() -> str:
    """An interpreter of this version that every user can run with this environment's packages, or ''."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        with suppress(OSError):
            if as_user(NOBODY, candidate, "import infra, pytest, numpy").returncode == 0:
                return candidate
    return ""


def as_user(uid: int, program: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with ``program`` as that user, without further groups."""
    site = next((p for p in sys.path if p.endswith("site-packages")), "")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/tmp",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(infra.__file__).parents[1]), str(ROOT), site]),
    }
    return subprocess.run(
        [program, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd="/",
        check=False,
        user=uid,
        group=uid,
        extra_groups=[],
    )


def need_root() -> str:
    """The open interpreter; skips where this cannot be tried."""
    if os.geteuid() != 0:
        pytest.skip("not root: every other test of the sandbox already runs as an ordinary user")
    found = open_interpreter()
    if not found:
        pytest.skip("no interpreter of this version can be run by other users with these packages")
    return found


SHOW = """
import json
from infra.evals.sandbox import Job, Sandbox, backends, run_jobs
from tests.evals.hostile import PROGRAMS, TESTS
names = {names!r}
out = {{}}
for backend, problem in backends().items():
    if problem:
        out[backend] = problem
        continue
    with Sandbox(backend) as sandbox:
        user = open(f"/proc/{{sandbox._process.pid}}/status").read().split("Uid:")[1].split()[1]
    ran = run_jobs([Job(PROGRAMS[n], TESTS, 1.0) for n in names], workers=1, backend=backend)
    out[backend] = [int(user), [r.outcome == "correct" for r in ran]]
print(json.dumps(out))
"""


def shown(uid: int) -> dict[str, object]:
    done = as_user(uid, need_root(), SHOW.format(names=ATTACKS))
    assert done.returncode == 0, done.stderr[-800:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


RIGHT = [name.startswith("attack and solve") for name in ATTACKS]


def test_an_ordinary_user_gets_plain_bubblewrap_and_landlock() -> None:
    found = shown(NOBODY)
    assert found["bubblewrap-root"] == "not root"
    tried = [found[b] for b in ("bubblewrap", "landlock") if isinstance(found[b], list)]
    assert tried, found
    assert all(t == [NOBODY, RIGHT] for t in tried)


def test_root_becomes_another_user_before_anything_else() -> None:
    found = shown(0)
    tried = [found[b] for b in ("bubblewrap", "landlock") if isinstance(found[b], list)]
    assert tried, found
    for user, verdicts in tried:  # type: ignore[misc]
        assert user >= 61_184 and verdicts == RIGHT, found
