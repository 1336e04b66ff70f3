"""Stage `targets`: what f is made of.

A *fold* is the smallest group of target queries that keeps its own direction: (target, difficulty, part). Every
target, "math" as well as "math at level 3", is a weighted mean of folds, because directions are linear in the
gradient; and a bootstrap over target queries resamples folds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.data import Message, Record, TokenizedExample
from infra.errors import InputError
from infra.pipeline.data import load_records, read_source, save_records
from infra.pipeline.recipe import Recipe
from infra.pipeline.runner import Context
from infra.pipeline.train import encode
from infra.store import write_json


def fold_of(problem_id: str, n: int) -> int:
    """Fold number of a query, by hash: all responses to one problem share it."""
    return int(hashlib.sha256(("fold:" + problem_id).encode()).hexdigest()[:8], 16) % n


def run_targets(context: Context, recipe: Recipe) -> None:
    """Verified-correct responses (or, too few of them, reference solutions) grouped into targets and folds.

    Writes queries.parquet (the responses as records), folds.parquet (target, difficulty and fold of each) and
    targets.json (tried, solved and kept per target).
    """
    rows = pd.read_parquet(context.dep("responses") / "rows.parquet")
    target_of = {t.name: t.target for t in recipe.tasks if t.target}
    problems = {
        (name, r.id): r
        for name in target_of
        for r in load_records(context.dep("records") / "problems" / f"{name}.parquet")
        if r.attributes["split"] == "target"
    }
    chosen: list[tuple[str, Record, str, str]] = []
    summary = []
    for target in dict.fromkeys(target_of.values()):
        mine = rows[rows.task.map(target_of) == target]
        right = mine[mine.correct].drop_duplicates(["task", "problem_id", "text"])
        verified = [(problems[task, pid], text) for task, pid, text in zip(right.task, right.problem_id, right.text)]
        source, status, kept = "verified", "ok", verified
        if len(verified) < recipe.targets.minimum:
            reference = [
                (r, r.response) for (task, _), r in problems.items() if target_of[task] == target and r.response
            ]
            if recipe.targets.fallback == "reference" and len(reference) >= recipe.targets.minimum:
                source, kept = "reference", reference
                status = f"only {len(verified)} verified responses: reference solutions used"
            else:
                status = "too few"
        chosen += [(str(target), problem, text, source) for problem, text in kept]
        summary.append(
            {
                "target": target,
                "domain": target,
                "tried": int(mine.groupby(["task", "problem_id"]).ngroups),
                "solved": int(right.groupby(["task", "problem_id"]).ngroups),
                "kept": len(kept),
                "source": source,
                "status": status,
            }
        )
    save_targets(context.out, chosen, summary, recipe.targets.folds)


def run_query_targets(context: Context, recipe: Recipe) -> None:
    """Targets from the user's own files of correct responses: one target a domain."""
    chosen: list[tuple[str, Record, str, str]] = []
    for source in recipe.data.queries:
        for record in read_source(source, recipe, []):
            chosen.append((record.domain, record, record.response or "", "given"))
    summary = []
    for target in dict.fromkeys(c[0] for c in chosen):
        n = sum(c[0] == target for c in chosen)
        summary.append(
            {
                "target": target,
                "domain": target,
                "tried": n,
                "solved": n,
                "kept": n,
                "source": "given",
                "status": "ok" if n >= recipe.targets.minimum else "too few",
            }
        )
    save_targets(context.out, chosen, summary, recipe.targets.folds)


def save_targets(
    out: Path, chosen: Sequence[tuple[str, Record, str, str]], summary: list[dict[str, object]], n_folds: int
) -> None:
    """Write (target, problem, response text, source) rows as query records with folds, in a canonical order."""
    if not chosen:
        raise InputError("no target has any response: raise tasks.limit or set targets.fallback to reference")
    rows = []
    for target, problem, text, source in chosen:
        level = problem.attributes.get("difficulty")
        rows.append(
            (
                target,
                int(level) if isinstance(level, int | float) else 0,
                fold_of(problem.id, n_folds),
                problem.id,
                text,
                source,
                problem,
            )
        )
    rows.sort(key=lambda r: r[:5])
    records, frame = [], []
    for i, (target, level, fold, _, text, source, problem) in enumerate(rows):
        messages = (*problem.prompt, Message("assistant", text))
        records.append(
            replace(
                problem,
                id=f"q{i}",
                messages=messages,
                spans=(),
                attributes={**problem.attributes, "problem_id": problem.id},
            )
        )
        frame.append(
            {
                "id": f"q{i}",
                "problem_id": problem.id,
                "target": target,
                "difficulty": level,
                "fold": fold,
                "source": source,
            }
        )
    save_records(records, out / "queries.parquet")
    pd.DataFrame(frame).to_parquet(out / "folds.parquet", index=False)
    write_json(out / "targets.json", summary)


def query_examples(context: Context, recipe: Recipe, model_path: str) -> tuple[pd.DataFrame, list[TokenizedExample]]:
    """The targets' responses as token sequences, with the target, difficulty and fold of each."""
    examples = encode(load_records(context.dep("targets") / "queries.parquet"), model_path, recipe)
    frame = pd.read_parquet(context.dep("targets") / "folds.parquet").set_index("id")
    return frame.loc[[e.id for e in examples]].reset_index(), examples


def folds_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per fold, in the order of the directions: fold (its name), target, difficulty, part, n_queries."""
    grouped = frame.groupby(["target", "difficulty", "fold"], sort=True).size().reset_index(name="n_queries")
    grouped = grouped.rename(columns={"fold": "part"})
    grouped.insert(0, "fold", [f"{t}:{d}#{p}" for t, d, p in zip(grouped.target, grouped.difficulty, grouped.part)])
    return grouped


def fold_names(frame: pd.DataFrame) -> list[str]:
    """The name of each query's fold."""
    return [f"{t}:{d}#{p}" for t, d, p in zip(frame.target, frame.difficulty, frame.fold)]


def target_weights(folds: pd.DataFrame, minimum: int) -> dict[str, NDArray[np.float64]]:
    """Target -> weight of each fold (sums to 1). Levels with fewer responses than ``minimum`` have no target."""
    out: dict[str, NDArray[np.float64]] = {}
    for name in dict.fromkeys(folds.target):
        mine = (folds.target == name).to_numpy()
        counts = np.where(mine, folds.n_queries, 0).astype(float)
        out[name] = counts / counts.sum()
        for level in sorted(set(folds.difficulty[mine])):
            level_counts = np.where(mine & (folds.difficulty == level).to_numpy(), folds.n_queries, 0).astype(float)
            if level > 0 and level_counts.sum() >= minimum:
                out[f"{name}:{level}"] = level_counts / level_counts.sum()
    return out
