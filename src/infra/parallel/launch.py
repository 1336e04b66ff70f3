"""Who does a folder's tasks: the processes of this command, or workers started as Slurm jobs or on Ray.

The folder with its claims is the only queue. Whoever starts them, all workers run :func:`worker`, which claims tasks
until none is left, and so does a helper from :func:`join_run`. ``work_of`` is a module's own function, so that other
processes find it by its name. submitit and Ray are optional extras and only imported when asked for.
"""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from infra.errors import ArtifactError, InputError, ResourceError
from infra.parallel.process_group import barrier, broadcast_object, this_rank
from infra.parallel.tasks import PARTS, ShardPlan, TaskFolder, TaskFunction, run_claimed, run_in_lockstep
from infra.store import RunFolder

LauncherName = Literal["processes", "slurm", "submitit-local", "ray"]
Advance = Callable[[float], object]
"""Told the cost of the tasks that are done."""
POLL = 0.5
"""Seconds between two looks at what the started workers have done."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """How a process works; no byte of a result depends on it beyond rounding. ``fsdp``: the model is sharded over the
    processes, which then work in step. ``threads`` None leaves them as they are.
    """

    fsdp: bool = False
    threads: int | None = None


WorkOf = Callable[[ShardPlan, Path, Runtime], TaskFunction]
"""Gives the function that does a plan's tasks. It lies in a module, so that it can be sent by name."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """``processes``: those of this command (torchrun's, or one). ``slurm`` and ``ray``: ``workers`` others.

    ``ray`` with no ``workers`` uses a cluster that runs already, with a worker for each of its processors.
    ``options`` go to submitit's ``update_parameters`` or to ``ray.remote`` (``num_cpus``, ``num_gpus``, ...).
    """

    kind: LauncherName = "processes"
    workers: int = 1
    runtime: Runtime = field(default_factory=Runtime)
    options: dict[str, Any] = field(default_factory=dict)


def run_tasks(
    root: Path,
    plan: Callable[[], ShardPlan],
    launcher: Launcher,
    work_of: WorkOf,
    advance: Advance | None = None,
) -> TaskFolder:
    """The tasks of a plan, all done. Every process of the command calls this; rank 0 makes the plan.

    Raises what a task raises, :class:`InputError` when the launcher's package is missing, :class:`ResourceError` when
    its workers failed.
    """
    here = this_rank()
    if launcher.kind != "processes" and (here.size > 1 or launcher.runtime.fsdp):
        raise InputError(f"launcher {launcher.kind} brings its own workers; start the command without torchrun or fsdp")
    if here.first:
        TaskFolder.start(root, plan())
    barrier()
    folder = TaskFolder.open(root)
    in_step = launcher.runtime.fsdp  # then one looks and all do the same
    missing = bool(folder.missing()) if here.first or not in_step else None
    if broadcast_object(missing) if in_step else missing:
        if launcher.kind == "processes":
            _work_here(folder, launcher.runtime, work_of, advance)
        else:
            _start_workers(folder, launcher, work_of, advance)
    barrier()
    if here.first:
        folder.seal()
    return folder


def worker(root: str, work_of: WorkOf, runtime: Runtime = Runtime()) -> int:
    """Work on a folder, beside whoever else does, until its tasks are done. Gives how many were done here: none where
    processes work in step, which nobody can join.
    """
    folder = TaskFolder.open(Path(root))
    if folder.plan.suffix == PARTS:
        return 0
    return run_claimed(folder, work_of(folder.plan, folder.root, runtime))


VANISHED = 20
"""How often a task folder may fail to be read by a helper before that is an error and not its being cleared away."""


def join_run(run: Path, work_of: WorkOf, runtime: Runtime, poll: float = 1.0) -> int:
    """Help the command that is writing to the run folder ``run``, from this or another machine, until it ends.

    Whatever tasks its stages open are shared with this process, which may come late and be killed at any time. Gives
    how many were done here. Raises :class:`ArtifactError` when there is no such folder.
    """
    if not run.is_dir():
        raise ArtifactError(f"{run} is no run folder; start the run first, then its helpers")
    done = 0
    vanished: Counter[Path] = Counter()
    while not RunFolder(run).is_idle():
        for plan in _open_plans(run):
            if (plan.parent / "manifest.json").exists():
                continue
            try:
                done += worker(str(plan.parent), work_of, runtime)
            except (ArtifactError, OSError):
                # a finished step is renamed or cleared away file by file, its plan perhaps last: look again
                vanished[plan] += 1
                if plan.exists() and vanished[plan] > VANISHED:
                    raise
        time.sleep(poll)
    return done


def _open_plans(run: Path) -> list[Path]:
    """Plans of task folders under ``run``; none this time where a folder goes while they are looked for."""
    try:
        return sorted(run.glob("**/.work/**/plan.json"))
    except FileNotFoundError:
        return []


def _work_here(folder: TaskFolder, runtime: Runtime, work_of: WorkOf, advance: Advance | None) -> None:
    work = work_of(folder.plan, folder.root, runtime)
    (run_in_lockstep if runtime.fsdp else run_claimed)(folder, work, this_rank(), advance)


def _start_workers(folder: TaskFolder, launcher: Launcher, work_of: WorkOf, advance: Advance | None) -> None:
    """Start the launcher's workers and wait for them. A failed one does not matter if the others did its tasks."""
    call = (str(folder.root.resolve()), work_of, launcher.runtime)
    start = _on_ray if launcher.kind == "ray" else _through_submitit
    waiting, failure = list(folder.plan.tasks), ""
    for said in start(folder, launcher, call):
        failure = said or failure
        before, waiting = waiting, folder.missing(waiting)
        if advance is not None:
            advance(sum(t.cost for t in before) - sum(t.cost for t in waiting))
    if waiting:
        reason = failure or "the workers ended"
        raise ResourceError(f"tasks in {folder.root} are not done ({reason}); run the same command again")


