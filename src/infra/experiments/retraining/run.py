"""`infra validate RUN`: how well a run's own scores predict what retraining does, within a time budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from infra.errors import ArtifactError, PlanTooLong, ResourceError
from infra.experiments.retraining.extremes import removal
from infra.experiments.retraining.measure import (
    Budget,
    Journal,
    Speed,
    finished_part,
    fit_budget,
    measure_speed,
    run_retrains,
    run_seconds,
)
from infra.experiments.retraining.methods import ScoreSettings, check_methods, score_methods
from infra.experiments.retraining.plan import MINIMUM_DROP1, UNIT_OF, SubsetPlan, load_plan
from infra.experiments.retraining.problem import Problem, make_subset_plan
from infra.experiments.retraining.run_folder import RunData, check_replay, own_scores, read_run
from infra.experiments.retraining.scores import MethodScores
from infra.experiments.retraining.smoothness import metasmoothness
from infra.experiments.retraining.table import LEVEL, accuracy_table, lds_table
from infra.influence.methods import get_method, is_unrolled
from infra.layout import Run
from infra.progress import progress, say
from infra.store import read_json, replacing, write_json

BLOCKS: tuple[tuple[str, str], ...] = (
    ("half", "same_seed"),
    ("half", "seed_mean"),
    ("step_mask", "same_seed"),
    ("token", "same_seed"),
    ("step_delete", "same_seed"),
    ("drop1", "same_seed"),
    ("step_mask", "seed_mean"),
    ("token", "seed_mean"),
    ("step_delete", "seed_mean"),
    ("drop1", "seed_mean"),
)
"""Kinds of removal and protocols in the order in which a budget is spent on them."""

MARGIN = 0.8
"""Share of the time that a plan may fill by its estimate: machines slow down, and the time is kept."""

COMPARED = ("random", "length", "loss", "gradient")
CURVE = (0.01, 0.05, 0.1, 0.2, 0.4)
"""Shares of the ranking whose top and bottom are removed; the first is the published test."""


@dataclass(frozen=True)
class ValidationOptions:
    """What a validation measures.

    - ``kinds``, ``protocols``: restrict the blocks of :data:`BLOCKS` that are tried; with ``insist`` all must fit.
    - ``methods``: compared with the run's own; names for :func:`infra.influence.methods.get_method`.
    - ``n_subsets``, ``n_seeds``: subsets of a block, and fresh seeds of each for ``seed_mean``.
    - ``levels``: whether targets by difficulty are measured as well.
    - ``accuracy_problems``: held-out problems a task answered after each half-subset retrain (0: none).
    - ``removals``: whether the extremes of the run's own ranking are removed where there is time left for it.
    - ``below_protocol``: allows fewer subsets, seeds or examples than the protocol asks; nothing is then called
      validated.
    - ``partial``: when the time is over before the plan is, report the finished blocks instead of raising.
    - ``base_model``: where the run's base model lies, if elsewhere than the recipe says.
    - ``compile``: fuse the retrains' training passes.
    - ``n_boot``: resamples of an interval.
    """

    kinds: Sequence[str] | None = None
    protocols: Sequence[str] = ("same_seed", "seed_mean")
    methods: Sequence[str] = COMPARED
    n_subsets: int = 100
    n_seeds: int = 3
    levels: bool = True
    accuracy_problems: int = 0
    removals: bool = True
    below_protocol: bool = False
    insist: bool = False
    partial: bool = False
    base_model: str | None = None
    compile: bool = False
    n_boot: int = 1000


def validate_run(
    run_dir: str | Path,
    budget_minutes: float,
    options: ValidationOptions | None = None,
    out: str | Path | None = None,
) -> pd.DataFrame:
    """Measure LDS of a run's scores by retraining, and write RUN/validation.

    The plan is sized from retrains timed here: kinds and protocols are taken in the order of :data:`BLOCKS` while they
    fit in ``budget_minutes``. The run's own method and the compared ones go through the same runs. Called again, it
    goes on where it was. Time over before the plan is, PlanTooLong is raised, or, where partial results are allowed and
    at least one block is finished, the finished ones are reported and the others named as left out.

    Writes plan.json (before the first retrain), runs.jsonl (every run started), lds.parquet (target, method, protocol,
    kind, value, low, high, ceiling, n_subsets, n_seeds), differences.parquet, validation.json, and where they were
    measured accuracy.parquet, tracking.parquet and removal.parquet. Returns the LDS table. Raises ResourceError when
    nothing fits in the time, with the estimate; ArtifactError for a run that lacks what is needed, or another plan in
    the way; ModelError when compiling finds no C++ compiler.
    """
    run, options = Path(run_dir), options or ValidationOptions()
    folder = Path(out) if out is not None else Run(run).validation
    check_methods(options.methods)
    data = read_run(run, base_model=options.base_model, levels=options.levels, with_accuracy=options.accuracy_problems)
    distance = check_replay(data, run)
    if options.compile:
        data = replace(data, problem=replace(data.problem, flat=data.problem.flat.compiled()))
    speed = measure_speed(data.problem)
    plan, left_out = _planned(data, options, folder / "plan.json", budget_minutes, speed)
    measured = _retrained(data, options, plan, folder, budget_minutes, speed)
    kinds = kinds_of(measured.plan.settings["blocks"])
    scores = gather_scores(data, options.methods, kinds, folder / "scores")
    table = _tabulated(data, measured, scores, folder, options.n_boot)
    removed = "not asked for"
    if options.removals:
        left = 60 * budget_minutes - planned_seconds(data.problem, measured.plan, speed)
        removed = _removals(data, scores[data.method], kinds, folder, left, speed)
    below = measured.plan.settings.get("below_protocol")
    write_json(
        folder / "validation.json",
        {
            "plan": plan.hash,
            "retrains": len(measured.journal.values),
            "started": measured.journal.started,
            "left_out": [*left_out, *measured.unfinished],
            "blocks": measured.plan.settings["blocks"],
            "replay_distance": distance,
            "method": data.method,
            **({"metasmoothness": smooth} if (smooth := _smoothness(data, options.methods)) else {}),
            "removal": removed,
            "validity": {} if below else validity(table, data.method),
        },
    )
    return table


def _planned(
    data: RunData, options: ValidationOptions, path: Path, minutes: float, speed: Speed
) -> tuple[SubsetPlan, list[list[str]]]:
    """The plan that lies at ``path``, or a new one that fits in the time; and the blocks that it leaves out."""
    if path.exists():
        plan = load_plan(path)
        _same_run(plan.settings, data, path)
        return plan, list(plan.settings["left_out"])
    problem = data.problem
    sizing = fit_budget(
        problem,
        wanted_blocks(options.kinds, options.protocols, len(problem.examples)),
        Budget(minutes, options.n_subsets, options.n_seeds, options.insist, MARGIN),
        speed,
    )
    left_out = [list(b) for b in sizing.left_out]
    plan = make_subset_plan(
        problem,
        sizing.blocks,
        n_subsets=options.n_subsets,
        seeds=tuple(range(101, 101 + options.n_seeds)),
        extra={
            "left_out": left_out,
            "methods": [data.method, *options.methods],
            **({"below_protocol": True} if options.below_protocol else {}),
        },
    )
    return plan, left_out


@dataclass(frozen=True)
class _Measured:
    """The part of a plan that is finished, its runs, and the blocks that are not."""

    plan: SubsetPlan
    journal: Journal
    unfinished: list[list[str]]


def _retrained(
    data: RunData, options: ValidationOptions, plan: SubsetPlan, folder: Path, minutes: float, speed: Speed
) -> _Measured:
    """Make the plan's runs. Raises PlanTooLong when the time is over before they are and a part is not enough."""
    rate = 60 / run_seconds(data.problem, "half", speed)
    say(f"validation: {len(plan.runs)} retrains, about {rate:.1f} a minute")
    try:
        with progress(len(plan.runs), "validation", "retrain") as bar:
            journal = run_retrains(data.problem, plan, folder, seconds=60 * minutes, progress=bar.advance)
    except ResourceError as error:
        journal = Journal.open(folder / "runs.jsonl", plan.hash)
        finished, unfinished = finished_part(plan, journal)
        if not options.partial or not finished.settings["blocks"]:
            raise PlanTooLong(str(error)) from error
        return _Measured(finished, journal, unfinished)
    return _Measured(plan, journal, [])


