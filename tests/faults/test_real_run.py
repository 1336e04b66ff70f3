"""The real command, all its stages, killed at random moments and at every rename, starved of disk and damaged: it ends
with the bytes of an undisturbed run, or refuses with an error that names the file.

Slow (about fifteen minutes): `pytest -m slow tests/faults`. Each test prints its counts, shown by `-s` or `-rP`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from infra.pipeline import stages_of
from infra.pipeline.recipe import load_recipe
from infra.store import MANIFEST, RunFolder
from tests.faults.children import DieAtRename, FileLimit, JumpingClock, RecordRenames, contents, run, start
from tests.faults.tiny import rows, write_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
KILLED = -signal.SIGKILL


class Undisturbed:
    """An undisturbed run: its files, its stages in order with their seconds, its renames."""

    def __init__(self, home: Path) -> None:
        self.recipe = write_tiny(home)
        self.folder, log = home / "undisturbed", home / "renames"
        assert run(["run", str(self.recipe), "--out", str(self.folder)], home / "log", RecordRenames(log)) == 0
        self.contents = contents(self.folder)
        self.stages = [s.name for s in stages_of(load_recipe(self.recipe), self.folder)]
        self.seconds = {n: t["seconds"] for n, t in RunFolder(self.folder).runtimes().items()}
        self.renames = [Path(line).relative_to(self.folder).as_posix() for line in log.read_text().splitlines()]

    def command(self, folder: Path) -> list[str]:
        return ["run", str(self.recipe), "--out", str(folder)]

    def finish(self, folder: Path, log: Path) -> None:
        """The same command once more, undisturbed: exit code 0 and the same bytes."""
        assert run(self.command(folder), log) == 0, log.read_text()[-2000:]
        found = contents(folder)
        assert {k for k in found if found[k] != self.contents.get(k)} == set()
        assert found.keys() == self.contents.keys()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("faults"))


def under_way(folder: Path) -> str:
    """The stage a killed command was in."""
    parts = [p.relative_to(folder).as_posix() for p in folder.rglob("*.part") if p.is_dir() and (p / ".key").exists()]
    return parts[0].removesuffix(".part") if parts else "between stages"


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_a_random_moment_of_every_stage(undisturbed: Undisturbed, tmp_path: Path, seed: int) -> None:
    rng, folder, kills = random.Random(seed), tmp_path / "run", Counter()
    for stage in undisturbed.stages:
        process = start(undisturbed.command(folder), tmp_path / "log")
        part = folder / f"{stage}.part"
        while not part.exists() and process.is_alive() and not (folder / stage).exists():
            time.sleep(0.001)
        process.join(rng.uniform(0, undisturbed.seconds[stage]))
        if process.is_alive():
            process.kill()
        process.join()
        if process.exitcode == KILLED:
            kills[under_way(folder)] += 1
        else:
            assert process.exitcode == 0, (tmp_path / "log").read_text()[-2000:]
    undisturbed.finish(folder, tmp_path / "log")
    print(f"\n{kills.total()} kills at random moments, in {len(kills)} stages: {dict(kills)}")
    assert kills.total() >= 15


@pytest.mark.parametrize("after", [False, True], ids=["between write and rename", "after rename"])
def test_killed_at_every_rename(undisturbed: Undisturbed, tmp_path: Path, after: bool) -> None:
    folder, kills = tmp_path / "run", 0
    for place in undisturbed.renames:
        code = run(undisturbed.command(folder), tmp_path / "log", DieAtRename(place, after))
        assert code in (0, KILLED), (tmp_path / "log").read_text()[-2000:]
        kills += code == KILLED
    undisturbed.finish(folder, tmp_path / "log")
    print(f"\n{kills} kills at {len(undisturbed.renames)} renames")
    assert kills >= len(undisturbed.renames) // 2


def workers_of(pid: int) -> list[psutil.Process]:
    """The stage workers among a command's children."""
    return [c for c in psutil.Process(pid).children() if "spawn_main" in " ".join(c.cmdline())]