WorkerCall = tuple[str, WorkOf, Runtime]
"""The arguments of :func:`worker`."""


def _through_submitit(folder: TaskFolder, launcher: Launcher, call: WorkerCall) -> Iterator[str]:
    """Submit the workers as jobs; yield while they run, and at last how one of them failed, or nothing ("")."""
    submitit = _package("submitit", "Slurm", "slurm")
    local = launcher.kind == "submitit-local"
    executor = submitit.AutoExecutor(folder.root.resolve() / "jobs", cluster="local" if local else "slurm")
    executor.update_parameters(**launcher.options)
    with executor.batch():
        jobs = [executor.submit(worker, *call) for _ in range(launcher.workers)]
    while not all(job.done() for job in jobs):
        yield ""
        time.sleep(POLL)
    failures = [job.exception() for job in jobs]
    yield next((f"{f}; see {folder.root / 'jobs'}" for f in failures if f is not None), "")


def _on_ray(folder: TaskFolder, launcher: Launcher, call: WorkerCall) -> Iterator[str]:
    """The same on Ray, which starts a worker that was killed again."""
    ray = _package("ray", "Ray", "ray")
    started = not ray.is_initialized()
    if started:
        ray.init(address=None if launcher.workers else "auto", num_cpus=launcher.workers or None, log_to_driver=False)
    try:
        count = launcher.workers or int(ray.cluster_resources()["CPU"])
        remote = ray.remote(**{"max_retries": 3, **launcher.options})(worker)
        going, failure = [remote.remote(*call) for _ in range(min(count, len(folder.missing())))], ""
        while going:
            ended, going = ray.wait(going, timeout=POLL)
            for job in ended:
                try:
                    ray.get(job)
                except ray.exceptions.RayError as error:
                    failure = str(error)
            yield failure
    finally:
        if started:
            ray.shutdown()


def _package(name: str, what: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{what} needs the extra {extra!r}; pip install 'infra-attribution[{extra}]'") from error
