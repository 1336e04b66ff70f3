"""Who does a folder's tasks: the processes of this command, Slurm jobs through submitit, or a map over shards on Ray.

All three call the same function, :func:`infra.parallel.tasks.TaskFolder.do` with the work that ``work_of`` gives for
the plan: a module's own function, so that other processes find it by its name. submitit and Ray are optional extras and
only imported when asked for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from infra.errors import ArtifactError, InputError, ResourceError
from infra.parallel.process_group import barrier, broadcast_object, this_rank
from infra.parallel.tasks import PARTS, ShardPlan, TaskFolder, TaskFunction, run_claimed, run_in_lockstep
from infra.store import RunFolder

LauncherName = Literal["processes", "slurm", "submitit-local", "ray"]


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
    advance: Callable[[float], object] | None = None,
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
        _LAUNCHERS[launcher.kind](folder, launcher, work_of, advance)
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


def run_task(root: str, name: str, work_of: WorkOf, runtime: Runtime = Runtime()) -> str:
    """Do one task of a folder, whoever made the folder. Gives the result's path."""
    folder, work = _opened(root, work_of, runtime)
    task = next(t for t in folder.plan.tasks if t.name == name)
    return str(folder.do(task, work))


@lru_cache(maxsize=1)
def _opened(root: str, work_of: WorkOf, runtime: Runtime) -> tuple[TaskFolder, Any]:
    folder = TaskFolder.open(Path(root))
    return folder, work_of(folder.plan, folder.root, runtime)


def _launch_local(
    folder: TaskFolder, launcher: Launcher, work_of: WorkOf, advance: Callable[[float], object] | None
) -> None:
    work = work_of(folder.plan, folder.root, launcher.runtime)
    if launcher.runtime.fsdp:
        run_in_lockstep(folder, work, this_rank(), advance)
    else:
        run_claimed(folder, work, this_rank(), advance)


def _launch_submitit(
    folder: TaskFolder, launcher: Launcher, work_of: WorkOf, advance: Callable[[float], object] | None
) -> None:
    try:
        import submitit
    except ImportError as error:
        raise InputError("Slurm needs the extra 'slurm'; pip install 'infra-attribution[slurm]'") from error
    local = launcher.kind == "submitit-local"
    executor = submitit.AutoExecutor(folder.root.resolve() / "jobs", cluster="local" if local else "slurm")
    executor.update_parameters(**launcher.options)
    with executor.batch():
        jobs = [
            executor.submit(worker, str(folder.root.resolve()), work_of, launcher.runtime)
            for _ in range(launcher.workers)
        ]
    failed = [job for job in jobs if job.exception() is not None]
    if folder.missing():
        reason = failed[0].exception() if failed else "the jobs ended"
        raise ResourceError(f"tasks in {folder.root} are not done ({reason}); see {folder.root / 'jobs'} and run again")


def _launch_ray(
    folder: TaskFolder, launcher: Launcher, work_of: WorkOf, advance: Callable[[float], object] | None
) -> None:
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray needs the extra 'ray'; pip install 'infra-attribution[ray]'") from error
    started = not ray.is_initialized()
    if started:
        ray.init(address=None if launcher.workers else "auto", num_cpus=launcher.workers or None, log_to_driver=False)
    try:
        remote: Any = ray.remote(**{"max_retries": 3, **launcher.options})(run_task)
        waiting = {
            remote.remote(str(folder.root.resolve()), t.name, work_of, launcher.runtime): t
            for t in sorted(folder.missing(), key=lambda t: -t.cost)
        }
        while waiting:
            [ready], _ = ray.wait(list(waiting), num_returns=1)
            ray.get(ready)
            task = waiting.pop(ready)
            if advance is not None:
                advance(task.cost)
    finally:
        if started:
            ray.shutdown()


_LAUNCHERS: dict[str, Callable[..., None]] = {
    "processes": _launch_local,
    "slurm": _launch_submitit,
    "submitit-local": _launch_submitit,
    "ray": _launch_ray,
}