def test_killed_workers_and_killed_parents_of_workers(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Two jobs, real processes: one worker killed ends the command with exit code 5 and one sentence; the parent killed
    takes its workers with it."""
    recipe = write_tiny(tmp_path / "two", jobs=2)
    command = [sys.executable, "-m", "infra", "run", str(recipe), "--out"]
    quiet, folder, log = tmp_path / "quiet", tmp_path / "run", tmp_path / "log"
    subprocess.run([*command, str(quiet)], check=True, capture_output=True)
    rng, kills = random.Random(0), Counter()
    for attempt in range(8):
        with log.open("w") as out:
            process = subprocess.Popen([*command, str(folder)], stdout=out, stderr=out)
        while process.poll() is None and not any(line.endswith(" ...\n") for line in log.open()):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 4))  # from then on workers are born, import and work
        workers = workers_of(process.pid) if process.poll() is None else []
        if not workers:
            process.wait()
            continue
        if attempt % 2:
            process.kill()
            process.wait()
            _, alive = psutil.wait_procs(workers, timeout=10)
            assert not alive
            kills["parent"] += 1
        else:
            rng.choice(workers).kill()
            code = process.wait(120)
            if code != 0:  # 0: the worker had nothing left to do
                assert code == 5 and "a worker process was killed" in log.read_text(), log.read_text()[-2000:]
                assert "Traceback" not in log.read_text()
                kills["worker"] += 1
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert contents(folder) == contents(quiet)
    print(f"\nkilled: {dict(kills)}")
    assert kills["worker"] >= 2 and kills["parent"] >= 2


def test_a_limit_on_file_sizes(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Sizes just below each of the run's larger files, so that different stages and libraries meet the limit."""
    sizes = sorted({p.stat().st_size for p in undisturbed.folder.rglob("*") if p.is_file()}, reverse=True)
    sizes = [size for size in sizes if size > 4096]  # what the command prints goes to a file too
    folder, codes, stopped = tmp_path / "run", Counter(), Counter()
    for size in (*sizes[::-1][::2], *sizes[:3]):
        code = run(undisturbed.command(folder), tmp_path / "log", FileLimit(size - 1))
        said = (tmp_path / "log").read_text()
        codes[code] += 1
        if code != 0:
            assert code == 5 and "no space left" in said and "Traceback" not in said, said[-2000:]
            stopped[under_way(folder)] += 1
        if sum(codes.values()) % 3 == 0:  # now and then the next stage gets room
            with_room = run(undisturbed.command(folder), tmp_path / "log", FileLimit(size * 3))
            assert with_room in (0, 5), (tmp_path / "log").read_text()[-2000:]
    undisturbed.finish(folder, tmp_path / "log")
    print(f"\nexit codes under {sum(codes.values())} limits: {dict(codes)}; stopped in {dict(stopped)}")
    assert codes[5] >= 10


def test_a_full_disk(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """A small tmpfs, filled so that so many bytes are left; then freed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a tmpfs")
    try:
        stopped = Counter()
        for left in (0, 4096, 20_000, 60_000, 120_000, 200_000, 300_000, 450_000):
            free = os.statvfs(disk)
            (disk / "ballast").write_bytes(b"\0" * max(0, free.f_bavail * free.f_frsize - left))
            code = run(undisturbed.command(disk / "run"), tmp_path / "log")
            said = (tmp_path / "log").read_text()
            if code != 0:
                assert code == 5 and "no space left" in said and "Traceback" not in said, said[-3000:]
                stopped[under_way(disk / "run")] += 1
            (disk / "ballast").unlink()
        undisturbed.finish(disk / "run", tmp_path / "log")
        print(f"\nthe disk was full in {dict(stopped)}")
        assert stopped.total() >= 4
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_every_file_truncated_flipped_or_missing_is_refused_by_name(undisturbed: Undisturbed, tmp_path: Path) -> None:
    folder, rng = tmp_path / "run", random.Random(0)
    shutil.copytree(undisturbed.folder, folder)
    outcomes = Counter()
    stages = set(undisturbed.stages)
    for relative in undisturbed.contents:
        stage = next((s for s in sorted(stages, key=len, reverse=True) if relative.startswith(s + "/")), None)
        if stage is None:
            continue  # recipe.json and report.html at the top are copies, written anew by every command
        path = folder / relative
        good = path.read_bytes()
        for damage in ("truncated", "bit-flipped", "missing"):
            if damage == "truncated":
                path.write_bytes(good[: rng.randrange(len(good))])
            elif damage == "bit-flipped":
                at = rng.randrange(len(good))
                path.write_bytes(good[:at] + bytes([good[at] ^ (1 << rng.randrange(8))]) + good[at + 1 :])
            else:
                path.unlink()
            code = run(undisturbed.command(folder), tmp_path / "log")
            said = (tmp_path / "log").read_text()
            if code == 3:
                # a manifest whose note of another file's hash is flipped: that file is the one that differs from it
                named = path.parent if path.name == MANIFEST else path
                assert "Traceback" not in said and str(named) in said, said[-2000:]
                path.write_bytes(good)
                outcomes[damage, "refused by name"] += 1
            else:  # a manifest that is gone, or whose key now is another: made again
                assert code == 0 and path.name == MANIFEST, said[-2000:]
                outcomes[damage, "made again"] += 1
                assert contents(folder) == undisturbed.contents
    undisturbed.finish(folder, tmp_path / "log")
    print(f"\ndamaged artifacts: {dict(outcomes)}")
    assert outcomes["bit-flipped", "refused by name"] > 50


def test_a_damaged_work_folder_is_never_used(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Killed in the middle of stages that go on from their own files, those files flipped: the same bytes, or refused
    by name and, the file deleted as the message says, the same bytes."""
    rng, outcomes = random.Random(0), Counter()
    for i, stage in enumerate(("evals/base", "responses", "scores", "sft/original-s0", "base")):
        folder = tmp_path / f"run{i}"
        late = [r for r in undisturbed.renames if r.startswith(f"{stage}.part/") and r.endswith(f"/{MANIFEST}")]
        shutil.copytree(undisturbed.folder, folder)
        for later in undisturbed.stages[undisturbed.stages.index(stage) :]:
            shutil.rmtree(folder / later)
        process = start(undisturbed.command(folder), tmp_path / "log")
        while not (folder / f"{stage}.part").exists():
            time.sleep(0.001)
        process.join(undisturbed.seconds[stage] * 0.7)
        process.kill()
        process.join()
        assert late
        files = [p for p in (folder / f"{stage}.part").rglob("*") if p.is_file() and p.stat().st_size]
        for path in files:
            good = path.read_bytes()
            at = rng.randrange(len(good))
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        for _ in range(20):
            code = run(undisturbed.command(folder), tmp_path / "log")
            if code == 0:
                outcomes["same bytes"] += 1
                break
            said = (tmp_path / "log").read_text()
            named = [p for p in files if str(p) in said]
            assert code == 3 and named and "Traceback" not in said, said[-2000:]
            named[0].unlink()
            outcomes["refused by name"] += 1
        undisturbed.finish(folder, tmp_path / "log")
    print(f"\ndamaged work folders: {dict(outcomes)}")


def test_a_stale_lock_does_not_stop_and_a_live_one_does(undisturbed: Undisturbed, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(undisturbed.command(folder), tmp_path / "log")
    while not (folder / "base.part").exists():
        time.sleep(0.001)
    assert run(undisturbed.command(folder), tmp_path / "second") == 3
    assert "another command is writing to" in (tmp_path / "second").read_text()
    process.kill()
    process.join()
    (folder / ".lock").write_text("pid 1\n")  # left behind, and by a process that is still there
    undisturbed.finish(folder, tmp_path / "log")


def test_a_clock_that_jumps(undisturbed: Undisturbed, tmp_path: Path) -> None:
    rng, folder = random.Random(0), tmp_path / "run"
    for i, place in enumerate(("curvature", "scores", "measure")):
        assert run(undisturbed.command(folder), tmp_path / "log", JumpingClock(i)) in (0, KILLED)
        shutil.rmtree(folder / place)
        for path in folder.rglob("*"):
            os.utime(path, times=(rng.uniform(0, 4e9), rng.uniform(0, 4e9)))
    undisturbed.finish(folder, tmp_path / "log")


def test_an_input_changed_between_a_kill_and_the_next_command(undisturbed: Undisturbed, tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path / "data")
    train, folder, fresh = tmp_path / "data" / "train.jsonl", tmp_path / "run", tmp_path / "fresh"
    command = ["run", str(recipe), "--out"]
    assert run([*command, str(folder)], tmp_path / "log", DieAtRename("scores", after=False)) == KILLED
    lines = train.read_text().splitlines()
    assert len(lines) == len(rows())
    train.write_text("\n".join(lines[:-10]) + "\n")
    for out in (folder, fresh):
        assert run([*command, str(out)], tmp_path / "log") == 0, (tmp_path / "log").read_text()[-2000:]
    assert contents(folder) == contents(fresh)
    assert contents(folder)["scores/examples.parquet"] != undisturbed.contents["scores/examples.parquet"]
