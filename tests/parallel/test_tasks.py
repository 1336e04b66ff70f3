"""Task folders: done once, by whoever comes, whatever happens to them; damaged results are made again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ArtifactError, ResourceError
from infra.parallel.process_group import balanced_partition, this_rank
from infra.parallel.tasks import BatchTooLarge, ShardPlan, ShardTask, TaskFolder, run_claimed
from tests.parallel.processes import start, together


def plan(n: int = 12, **settings: object) -> ShardPlan:
    return ShardPlan(
        "test", "txt", settings, tuple(ShardTask(f"{i:05d}", float(i % 3 + 1), {"number": i}) for i in range(n))
    )


def write(task: ShardTask | None, path: Path | None) -> None:
    assert task is not None and path is not None
    path.write_text(f"result of {task.about['number']}\n" * 100)


def values(root: Path) -> list[str]:
    folder = TaskFolder.open(root)
    return [p.read_text().splitlines()[0] for p in folder.results()]


def test_many_processes_do_every_task_once(tmp_path: Path) -> None:
    TaskFolder.start(tmp_path, plan(40))

    def work() -> None:
        def slow(task: ShardTask | None, path: Path | None) -> None:
            time.sleep(0.01)
            write(task, path)

        done = run_claimed(TaskFolder.open(tmp_path), slow, this_rank())
        (tmp_path / f"did-{os.getpid()}").write_text(str(done))

    together(4, work)
    did = [int(p.read_text()) for p in tmp_path.glob("did-*")]
    assert sum(did) == 40 and min(did) > 0
    assert values(tmp_path) == [f"result of {i}" for i in range(40)]


def test_killed_workers_lose_nothing_and_another_number_of_them_goes_on(tmp_path: Path) -> None:
    rng = random.Random(0)

    def work() -> None:
        def slow(task: ShardTask | None, path: Path | None) -> None:
            assert path is not None
            path.write_text("half a res")  # killed here, this is what lies about
            time.sleep(0.02)
            write(task, path)

        run_claimed(TaskFolder.open(tmp_path), slow, this_rank())

    TaskFolder.start(tmp_path, plan(240))
    for size in (3, 1, 4, 2):
        processes = start(size, work)
        time.sleep(rng.uniform(0.1, 0.25))
        for process in processes:
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
        if len(list(tmp_path.glob("results/*/*.txt"))) > 120:  # a quick machine: leave something to go on with
            break
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("results/*/*.txt")}
    assert 0 < len(before) < 240
    together(2, work)
    assert values(tmp_path) == [f"result of {i}" for i in range(240)]
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())


def test_one_killed_worker_does_not_stop_the_others(tmp_path: Path) -> None:
    TaskFolder.start(tmp_path, plan(8))

    def work() -> None:
        def slow(task: ShardTask | None, path: Path | None) -> None:
            if this_rank().rank == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            write(task, path)

        run_claimed(TaskFolder.open(tmp_path), slow, this_rank())

    processes = start(2, work)
    for process in processes:
        process.join(30)
    assert [p.exitcode for p in processes] == [-signal.SIGKILL, 0]
    assert len(values(tmp_path)) == 8


@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing"])
def test_a_damaged_result_is_never_used_and_made_again(tmp_path: Path, harm: str) -> None:
    folder = TaskFolder.start(tmp_path, plan(3))
    run_claimed(folder, write)
    victim = folder.results()[1]
    content = victim.read_bytes()
    if harm == "missing":
        victim.unlink()
    else:
        victim.write_bytes(content[:-5] if harm == "truncated" else bytes([content[0] ^ 1]) + content[1:])
    again = TaskFolder.open(tmp_path)
    assert [t.name for t in again.missing()] == ["00001"]
    with pytest.raises(ArtifactError, match="00001"):
        again.results()
    assert run_claimed(again, write) == 1
    assert victim.read_bytes() == content


def test_another_plan_is_refused_and_a_damaged_one_named(tmp_path: Path) -> None:
    TaskFolder.start(tmp_path, plan(3, seed=1))
    TaskFolder.start(tmp_path, plan(3, seed=1))
    with pytest.raises(ArtifactError, match=r"plan\.json"):
        TaskFolder.start(tmp_path, plan(3, seed=2))
    (tmp_path / "plan.json").write_text('{"kind": "test"}')
    with pytest.raises(ArtifactError, match=r"plan\.json"):
        TaskFolder.open(tmp_path)


def test_a_task_that_fails_leaves_no_result_and_no_lock(tmp_path: Path) -> None:
    folder = TaskFolder.start(tmp_path, plan(2))

    def fail(task: ShardTask | None, path: Path | None) -> None:
        assert path is not None
        path.write_text("some")
        raise ResourceError("out of memory")

    with pytest.raises(ResourceError):
        run_claimed(folder, fail)
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".lock", ".txt", ".tmp")]


@given(st.lists(st.floats(0.0, 1e9), max_size=30), st.integers(1, 9))
def test_costs_are_shared_out_evenly(costs: list[float], parts: int) -> None:
    """Within 4/3 of a bound that no split can beat: the mean, the costliest, or the two that must share."""
    groups = balanced_partition(costs, parts)
    assert sorted(i for g in groups for i in g) == list(range(len(costs)))
    ordered = sorted(costs, reverse=True)
    pair = ordered[parts - 1] + ordered[parts] if len(costs) > parts else 0.0
    bound = max(sum(costs) / parts, max(costs, default=0.0), pair)
    assert max(sum(costs[i] for i in g) for g in groups) <= bound * 4 / 3 + 1e-6


def test_batches_that_do_not_fit_are_halved_once_for_all(tmp_path: Path) -> None:
    """The halving is written down before the second try, so that whoever does the task later takes the same batches."""
    tried: list[int] = []

    def hungry(task: ShardTask | None, path: Path | None) -> None:
        assert task is not None and path is not None
        tried.append(task.about["halvings"])
        if task.about["number"] == 1 and task.about["halvings"] < 2:
            raise BatchTooLarge
        path.write_text(f"{task.about['number']} after {task.about['halvings']}")

    folder = TaskFolder.start(tmp_path, plan(2))
    run_claimed(folder, hungry)
    assert tried == [0, 0, 1, 2] or tried == [0, 1, 2, 0]
    victim = folder.results()[1]
    content = victim.read_bytes()
    victim.unlink()
    again = TaskFolder.open(tmp_path)
    tried.clear()
    run_claimed(again, hungry)
    assert tried == [2] and again.results()[1].read_bytes() == content
