"""The whole job as a list of stages, and the command that runs them."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from infra.parallel.world import together, world
from infra.pipeline.recipe import Recipe
from infra.pipeline.runner import PeakMemory, Stage, check_order, follow, plan_table, run_stages
from infra.progress import hide_bars
from infra.store import RunFolder, read_json, sha256_path, write_json, write_text

__all__ = ["Stage", "check_order", "plan_table", "prepare", "run_recipe", "run_stages", "stages_of", "summary"]


def stages_of(recipe: Recipe, folder: Path, fetch: bool = True) -> list[Stage]:
    """Every stage of a recipe, in order, with the settings and inputs that determine its bytes.

    ``fetch=False`` plans without downloading a base model from the hub.
    """
    from infra.pipeline import (
        attribute,
        data,
        effects,
        experiment,
        page,
        queries,
        spans,
        strategies,
        targets,
        train,
        validity,
    )

    recipe = validity.with_recorded(recipe, folder)

    def settings(*names: str) -> dict[str, Any]:
        dumped = recipe.model_dump(mode="json", by_alias=True)
        return {n: dumped[n] for n in names}

    # what every stage that reads records with the model's tokenizer depends on
    encoding = {"encoding": [recipe.data.max_length, recipe.data.on_error, recipe.model.dtype, recipe.model.device]}
    shards = {"shards": [recipe.scores.shard_tokens, recipe.scores.max_tokens]}
    base = train.base_path(recipe, folder)
    first = str(folder / "sft/original-s0/model")
    files = [s.path for s in (*recipe.data.sources, *recipe.data.queries)] + [t.path for t in recipe.tasks if t.path]
    inputs = {f: found for f in files if (found := sha256_path(Path(f))) is not None}
    trained = recipe.model.pretrain is not None
    model_input = train.base_parts(recipe, fetch)
    needs_base = ("base",) if trained else ()
    guided = strategies.arms_of(recipe)
    validated = (validity.STAGE,) if recipe.validation is not None else ()
    names = experiment.models_of(recipe)
    original = [m for m in names if m[0] == "sft"]
    arms = [m for m in names if m[0] != "sft"]

    out = [
        Stage(
            "records",
            partial(data.make_records, recipe=recipe),
            (),
            {
                **settings("data", "tasks"),
                "instruct": recipe.eval.instruct,
                "system": recipe.eval.system,
                **({"seed": recipe.seed} if recipe.data.judge is not None else {}),
            },
            inputs,
        )
    ]
    if trained:
        out.append(
            Stage(
                "base",
                partial(train.run_base, recipe=recipe),
                ("records",),
                settings("model", "seed", "threads"),
                parallel=True,
            )
        )

    def sft(arm: str, seed: int, stage: str) -> Stage:
        made_by = "strategies" if arm in guided else "arms"
        source = folder / ("records/train.parquet" if arm == "sft" else f"{made_by}/{arm}.parquet")
        needs = ("records", *needs_base, *(() if arm == "sft" else (made_by,)))
        config = {**settings("sft", "model", "threads"), **encoding, "arm": arm, "seed": seed}
        run = partial(train.run_sft, recipe=recipe, seed=seed, data=source)
        return Stage(stage, run, needs, config, model_input, parallel=True)

    def evals(name: str, path: str, needs: tuple[str, ...], arm: bool = False) -> Stage:
        return Stage(
            f"evals/{name}",
            partial(train.run_evals, recipe=recipe, model_path=path, arm=arm),
            ("records", *needs),
            {
                **settings("eval", "threads"),
                **encoding,
                "model": name,
                "tasks": [
                    t.name if t.samples is None else f"{t.name} x{t.samples}" for t in recipe.tasks if t.arms or not arm
                ],
            },
            model_input if name == "base" else {},
            parallel=True,
        )

    out.append(evals("base", base, needs_base))
    for arm, seed, stage in original:
        out += [sft(arm, seed, stage), evals(stage.removeprefix("sft/"), str(folder / stage / "model"), (stage,))]
    explained = ("records", "sft/original-s0")
    out += [
        Stage(
            "responses",
            partial(train.run_responses, recipe=recipe, model_path=first),
            explained,
            {**settings("targets", "eval", "threads"), **encoding},
            parallel=True,
        ),
        Stage("targets", partial(targets.run_targets, recipe=recipe), ("records", "responses"), settings("targets")),
        Stage(
            "curvature",
            partial(attribute.run_curvature, recipe=recipe, model_path=first),
            explained,
            {**settings("curvature", "seed", "threads"), **encoding, **shards},
            parallel=True,
        ),
        Stage(
            "directions",
            partial(attribute.run_directions, recipe=recipe, model_path=first),
            (*explained, "targets", "curvature"),
            {**settings("targets", "curvature", "threads"), **encoding, **shards},
            parallel=True,
        ),
        Stage(
            "scores",
            partial(attribute.run_scores, recipe=recipe, model_path=first),
            (*explained, "directions"),
            {**settings("scores", "threads"), **encoding},
            parallel=True,
        ),
        Stage(
            "spans",
            partial(spans.run_spans, recipe=recipe, model_path=first),
            (*explained, "directions", "scores"),
            {**settings("scores", "seed", "threads"), **encoding},
        ),
        *(
            [
                Stage(
                    "queries",
                    partial(queries.run_queries, recipe=recipe, model_path=first),
                    (*explained, "targets", "curvature"),
                    {**settings("targets", "curvature", "scores", "seed", "threads"), **encoding},
                )
            ]
            if recipe.scores.query_top
            else []
        ),
        *(
            [
                Stage(
                    validity.STAGE,
                    partial(validity.run_validation, recipe=recipe),
                    (*explained, *needs_base, "targets", "directions", "scores"),
                    {**settings("validation", "curvature", "targets"), **encoding},
                    model_input,
                )
            ]
            if recipe.validation is not None
            else []
        ),
        Stage(
            "effects",
            partial(effects.run_effects, recipe=recipe),
            ("directions", "scores", "spans", *validated),
            settings("effects", "seed", "arms"),
        ),
        Stage(
            "arms",
            partial(experiment.run_arms, recipe=recipe),
            ("records", *needs_base),
            {**settings("arms", "seed"), **encoding},
            model_input,
        ),
    ]
    if guided:
        out.append(
            Stage(
                "strategies",
                partial(strategies.run_strategies, recipe=recipe),
                ("records", "scores", "spans", "arms", *needs_base),
                {**settings("strategies", "seed"), **encoding},
                model_input,
            )
        )
    for arm, seed, stage in arms:
        out += [sft(arm, seed, stage), evals(stage.removeprefix("sft/"), str(folder / stage / "model"), (stage,), True)]
    every_sft = tuple(stage for _, _, stage in names)
    every_eval = ("evals/base", *(f"evals/{stage.removeprefix('sft/')}" for stage in every_sft))
    out += [
        Stage(
            "measure",
            partial(experiment.run_measure, recipe=recipe),
            ("records", "targets", "directions", *needs_base, *every_sft),
            {**settings("targets"), **encoding},
            model_input,
        ),
        Stage(
            "results",
            partial(experiment.run_results, recipe=recipe),
            (
                *("records", "targets", "directions", "scores", "spans", "effects", "arms", "measure", *every_eval),
                *(("strategies",) if guided else ()),
                *validated,
            ),
            settings("effects", "seed", "name", "question", "quick", "seeds", "strategies"),
        ),
        Stage(
            "report",
            partial(page.run_report, recipe=recipe, model_path=first),
            ("records", "sft/original-s0", "scores", "spans", "results"),
            {**settings("report", "name", "quick", "question"), **encoding},
        ),
    ]
    check_order(out)
    return out


def threads_of(recipe: Recipe) -> int:
    """Threads of each job: as set, or this machine's cores (at most 8) shared between the jobs."""
    here = world()
    beside = recipe.jobs if here.size == 1 else here.local_size
    return recipe.threads or max(1, min(len(os.sched_getaffinity(0)), 8) // beside)


def prepare(recipe: Recipe) -> None:
    """Process-wide settings of a run: number of threads, quiet libraries."""
    import torch
    import transformers

    torch.set_num_threads(threads_of(recipe))
    if not world().first:
        hide_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def run_recipe(recipe: Recipe, folder: Path) -> Path:
    """Run (or go on with) a recipe in ``folder``. Returns the report's path.

    Writes report.html and summary.json at the top of the folder when every stage is done.
    """
    prepare(recipe)
    run = RunFolder(folder)
    report = folder / "report.html"
    with together(recipe.model.device) as here:
        if not here.first:
            follow(stages_of(recipe, folder), run)
            return report
        with run.lock():
            write_json(folder / "recipe.json", recipe.model_dump(mode="json", by_alias=True))
            stages = stages_of(recipe, folder)
            run_logged(stages, run, recipe)
            write_text(report, (run.path("report") / "report.html").read_text(encoding="utf-8"))
            write_json(folder / "summary.json", summary(run, stages))
    return report


def run_logged(stages: list[Stage], run: RunFolder, recipe: Recipe) -> None:
    """Run the stages, and log the command's time, peak memory and environment when any of them ran."""
    start = time.perf_counter()
    with PeakMemory() as memory:
        ran = run_stages(stages, run, recipe.jobs if world().size == 1 else 1, threads_of(recipe))
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
        "processes": world().size,
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
        "results": read_json(run.path("results") / "results.json"),
        "runtime": {
            "last_command": {
                k: command[k] for k in ("seconds", "stages", "peak_memory_bytes", "environment") if k in command
            },
            "seconds_of_all_stages": round(sum(t["seconds"] for t in per_stage.values()), 1),
            "stages": per_stage,
        },
    }
