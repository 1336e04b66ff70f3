"""The store and the runner under kills, with stages of milliseconds: a kill at every rename, a clock that jumps."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from infra.errors import ArtifactError, ResourceError
from infra.pipeline.runner import run_stages
from infra.pipeline.stage import Context, Stage
from infra.store import MANIFEST, SEALS, RunFolder, seal, sealed, sha256_file, write_text
from tests.faults.children import DieAtRename, Fault, FileLimit, JumpingClock, RecordRenames, contents

FORK = multiprocessing.get_context("fork")


def read_source(context: Context, source: Path) -> None:
    write_text(context.out / "text.txt", source.read_text())


def in_shards(context: Context) -> None:
    """Three shards, each sealed; a shard that is there is not made again."""
    text = (context.step("source") / "text.txt").read_text()
    for i in range(3):
        shard = context.out / "shards" / f"{i}.txt"
        if not sealed(context.out, shard):
            write_text(shard, text * (i + 1))
            seal(context.out, shard)


def total(context: Context) -> None:
    sizes = [len(p.read_text()) for p in sorted((context.step("a/shards") / "shards").iterdir())]
    write_text(context.out / "sizes.txt", str(sizes))


def toy(source: Path) -> list[Stage]:
    return [
        Stage("source", partial(read_source, source=source), (), {"x": 1}, {str(source): sha256_file(source)}),
        Stage("a/shards", in_shards, ("source",)),
        Stage("total", total, ("a/shards",)),
    ]


def all_stages(source: Path, folder: Path, fault: Fault | None = None) -> None:
    if fault is not None:
        fault.install()
    run = RunFolder(folder)
    with run.lock():
        run_stages(toy(source), run)


def in_child(source: Path, folder: Path, fault: Fault | None = None) -> int | None:
    process = FORK.Process(target=all_stages, args=(source, folder, fault))
    process.start()
    process.join(60)
    return process.exitcode


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_text("some text\n")
    return path


def test_killed_before_and_after_every_rename_it_ends_with_the_same_bytes(source: Path, tmp_path: Path) -> None:
    log, quiet = tmp_path / "renames", tmp_path / "quiet"
    assert in_child(source, quiet, RecordRenames(log)) == 0
    places = [Path(line).relative_to(quiet).as_posix() for line in log.read_text().splitlines()]
    assert len(places) == 14  # three stages, each with a manifest; three shards and their seals; two single files
    kills = 0
    for after in (False, True):
        folder = tmp_path / f"one-{after}"
        for place in places:
            kills += in_child(source, folder, DieAtRename(place, after)) == -signal.SIGKILL
        assert in_child(source, folder) == 0
        assert contents(folder) == contents(quiet)
        assert not [p for p in folder.rglob("*") if p.name.endswith((".part", ".stale", ".tmp"))]
    assert kills >= 2 * len(places) - 6  # a stage done by a kill after its last rename is not done again


def test_a_temporary_file_left_by_a_kill_never_becomes_an_output(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert in_child(source, folder, DieAtRename("source.part/text.txt", after=False)) == -signal.SIGKILL
    assert list(folder.rglob(".text.txt.*.tmp"))
    all_stages(source, folder)
    all_stages(source, tmp_path / "quiet")
    assert contents(folder) == contents(tmp_path / "quiet")


def test_a_jumping_clock_and_old_and_future_files_change_nothing(source: Path, tmp_path: Path) -> None:
    assert in_child(source, tmp_path / "quiet") == 0
    assert in_child(source, tmp_path / "run", JumpingClock(0)) == 0
    rng = random.Random(0)
    for path in (tmp_path / "run").rglob("*"):
        os.utime(path, times=(rng.uniform(0, 4e9), rng.uniform(0, 4e9)))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob(MANIFEST)}
    assert in_child(source, tmp_path / "run", JumpingClock(1)) == 0
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob(MANIFEST)}
    assert contents(tmp_path / "run") == contents(tmp_path / "quiet")


def test_a_changed_input_is_read_anew_and_one_changed_while_it_is_read_is_refused(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    all_stages(source, folder)
    source.write_text("other text\n")
    assert in_child(source, folder, DieAtRename("source", after=False)) == -signal.SIGKILL
    all_stages(source, folder)
    all_stages(source, tmp_path / "fresh")
    assert contents(folder) == contents(tmp_path / "fresh") and not list(folder.rglob("*.stale"))
    stages = toy(source)
    source.write_text("changed after the plan was made\n")
    with pytest.raises(ArtifactError, match=r"source\.txt changed while"):
        run_stages(stages, RunFolder(tmp_path / "late"))


@pytest.mark.parametrize("damage", ["settings", "inputs"])
def test_a_manifest_that_does_not_agree_with_its_key_is_refused_by_name(
    source: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "run"
    all_stages(source, folder)
    path = folder / "source" / MANIFEST
    old, new = ('"x": 1', '"x": 3') if damage == "settings" else (sha256_file(source), "0" * 64)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ArtifactError, match=r"source/manifest\.json does not agree"):
        all_stages(source, folder)


def test_a_damaged_shard_of_a_work_folder_is_made_again(source: Path, tmp_path: Path) -> None:
    all_stages(source, tmp_path / "quiet")
    folder = tmp_path / "run"
    assert in_child(source, folder, DieAtRename(f"a/shards.part/{SEALS}/shards/1.txt", after=True)) == -signal.SIGKILL
    shard = folder / "a/shards.part/shards/1.txt"
    shard.write_bytes(bytes([shard.read_bytes()[0] ^ 1]) + shard.read_bytes()[1:])
    all_stages(source, folder)
    assert contents(folder) == contents(tmp_path / "quiet")


def test_a_full_disk_is_one_sentence_and_nothing_finished_is_lost(source: Path, tmp_path: Path) -> None:
    source.write_text("x" * 3000)
    folder = tmp_path / "run"

    def limited() -> None:
        try:
            all_stages(source, folder, FileLimit(5000))
        except ResourceError as error:
            os._exit(5 if "no space left on the disk of" in str(error) and "a/shards.part" in str(error) else 1)
        os._exit(0)

    process = FORK.Process(target=limited)
    process.start()
    process.join(60)
    assert process.exitcode == 5 and RunFolder(folder).verify("source") is not None
    all_stages(source, folder)
    all_stages(source, tmp_path / "quiet")
    assert contents(folder) == contents(tmp_path / "quiet")


@pytest.mark.parametrize(
    ("library", "message"),
    [
        (OSError, "1048576 requested and 4096 written"),
        (RuntimeError, "PytorchStreamWriter failed writing file data/0: file write failed"),
        (Exception, "No space left on device (os error 28)"),
    ],
)
def test_every_library_s_word_for_a_full_disk_is_understood(tmp_path: Path, library: type, message: str) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(ResourceError, match=r"no space left on the disk of .*s\.part"), run.writing("s", {}, {}):
        raise library(message)


def die_in_the_worker(context: Context) -> None:
    if not context.beside("died").exists():
        context.beside("died").touch()
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    write_text(context.out / "x.txt", "x")


@pytest.mark.slow
def test_a_killed_worker_is_one_sentence_and_the_next_command_goes_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    stages = [Stage("one", die_in_the_worker), Stage("two", die_in_the_worker)]
    with pytest.raises(ResourceError, match="a worker process was killed while making"):
        run_stages(stages, run, jobs=2)
    assert run_stages(stages, run, jobs=2)
    assert all(run.verify(s.name) is not None for s in stages)
