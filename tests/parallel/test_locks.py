"""Claims by lock files: one owner at a time, and a dead one's lock is found out without looking at any clock."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from infra.parallel.locks import Claims
from tests.parallel.processes import start

PATIENCE = 0.3


def test_only_one_of_many_processes_gets_a_claim(tmp_path: Path) -> None:
    def claim() -> None:
        claims = Claims(tmp_path)
        if claims.take("shard"):
            (tmp_path / f"won-{os.getpid()}").touch()
        time.sleep(1.0)

    for process in start(6, claim):
        process.join()
    assert len(list(tmp_path.glob("won-*"))) == 1


def test_the_claim_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    def hold() -> None:
        claims = Claims(tmp_path)
        claims.take("shard")
        (tmp_path / "held").touch()
        time.sleep(60)

    [holder] = start(1, hold)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with Claims(tmp_path) as claims:
        assert not claims.take("shard")
        holder.kill()
        holder.join()
        assert claims.take("shard")


def forged(folder: Path, name: str, **changes: str) -> Path:
    """A lock called ``name`` as this process would write it, but for some of its lines."""
    with Claims(folder, beat=0.1, patience=PATIENCE) as claims:
        assert claims.take("pattern")
        text = (folder / "pattern.lock").read_text()
    for key, value in changes.items():
        text, found = re.subn(rf"(?m)^{key}=.*$", f"{key}={value}", text)
        assert found == 1
    lock = folder / f"{name}.lock"
    lock.write_text(text)
    return lock


def test_a_process_id_that_was_given_to_another_process_does_not_keep_a_lock(tmp_path: Path) -> None:
    forged(tmp_path, "mine")
    forged(tmp_path, "another's", start="1")
    with Claims(tmp_path, beat=0.1, patience=PATIENCE) as claims:
        assert not claims.take("mine")
        assert claims.take("another's")


def test_another_machines_lock_is_stale_when_nobody_touches_it(tmp_path: Path) -> None:
    lock = forged(tmp_path, "shard", host="elsewhere")
    with Claims(tmp_path, beat=0.1, patience=PATIENCE) as claims:
        for _ in range(4):  # touched in time, it stays its owner's
            assert not claims.take("shard")
            time.sleep(PATIENCE / 2)
            os.utime(lock)
        assert not claims.take("shard")
        time.sleep(PATIENCE * 1.4)
        assert claims.take("shard")


def test_a_claim_that_was_taken_over_is_not_given_back_for_its_new_owner(tmp_path: Path) -> None:
    with Claims(tmp_path, beat=0.1, patience=PATIENCE) as claims:
        assert claims.take("shard")
        (tmp_path / "shard.lock").unlink()
        lock = forged(tmp_path, "shard", host="elsewhere")
        claims.give_back("shard")
        assert lock.exists()


@pytest.mark.parametrize("text", ["", "{", "filelock/2\npid=", "filelock/2\npid=1\nhost=elsewhere\n"])
def test_a_torn_lock_is_waited_for_and_then_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / "shard.lock").write_text(text)
    with Claims(tmp_path, beat=0.1, patience=PATIENCE) as claims:
        assert not claims.take("shard")
        time.sleep(2.1)  # the library's patience with what it cannot read
        assert claims.take("shard")


def test_a_jump_of_the_wall_clock_breaks_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Claims(tmp_path, beat=0.05, patience=0.5) as mine, Claims(tmp_path, beat=0.1, patience=0.5) as theirs:
        assert mine.take("shard")
        for jump in (-1e9, 1e9, 0.0):
            monkeypatch.setattr(time, "time", lambda jump=jump: 1.7e9 + jump)
            assert not theirs.take("shard")
            time.sleep(0.2)
        mine.give_back("shard")
        assert theirs.take("shard")
