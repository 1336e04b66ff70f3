"""Every hostile program is contained, judged rightly in strict mode, and leaves the host as it was."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.evals.sandbox import Job, Limits, Sandbox, backends, run_jobs
from tests.evals import hostile_tests
from tests.evals.hostile import FAKES, PROGRAMS, SOLVED, TESTS
from tests.evals.hostile_tests import CHEATS, FAIR, HEAVY

SHARED = Path(os.environ.get("INFRA_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
WORKING = [name for name, problem in backends().items() if not problem]
LIMITS = Limits(memory=256 << 20, output=4 << 20)
MARKS = ("while True", "sleep", "10 **", "(a+)", "7 **")
SLOW = [n for n, c in PROGRAMS.items() if any(mark in c for mark in MARKS)]
RESTING = "def f(x):\n    return x + 1\n"
MARK = f'"started_by": {os.getpid()},'.encode()
QUICK = (
    "range in a set",
    "digits shown",
    "digits as text",
    "54 MB in a message",
    "a lone surrogate in an exception",
    "a lone surrogate in the program",
    "a folder that cannot be listed",
)


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


def _processes() -> Iterator[tuple[str, bytes]]:
    """Number and command line of this run's sandbox processes that are alive, whoever their parent is by now."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if MARK in line:
                yield entry, line


def _sandboxes() -> list[str]:
    return sorted(f"{entry}: {line[:200].decode(errors='replace')}" for entry, line in _processes())


@contextmanager
def watched() -> Iterator[list[int]]:
    """A list whose one entry is the most resident memory, in MiB, that one process of a sandbox was seen to hold."""
    peak, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            for entry, _ in _processes():
                try:
                    lines = Path(f"/proc/{entry}/status").read_text().splitlines()
                except OSError:
                    continue
                held = [int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")]
                peak[0] = max([peak[0], *held])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


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


@pytest.mark.parametrize("backend", WORKING)
def test_no_program_is_judged_correct_for_what_it_does_to_the_tests(backend: str) -> None:
    jobs = [Job(code, tests, 1.0, "strict", LIMITS) for code, tests in CHEATS.values()]
    ran = dict(zip(CHEATS, run_jobs(jobs, workers=2, backend=backend)))
    assert {name: r for name, r in ran.items() if r.outcome == "correct"} == {}


@pytest.mark.parametrize("backend", WORKING)
def test_the_side_that_is_at_fault_is_blamed(backend: str) -> None:
    jobs = [Job(code, tests, 4.0, "strict", LIMITS) for code, tests, _ in FAIR.values()]
    ran = dict(zip(FAIR, run_jobs(jobs, workers=2, backend=backend)))
    assert {n: (r.outcome, r.detail) for n, r in ran.items() if r.outcome != FAIR[n][2]} == {}


def check_heavy(name: str, backend: str) -> None:
    """Within memory and time, the program's own fault, nothing unprintable said, and the next program is judged."""
    code, tests = HEAVY[name]
    with watched() as peak:
        heavy, resting = run_jobs(
            [Job(code, tests, 1.0, "strict", LIMITS), Job(RESTING, TESTS, 4.0, "strict", LIMITS)], backend=backend
        )
    assert heavy.outcome in ("wrong", "error", "timeout") and "lost" not in heavy.detail, heavy
    assert all(c.isprintable() or c in "\n\t" for c in heavy.detail) and len(heavy.detail) < 1000
    assert peak[0] <= (LIMITS.memory >> 20) + 64  # of which some 15 MiB are the interpreter
    assert heavy.seconds < 40  # the job's limit by the clock; each of both sides has some 2 s of processor time
    assert resting.outcome == "correct", resting


@pytest.mark.parametrize("name", QUICK)
def test_what_a_program_returns_does_not_overrun_its_judge(name: str) -> None:
    check_heavy(name, WORKING[0])


@pytest.mark.slow
@pytest.mark.parametrize("backend", WORKING)
@pytest.mark.parametrize("name", sorted(HEAVY))
def test_nothing_overruns_the_judge_in_any_backend(name: str, backend: str) -> None:
    check_heavy(name, backend)


@pytest.mark.parametrize("number", ["32", "38", "50"])
def test_human_eval_takes_its_helpers_from_the_prompt(number: str) -> None:
    rows = hostile_tests.human_eval(SHARED)
    if not rows:
        pytest.skip("HumanEval.jsonl.gz is not here")
    row = rows[number]
    setup, _, _ = row["prompt"].partition(f"def {row['entry_point']}(")
    tests = {"kind": "program", "entry_point": row["entry_point"], "code": row["test"], "setup": setup}
    entry = f"def {row['entry_point']}(*a):\n    return a[0] if isinstance(a[0], str) else 0\n"
    trivial = (
        "".join(f"def {n}(*a): return a[0]\n" for n in ("encode_cyclic", "encode_shift")) + "def poly(*a): return 0\n"
    )
    right = row["prompt"] + row["canonical_solution"]
    ran = run_jobs([Job(trivial + entry, tests, 6.0), Job(right, tests, 6.0)])
    assert [r.outcome for r in ran] == ["wrong", "correct"], ran
