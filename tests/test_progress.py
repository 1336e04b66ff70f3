"""Long work is heard: in a log as lines, on a terminal as a bar that is drawn again; at least every ten seconds."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from infra import progress

PATIENCE = 1.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Ten seconds are one fifth of a second here."""
    monkeypatch.setattr(progress, "SILENCE", 0.2)


def lines(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_work_that_says_nothing_is_reported_and_silent_before_and_after(capsys):
    time.sleep(0.4)
    assert lines(capsys) == []
    with progress.alive("[3/9] curvature"):
        time.sleep(PATIENCE)
    heard = lines(capsys)
    assert len(heard) >= 2 and all(line.startswith("[3/9] curvature: at work for") for line in heard)
    time.sleep(0.4)
    assert lines(capsys) == []


def test_a_log_hears_how_far_the_innermost_bar_is_and_what_is_left(capsys):
    outer, inner = progress.progress(9, "stages", "stage"), progress.progress(1000, "scores", "token")
    with progress.alive("run"), outer, inner as bar:
        bar.advance(250)
        time.sleep(PATIENCE)
    assert any(line.startswith("scores: 250 of 1,000 tokens in ") and line.endswith(" left") for line in lines(capsys))


def test_who_speaks_anyway_is_not_talked_over(capsys):
    with progress.alive("busy"):
        for _ in range(10):
            progress.say("here I am")
            time.sleep(0.1)
    assert set(lines(capsys)) == {"here I am"}


def test_blocks_inside_one_another_are_one_voice(capsys):
    with progress.alive("command"), progress.alive("stage"):
        time.sleep(PATIENCE)
    heard = lines(capsys)
    assert heard and all(line.startswith("stage: ") for line in heard) and len(heard) <= PATIENCE / 0.2 + 1


def test_on_a_terminal_the_bar_is_drawn_again(monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress.alive("run"), progress.progress(10, "scores", "token") as bar:
        monkeypatch.setattr(bar._bar, "refresh", lambda: drawn.append(1))
        time.sleep(PATIENCE)
        monkeypatch.undo()
    assert len(drawn) >= 2 and "at work" not in capsys.readouterr().err


def test_a_stage_in_a_worker_process_is_heard_in_a_log():
    code = (
        "import multiprocessing, time\n"
        "from infra import progress\n"
        "def work():\n"
        "    progress.SILENCE = 0.2\n"
        "    progress.hide_bars()\n"
        "    with progress.alive('[1/2] sft/original-s0'):\n"
        "        time.sleep(1.0)\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('fork').Process(target=work)\n"
        "    process.start(); process.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.count("[1/2] sft/original-s0: at work for") >= 2, done.stderr
