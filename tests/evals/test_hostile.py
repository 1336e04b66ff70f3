"""Every hostile program is contained, judged rightly in strict mode, and leaves the host as it was."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from infra.evals.sandbox import Job, Limits, Sandbox, backends, run_jobs
from tests.evals.hostile import FAKES, PROGRAMS, SOLVED, TESTS

WORKING = [name for name, problem in backends().items() if not problem]
LIMITS = Limits(memory=256 << 20, output=4 << 20)
MARKS = ("while True", "sleep", "10 **", "(a+)", "7 **")
SLOW = [n for n, c in PROGRAMS.items() if any(mark in c for mark in MARKS)]
RESTING = "def f(x):\n    return x + 1\n"


def host_state() -> dict[str, object]:
    """What an escape would change: marker files, the system's folders, our processes, the clock's sanity."""
    marks = [p for p in ("/tmp/infra-owned", "/etc/infra-owned", "/infra-owned") if os.path.exists(p)]
    return {
        "marks": marks,
        "etc": sorted(os.listdir("/etc")),
        "host": socket.gethostname(),
        "interpreter": Path(os.__file__).stat().st_mtime_ns,
        "stray": _sandboxes(),
    }


def _sandboxes() -> list[str]:
    """Command lines of this run's sandbox processes that are still alive, whoever their parent is by now."""
    mark, out = f'"started_by": {os.getpid()},'.encode(), []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if mark in line:
                out.append(f"{entry}: {line[:200].decode(errors='replace')}")
    return sorted(out)


def run(names: list[str], mode: str, backend: str) -> dict[str, str]:
    """Verdicts of the named programs, all in one sandbox one after another, with a harmless one behind each."""
    jobs = [Job(code, TESTS, 1.0, mode, LIMITS) for name in names for code in (PROGRAMS[name], RESTING)]
    ran = run_jobs(jobs, workers=2, backend=backend)
    assert [r.outcome for r in ran[1::2]] == ["correct"] * len(names), [
        (n, r) for n, r in zip(names, ran[1::2]) if r.outcome != "correct"
    ]
    return {name: r.outcome for name, r in zip(names, ran[::2])}


def check(names: list[str], mode: str, backend: str) -> None:
    before = host_state()
    verdicts = run(names, mode, backend)
    after, deadline = host_state(), time.monotonic() + 10
    while after != before and time.monotonic() < deadline:  # killed processes may take a moment; an escape stays
        time.sleep(0.05)
        after = host_state()
    assert after == before
    # compatible mode takes os.fork and os.kill away, so that trying them is a TypeError there
    allowed = SOLVED if mode == "strict" else (SOLVED - {"attack and solve: fork", "attack and solve: kill"}) | FAKES
    passed = {name for name, outcome in verdicts.items() if outcome == "correct"}
    assert passed == allowed & set(names)


def test_a_sandbox_is_seen_while_it_lives_and_gone_when_it_is_closed() -> None:
    for backend in WORKING:
        with Sandbox(backend):
            assert _sandboxes()
        assert not _sandboxes()


def test_there_are_at_least_sixty_programs_and_a_sandbox_to_hold_them() -> None:
    assert len(PROGRAMS) >= 60
    assert WORKING


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - set(SLOW)))
def test_contained_and_judged_from_outside(name: str, backend: str = WORKING[0]) -> None:
    check([name], "strict", backend)


@pytest.mark.slow
@pytest.mark.parametrize("backend", WORKING)
@pytest.mark.parametrize("mode", ["strict", "compatible"])
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_contained_in_every_mode_and_backend(name: str, mode: str, backend: str) -> None:
    check([name], mode, backend)