def _tabulated(
    data: RunData, measured: _Measured, scores: Mapping[str, MethodScores], folder: Path, n_boot: int
) -> pd.DataFrame:
    """Write the tables of what was measured; the LDS table is the result."""
    known = (data.problem, measured.plan, measured.journal, scores, data.targets)
    table, differences = lds_table(*known, n_boot=n_boot)
    _save(table, folder / "lds.parquet")
    _save(differences, folder / "differences.parquet")
    accuracy, follows = accuracy_table(*known, n_boot=n_boot)
    if len(accuracy):
        _save(accuracy, folder / "accuracy.parquet")
        _save(follows, folder / "tracking.parquet")
    return table


def _removals(data: RunData, scores: MethodScores, kinds: set[str], folder: Path, seconds: float, speed: Speed) -> str:
    """Retrain without the extremes of the run's own ranking when that fits; says what was done."""
    targets = replace(data.targets, weights={t: w for t, w in data.targets.weights.items() if LEVEL not in t})
    units = ["example", *(u for u in ("step", "token") if any(UNIT_OF[k] == u for k in kinds))]
    runs = {u: 2 * len(targets.weights) * len(CURVE if u == "example" else CURVE[:1]) for u in units}
    need = sum(runs.values()) * run_seconds(data.problem, "full", replace(speed, accuracy_seconds=0.0))
    if need > seconds and not (folder / "removal-example").exists():
        return f"left out: {sum(runs.values())} retrains would take about {need / 60:.1f} minutes more"
    tables = []
    for unit in units:
        fractions = CURVE if unit == "example" else CURVE[:1]
        with progress(runs[unit], f"removal of {unit}s", "retrain") as bar:
            tables.append(
                removal(
                    data.problem,
                    {data.method: scores},
                    targets,
                    folder / f"removal-{unit}",
                    unit=unit,
                    fractions=fractions,
                    progress=bar.advance,
                )
            )
    _save(pd.concat(tables, ignore_index=True), folder / "removal.parquet")
    return f"{sum(runs.values())} retrains in removal.parquet"


