"""A folder of tasks: a plan written before the work, one result a task written once by rename, a manifest at the end.

::

    plan.json                        kind, settings, and every task with what it covers; never changed
    results/<task>/<sha256>.<ext>    a finished task; its name says what its bytes must hash to
    results/<task>/<sha256>.parts    a task that all processes did together: a list of files beside it, one of each
    halved/<task>.json               how often its batches were halved, for want of memory
    locks/<task>.lock                a claim
    manifest.json                    task -> result, when all are there

Any number of processes may work on a folder, come late and be killed: what is finished stays, a result that does not
hash to its name is deleted and made again, and the result of a task does not depend on who made it.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from infra.errors import ArtifactError
from infra.parallel.locks import Claims
from infra.parallel.process_group import Rank, all_gather_object, balanced_partition, broadcast_object, this_rank
from infra.progress import say
from infra.store import read_json, sha256_file, sha256_json, write_json

PLAN = "plan.json"
MANIFEST = "manifest.json"
PARTS = "parts"
"""The suffix of results that are in parts. Plans with it are for processes in step; no process holds a whole result."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One piece of work. ``about`` says what it covers (a shard's row group and ids, a block's key); ``cost`` in any
    unit.
    """

    name: str
    cost: float = 1.0
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What a folder's tasks are. ``kind`` names the function that does one, ``settings`` are its arguments."""

    kind: str
    suffix: str
    settings: dict[str, Any]
    tasks: tuple[ShardTask, ...]

    @property
    def key(self) -> str:
        """Hash of the whole plan."""
        return sha256_json(asdict(self))


TaskFunction = Callable[["ShardTask | None", "Path | None"], None]
"""Does a task and writes its result to the path given. Where all ranks work in lockstep, a rank without a task
of its own is called with (None, None), so that it joins the collectives of the others."""


class BatchTooLarge(Exception):
    """Raised by work whose batches do not fit: it is to be done again with batches half as large."""


class TaskFolder:
    """One folder of tasks, as one process sees it."""

    def __init__(self, root: Path, plan: ShardPlan) -> None:
        self.root, self.plan = root, plan
        self._verified: dict[str, Path] = {}

    @classmethod
    def start(cls, root: Path, plan: ShardPlan) -> TaskFolder:
        """Write the plan, or go on with the folder's own when it is the same one.

        Raises :class:`ArtifactError` when another plan lies there.
        """
        if (root / PLAN).exists():
            found = cls.open(root)
            if found.plan.key != plan.key:
                raise ArtifactError(f"{root / PLAN} is the plan of other work; delete the folder {root} and run again")
            return found
        (root / "results").mkdir(parents=True, exist_ok=True)
        write_json(root / PLAN, asdict(plan))
        return cls(root, plan)

    @classmethod
    def open(cls, root: Path) -> TaskFolder:
        """The folder at ``root``. Raises :class:`ArtifactError` when its plan is missing or damaged."""
        raw = read_json(root / PLAN)
        try:
            tasks = tuple(ShardTask(**t) for t in raw["tasks"])
            return cls(root, ShardPlan(raw["kind"], raw["suffix"], raw["settings"], tasks))
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{root / PLAN} is damaged ({error}); delete {root} and run again") from error

    def result(self, task: ShardTask) -> Path | None:
        """The task's result when it is there and hashes to its name; a damaged one is deleted. Hashed once."""
        known = self._verified.get(task.name)
        if known is not None:
            return known
        for path in sorted((self.root / "results" / task.name).glob(f"[0-9a-f]*.{self.plan.suffix}")):
            if _intact(path) and (self.plan.suffix != PARTS or all(map(_intact, parts_of(path)))):
                self._verified[task.name] = path
                return path
            say(f"{path} does not hash to its name (damaged); it is made again")
            path.unlink(missing_ok=True)
        return None

    def run(self, task: ShardTask, work: TaskFunction) -> Path:
        """Do the task and put its result in place, whether or not there is one.

        When its batches do not fit in memory it is begun again with batches half as large, and that is written down
        first: whoever does the task later takes the same batches.
        """
        note = self.root / "halved" / f"{task.name}.json"
        while True:
            halvings = int(read_json(note)["halvings"]) if note.exists() else 0
            try:
                return self._made(replace(task, about={**task.about, "halvings": halvings}), work)
            except BatchTooLarge:
                write_json(note, {"halvings": halvings + 1})
                say(f"out of memory in {self.plan.kind}, task {task.name}: going on with batches half as large")

    def run_part(self, task: ShardTask, work: TaskFunction) -> Path:
        """Do this process's part of a task; every process calls it. The result is in place when all parts are."""
        names = all_gather_object(self._written(task, partial(work, task), "safetensors").name)
        index = None
        if this_rank().first:
            index = self._written(task, lambda path: write_json(path, names), PARTS).name
        self._verified[task.name] = self.root / "results" / task.name / broadcast_object(index)
        return self._verified[task.name]

    def _made(self, task: ShardTask, work: TaskFunction) -> Path:
        self._verified[task.name] = self._written(task, partial(work, task), self.plan.suffix)
        return self._verified[task.name]

    def _written(self, task: ShardTask, write: Callable[[Path], object], suffix: str) -> Path:
        draft = self.root / "results" / task.name / f".{uuid.uuid4().hex}.tmp"
        draft.parent.mkdir(exist_ok=True)
        try:
            write(draft)
            with open(draft, "rb") as handle:
                os.fsync(handle.fileno())
            final = draft.with_name(f"{sha256_file(draft)}.{suffix}")
            os.replace(draft, final)
        finally:
            draft.unlink(missing_ok=True)
        return final

    def missing(self, tasks: Sequence[ShardTask] | None = None) -> list[ShardTask]:
        """The tasks without a result, in order."""
        return [t for t in (self.plan.tasks if tasks is None else tasks) if self.result(t) is None]

    def results(self) -> list[Path]:
        """Every result, in the plan's order. Raises :class:`ArtifactError` naming the first task without one."""
        found = []
        for task in self.plan.tasks:
            path = self.result(task)
            if path is None:
                raise ArtifactError(f"{self.root} has no result of task {task.name}; run the same command again")
            found.append(path)
        return found

    def seal(self) -> None:
        """Write the manifest: every task's result and hash. Raises as :meth:`results`."""
        write_json(
            self.root / MANIFEST,
            {"key": self.plan.key, "results": {p.parent.name: p.name for p in self.results()}},
        )


