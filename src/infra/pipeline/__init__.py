"""The whole job: its stages, and the command that runs them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.layout import EXPLAINED, Run
from infra.parallel.process_group import barrier, init_process_group, this_rank
from infra.pipeline.recipe import Recipe
from infra.pipeline.runner import PeakMemory, follow, plan_table, run_stages
from infra.pipeline.stage import Stage
from infra.pipeline.step import Job
from infra.progress import hide_bars, say
from infra.store import RunFolder, read_json, write_json, write_text

if TYPE_CHECKING:
    from infra.pipeline.checks import Subject
    from infra.pipeline.plan import Costs

__all__ = [
    "Job",
    "Stage",
    "plan_table",
    "prepare",
    "run_job",
    "run_recipe",
    "run_stages",
    "run_subject",
    "stages_of",
    "summary",
]


def stages_of(recipe: Recipe, folder: Path, fetch: bool = True) -> list[Stage]:
    """Every stage of `infra run` with a recipe, in order. ``fetch=False`` plans without downloading a base model."""
    from infra.pipeline import graph, validity

    recipe = with_settled(validity.with_recorded(recipe, folder), folder)
    return graph.stages_for(graph.job_of_run(recipe, fetch))


def with_settled(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with what was settled for this run folder before its first stage: batches and precision."""
    from infra.pipeline import batching, precision

    return precision.with_recorded(batching.with_recorded(recipe, folder), folder)


def threads_of(recipe: Recipe) -> int:
    """Threads of each job: as set, or this machine's cores (at most 8) shared between the jobs."""
    here = this_rank()
    beside = recipe.jobs if here.size == 1 else here.local_size
    return recipe.threads or max(1, min(len(os.sched_getaffinity(0)), 8) // beside)


def prepare(recipe: Recipe) -> None:
    """Process-wide settings of a run: number of threads, quiet libraries."""
    import torch
    import transformers

    torch.set_num_threads(threads_of(recipe))
    if not this_rank().first:
        hide_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def run_subject(recipe: Recipe, folder: Path, *, offline: bool = False, fetch: bool = True) -> Subject:
    """What `infra run` is about to do, for its checks."""
    from infra.pipeline.checks import Subject
    from infra.pipeline.graph import given_for_run

    return Subject(given_for_run(with_settled(recipe, folder), fetch), folder, offline)


def run_recipe(recipe: Recipe, folder: Path, offline: bool = False) -> Path:
    """Run (or go on with) a recipe in ``folder``. Returns the report's path.

    Everything cheap is checked first (:mod:`infra.pipeline.checks`); ``offline`` asks nothing over the network for it.
    """
    prepare(recipe)
    return run_job(run_subject(recipe, folder, offline=offline), lambda: stages_of(recipe, folder))


def run_job(subject: Subject, plan: Callable[[], list[Stage]]) -> Path:
    """Check a job, then run (or go on with) the stages that ``plan`` gives in its folder. Returns the report's path.

    Nothing is written before every check has passed. Then recipe.json is, and at the end report.html and summary.json
    at the top of the folder.
    """
    from infra.pipeline.checks import check
    from infra.pipeline.checks.room import costs_of

    recipe, folder = subject.recipe, subject.folder
    run, paths = RunFolder(folder), Run(folder)
    if this_rank().first:
        check(subject)
    with init_process_group(recipe.model.device) as here:
        if not here.first:
            barrier()  # until the batches are settled
            follow(plan(), run)
            return paths.page
        with run.lock():
            costs = costs_of(subject)
            recipe = settled(subject, costs)
            barrier()
            write_json(paths.recipe_file, recipe.model_dump(mode="json", by_alias=True))
            stages = plan()
            run_logged(stages, run, recipe, None if costs is None else replace(costs, recipe=recipe))
            write_text(paths.page, paths.report.read_text(encoding="utf-8"))
            write_json(paths.summary, summary(run, stages))
    return paths.page


def settled(subject: Subject, costs: Costs | None) -> Recipe:
    """The recipe with the batches of this run: as set, as recorded in its folder, or chosen now for the free memory."""
    import torch

    from infra.influence.estimate import free_memory
    from infra.pipeline import batching, precision

    free = free_memory(torch.device(this_rank().device(subject.recipe.model.device)))
    batched = batching.settle(costs, subject.recipe, subject.folder, free, EXPLAINED not in subject.job.models)
    return precision.settle(subject, batched)


def run_logged(stages: list[Stage], run: RunFolder, recipe: Recipe, costs: Costs | None = None) -> None:
    """Run the stages, and log the command's time, peak memory and environment when any of them ran.

    With ``costs`` each stage is told with what it is expected to take, and at the end how well that held.
    """
    from infra.pipeline.plan.expected import expectations

    todo = [name for name, state, _ in plan_table(stages, run) if state != "done"]
    expected = expectations(costs, Run(run.root), todo, this_rank().size)
    start = time.perf_counter()
    with PeakMemory() as memory:
        ran = run_stages(stages, run, recipe.jobs if this_rank().size == 1 else 1, threads_of(recipe), expected)
    if expected is not None and (told := expected.summary()):
        say(told)
    if ran:
        entry = {"stage": "(command)", "seconds": round(time.perf_counter() - start, 3), "stages": len(ran)}
        run.log_runtime({**entry, "peak_memory_bytes": memory.peak, "environment": environment(recipe)})


def environment(recipe: Recipe) -> dict[str, Any]:
    """Versions and host facts: they explain a difference in bytes, and stand outside every hash."""
    import platform

    import numpy
    import torch
    import transformers

    from infra import __version__

    return {
        "infra": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "commit": commit(),
        "processes": this_rank().size,
        "jobs": recipe.jobs,
        "threads": threads_of(recipe),
    }


def commit() -> str | None:
    """The git commit of the source tree this package runs from, with ``+`` when it was changed since; None outside."""
    import subprocess

    def git(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", "..") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def summary(run: RunFolder, stages: list[Stage]) -> dict[str, Any]:
    """The run's results with the time and peak memory of each stage (those vary, so no hash covers this file)."""
    times = run.runtimes()
    per_stage = {
        s.name: {"seconds": times[s.name]["seconds"], "peak_memory_bytes": times[s.name]["peak_memory_bytes"]}
        for s in stages
        if s.name in times
    }
    command = times.get("(command)", {})
    return {
        "results": read_json(Run(run.root).results),
        "runtime": {
            "last_command": {
                k: command[k] for k in ("seconds", "stages", "peak_memory_bytes", "environment") if k in command
            },
            "seconds_of_all_stages": round(sum(t["seconds"] for t in per_stage.values()), 1),
            "stages": per_stage,
        },
    }