def wanted_blocks(kinds: Sequence[str] | None, protocols: Sequence[str], n_examples: int) -> list[tuple[str, str]]:
    """Blocks to try, in order; 1% drops only where there are enough examples for them."""
    return [
        (k, p)
        for k, p in BLOCKS
        if p in protocols and (k in kinds if kinds is not None else k != "drop1" or n_examples >= MINIMUM_DROP1)
    ]


def planned_seconds(problem: Problem, plan: SubsetPlan, speed: Speed) -> float:
    """Estimated seconds of a plan's runs at the speed measured."""
    each = {(r.kind, r.order): run_seconds(problem, r.kind, speed, r.order) for r in plan.runs}
    return sum(each[r.kind, r.order] for r in plan.runs)


def kinds_of(blocks: Sequence[Sequence[str]]) -> set[str]:
    """Kinds of removal among (kind, protocol) pairs."""
    return {b[0] for b in blocks}


def _same_run(settings: Mapping[str, Any], data: RunData, path: Path) -> None:
    for key, value in data.problem.described().items():
        if settings[key] != value:
            raise ArtifactError(
                f"{path} was planned for another run: its {key} differs; choose another --out, or delete that folder"
            )


def gather_scores(
    data: RunData, methods: Sequence[str], kinds: set[str], kept: Path | None = None
) -> dict[str, MethodScores]:
    """The run's own scores and the compared methods', with tokens and cut steps where a kind of removal needs them.

    When tokens or steps are removed the run's directions are followed again, token by token and fold by fold, since a
    run keeps token scores of whole targets only. The compared methods' scores are kept in the folder ``kept``.
    """
    fine, deletes = any(UNIT_OF[k] != "example" for k in kinds), "step_delete" in kinds
    own = own_scores(data, deletes=deletes) if fine else data.scores
    others = [m for m in methods if m != data.method]
    found = score_methods(data.problem, data.targets, others, ScoreSettings(tokens=fine, deletes=deletes), kept=kept)
    return {data.method: own, **found}


KIND_BESIDE = {"example": "half", "step": "step_mask", "token": "token"}
"""The kind of removal whose LDS stands beside effects of examples, of steps and of groups of tokens."""
SUBSETS_OF = {"example": "half subsets", "step": "subsets of half the steps", "token": "subsets of half the tokens"}


def validity(table: pd.DataFrame, method: str) -> dict[str, dict[str, str]]:
    """Unit -> target -> what is written beside effects of that unit; a unit that was not removed has none."""
    return {unit: validity_sentences(table, method, unit) for unit in KIND_BESIDE}


def validity_sentences(table: pd.DataFrame, method: str, unit: str = "example") -> dict[str, str]:
    """Target -> the LDS of the run's method, preferring seed_mean."""
    out: dict[str, str] = {}
    mine = table[(table.method == method) & (table.kind == KIND_BESIDE[unit])]
    for target, rows in mine.groupby("target", sort=False):
        row = rows.sort_values("protocol").iloc[-1]
        top = "" if row.protocol == "same_seed" else f", ceiling {row.ceiling:.2f}"
        seeds = "the recorded seed" if row.protocol == "same_seed" else f"{row.n_seeds} seeds"
        out[str(target)] = (
            f"LDS {row.value:.2f} [{row.low:.2f}, {row.high:.2f}]{top}; {row.n_subsets} {SUBSETS_OF[unit]}, {seeds}"
        )
    return out


def read_validity(run_dir: str | Path) -> dict[str, dict[str, str]]:
    """Unit (example, step, token) -> target -> validity sentence; empty where the run was not validated."""
    path = Run(run_dir).validation / "validation.json"
    return dict(read_json(path)["validity"]) if path.exists() else {}


def _smoothness(data: RunData, methods: Sequence[str]) -> list[float]:
    """Metasmoothness of the run along a few directions, where unrolled scores stand beside it."""
    if not any(is_unrolled(get_method(m)) for m in methods):
        return []
    problem = data.problem
    return [float(s) for s in metasmoothness(problem.flat, problem.training, problem.examples)]


def _save(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