def parts_of(result: Path) -> list[Path]:
    """The files that a result consists of: those it lists, or itself. Raises :class:`ArtifactError` for a torn list."""
    return [result.with_name(name) for name in read_json(result)] if result.suffix == f".{PARTS}" else [result]


def _intact(path: Path) -> bool:
    return path.is_file() and sha256_file(path) == path.stem


def run_claimed(
    folder: TaskFolder,
    work: TaskFunction,
    rank: Rank | None = None,
    advance: Callable[[float], object] | None = None,
    poll: float = 0.02,
) -> int:
    """Do the folder's tasks together with whoever else works on it; return when all are done. Gives how many were
    done here.

    Each process begins with its own share (costs balanced over the ranks), then takes what the others have not begun;
    at last it waits for what they are doing, and takes over the tasks of those that died.
    """
    here = rank or Rank()
    shares = balanced_partition([t.cost for t in folder.plan.tasks], here.size)
    others = [i for r in range(1, here.size) for i in reversed(shares[(here.rank + r) % here.size])]
    turn = [folder.plan.tasks[i] for i in [*shares[here.rank], *others]]
    done = 0
    with Claims(folder.root / "locks") as claims:
        waiting = folder.missing(turn)
        if advance is not None:
            advance(sum(t.cost for t in folder.plan.tasks) - sum(t.cost for t in waiting))
        pause = poll
        while waiting:
            left, moved = [], False
            for task in waiting:
                if folder.result(task) is None:
                    if not claims.take(task.name):
                        left.append(task)
                        continue
                    try:
                        if folder.result(task) is None:  # finished by another between the look and the claim
                            folder.run(task, work)
                            done += 1
                    finally:
                        claims.give_back(task.name)
                moved = True
                if advance is not None:
                    advance(task.cost)
            waiting = left
            pause = poll if moved else min(2 * pause, 0.2)
            if waiting:
                time.sleep(pause)
    return done


def run_in_lockstep(
    folder: TaskFolder, work: TaskFunction, here: Rank, advance: Callable[[float], object] | None = None
) -> int:
    """Do the folder's missing tasks with all processes in step (collectives inside): one after the other where results
    are in parts, else in rounds of one task a process.
    """
    wanted = set(broadcast_object([t.name for t in folder.missing()] if here.first else None))
    missing = [t for t in folder.plan.tasks if t.name in wanted]
    if advance is not None:
        advance(sum(t.cost for t in folder.plan.tasks) - sum(t.cost for t in missing))
    done = 0
    together = folder.plan.suffix == PARTS
    each = 1 if together else here.size
    for start in range(0, len(missing), each):
        turn = missing[start : start + each]
        if together:
            folder.run_part(turn[0], work)
            done += 1
        elif here.rank < len(turn):
            folder.run(turn[here.rank], work)
            done += 1
        else:
            work(None, None)
        if advance is not None:
            advance(sum(t.cost for t in turn))
    return done
