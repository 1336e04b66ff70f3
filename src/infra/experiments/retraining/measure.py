"""Carrying out a subset plan: every run that starts is listed, every finished one is kept, a killed one goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from infra.errors import ArtifactError, InputError, PlanTooLong, ResourceError
from infra.experiments.retraining.plan import RECORDED, PlannedRun, SubsetPlan, runs_of
from infra.experiments.retraining.problem import Problem
from infra.train.flat_model import loss_weights, query_values
from infra.train.replay import TrainingPlan, train, train_stack


@dataclass(frozen=True)
class Speed:
    """Measured on a few optimiser steps: training tokens a second, and seconds to measure f once."""

    tokens_per_second: float
    query_seconds: float
    accuracy_seconds: float = 0.0


def measure_speed(problem: Problem, steps: int = 3) -> Speed:
    """Time a few optimiser steps and one measurement of f (no run is finished, so nothing is learnt about subsets)."""
    plan = problem.training
    few = min(steps, plan.steps)
    short = TrainingPlan(plan.batches[:few], plan.learning_rates[:few], plan.normaliser, max_tokens=plan.max_tokens)
    weights = loss_weights(problem.examples)
    warm = TrainingPlan(plan.batches[:1], plan.learning_rates[:1], plan.normaliser, max_tokens=plan.max_tokens)
    theta = train(problem.flat, warm, problem.examples, weights)
    start = time.perf_counter()
    train(problem.flat, short, problem.examples, weights)
    trained = time.perf_counter() - start
    start = time.perf_counter()
    query_values(problem.flat, theta, problem.queries, problem.form)
    query = time.perf_counter() - start
    tokens = sum(len(problem.examples[i]) for b in short.batches for i in b)
    evaluated = 0.0
    if problem.accuracy is not None:
        start = time.perf_counter()
        problem.accuracy(problem.flat.into(problem.flat.start))
        evaluated = time.perf_counter() - start
    return Speed(tokens / trained, query, evaluated)


def run_seconds(problem: Problem, kind: str, speed: Speed, order: str | int = RECORDED) -> float:
    """Estimated seconds of one run of a kind: half subsets skip half of the data, masked tokens save nothing."""
    share = {"half": 0.5, "drop1": 0.99, "step_delete": 0.6}.get(kind, 1.0)
    tokens = sum(len(problem.examples[i]) for b in problem.training.batches for i in b)
    return (
        share * tokens / speed.tokens_per_second
        + speed.query_seconds
        + (speed.accuracy_seconds if with_accuracy(kind, order) else 0.0)
    )


@dataclass(frozen=True)
class Sizing:
    """Which blocks of runs fit in the time, which do not, and what each would take (seconds)."""

    blocks: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...]
    seconds: Mapping[tuple[str, str], float]
    retrains_per_minute: float
    speed: Speed

    @property
    def total(self) -> float:
        """Estimated seconds of the blocks that fit."""
        return sum(self.seconds[b] for b in self.blocks)


@dataclass(frozen=True)
class Budget:
    """``minutes`` for ``n_subsets`` of each kind, ``seed_mean`` blocks under ``n_seeds`` orders each.

    ``margin``: the share of the minutes to plan for. ``insist``: every block that is wanted must fit.
    """

    minutes: float
    n_subsets: int = 100
    n_seeds: int = 3
    insist: bool = False
    margin: float = 1.0


def fit_budget(
    problem: Problem, wanted: Sequence[tuple[str, str]], budget: Budget, speed: Speed | None = None
) -> Sizing:
    """Choose blocks, in the order wanted, that fit in the budget.

    Raises PlanTooLong with the estimate when nothing fits, or when the budget insists and not everything does.
    """
    speed = speed or measure_speed(problem)
    seconds = {
        (kind, protocol): budget.n_subsets * run_seconds(problem, kind, speed)
        if protocol == "same_seed"
        else budget.n_subsets * budget.n_seeds * run_seconds(problem, kind, speed, order=0)
        for kind, protocol in wanted
    }
    left, chosen = 60.0 * budget.minutes * budget.margin, []
    for block in wanted:
        if seconds[block] <= left:
            chosen.append(block)
            left -= seconds[block]
    rate = 60 / run_seconds(problem, "half", speed)
    if not chosen or (budget.insist and len(chosen) < len(wanted)):
        need = sum(seconds.values()) if budget.insist else min(seconds.values())
        raise PlanTooLong(
            f"the subset plan would take about {need / 60:.1f} minutes and {budget.minutes:g} were given "
            f"({rate:.1f} half-data retrains a minute measured here); allow more minutes, ask for fewer kinds of "
            "removal, or train on fewer examples"
        )
    return Sizing(tuple(chosen), tuple(b for b in wanted if b not in chosen), seconds, rate, speed)


@dataclass
class Journal:
    """``runs*.jsonl``: one line when a run starts, one with its measurements when it ends.

    Several processes may share a plan; each writes a file of its own (``path``) and reads all of them.
    """

    path: Path
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    started: int = 0

    @staticmethod
    def open(path: Path, plan_hash: str) -> Journal:
        """Read what is there. Raises ArtifactError when it belongs to another plan; a torn last line is passed over."""
        journal = Journal(path)
        for each in sorted(path.parent.glob("runs*.jsonl")):
            for line in each.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if entry["plan"] != plan_hash:
                    raise ArtifactError(f"{each} belongs to another subset plan; choose another output folder")
                journal._take(entry)
        return journal

    def _take(self, entry: Mapping[str, Any]) -> None:
        if entry["event"] == "started":
            self.started += 1
        elif entry["event"] == "finished":
            self.values[entry["run"]] = np.array(entry["f"], np.float64)
            self.seconds[entry["run"]] = float(entry["seconds"])
            if "accuracy" in entry:
                self.accuracy[entry["run"]] = entry["accuracy"]

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one line and take it in."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(dict(entry)) + "\n")
        self._take(entry)


def run_retrains(
    problem: Problem,
    plan: SubsetPlan,
    folder: Path,
    *,
    seconds: float | None = None,
    worker: tuple[int, int] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Journal:
    """Make every run of a plan that has not finished. The plan is committed to ``folder/plan.json`` first.

    ``worker`` (i, n), i from 1 to n, makes every n-th run only, into a journal of its own, so that n processes carry
    out one plan; a later call without it finds all of theirs.

    Raises ResourceError when ``seconds`` are over before the plan is: what is finished stays, the same call goes on.
    """
    plan.commit(folder / "plan.json")
    i, n = worker or (1, 1)
    if not 1 <= i <= n:
        raise InputError(f"worker {i} of {n} does not exist; number the workers 1 to {n}")
    journal = Journal.open(folder / ("runs.jsonl" if n == 1 else f"runs-{i}of{n}.jsonl"), plan.hash)
    todo = [r for r in plan.runs[i - 1 :: n] if r.id not in journal.values]
    end = None if seconds is None else time.monotonic() + seconds
    for start in range(0, len(todo), problem.stack):
        if end is not None and time.monotonic() > end:
            raise ResourceError(
                f"the time given is over with {len(journal.values)} of {len(plan.runs)} retrains finished in {folder}; "
                "the same command goes on from there"
            )
        group = todo[start : start + problem.stack]
        for run in group:
            journal.write({"plan": plan.hash, "run": run.id, "event": "started"})
        begin = time.perf_counter()
        thetas = train_stack(problem.flat, [problem.retrain(r, plan.subsets) for r in group], problem.stack)
        for run, theta in zip(group, thetas):
            journal.write(
                {
                    "plan": plan.hash,
                    "run": run.id,
                    "event": "finished",
                    **measured(problem, run, theta),
                    "seconds": round((time.perf_counter() - begin) / len(group), 3),
                }
            )
            if progress is not None:
                progress(1)
    return journal


def with_accuracy(kind: str, order: str | int) -> bool:
    """Held-out accuracy, slow to measure, is taken after half-subset and full runs of the recorded order."""
    return kind in ("half", "full") and order == RECORDED


def measured(problem: Problem, run: PlannedRun, theta: Tensor) -> dict[str, Any]:
    """f of every query, and held-out accuracy where it is asked for."""
    out: dict[str, Any] = {"f": query_values(problem.flat, theta, problem.queries, problem.form).tolist()}
    if problem.accuracy is not None and with_accuracy(run.kind, run.order):
        out["accuracy"] = dict(problem.accuracy(problem.flat.into(theta)))
        problem.flat.into(problem.flat.start)
    return out


def finished_part(plan: SubsetPlan, journal: Journal) -> tuple[SubsetPlan, list[list[str]]]:
    """The plan with the blocks whose every run is finished, for tabulating, and the other blocks."""
    blocks = [list(b) for b in plan.settings["blocks"]]
    done = [b for b in blocks if all(r.id in journal.values for r in runs_of(plan, *b))]
    return replace(plan, settings={**plan.settings, "blocks": done}), [b for b in blocks if b not in done]


def gathered(journal: Journal, plan: SubsetPlan, kind: str, protocol: str) -> NDArray[np.float64]:
    """f as ``[S, seeds, Q]`` for one block; one seed for ``same_seed``. Raises ArtifactError for a missing run."""
    orders: Sequence[str | int] = (RECORDED,) if protocol == "same_seed" else tuple(plan.settings["seeds"])
    rows = []
    for s in range(len(plan.subsets[kind])):
        names = [PlannedRun(kind, s, o).id for o in orders]
        missing = [n for n in names if n not in journal.values]
        if missing:
            raise ArtifactError(
                f"run {missing[0]} of {journal.path} is not finished; the same command goes on from there"
            )
        rows.append(np.stack([journal.values[n] for n in names]))
    return np.stack(rows)
