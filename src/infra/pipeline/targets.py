"""Step `targets`: what f is made of.

A *fold* is the smallest group of target queries that keeps its own direction: (target, difficulty, part). Every
target, "math" as well as "math at level 3", is a weighted mean of folds, because directions are linear in the
gradient; and a bootstrap over target queries resamples folds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.data import Message, Record, TargetName, TokenizedExample, record_id
from infra.errors import InputError
from infra.layout import BASE
from infra.pipeline.data import load_records, read_source, save_records
from infra.pipeline.stage import Context
from infra.pipeline.step import TOKENIZER, Job, Step, Uses
from infra.pipeline.tokenized import ENCODING, stored_records, tokens_of, write_tokens
from infra.store import write_json

Chosen = tuple[str, Record, str, str]
"""Target, problem, text of the response, and where it comes from."""


def fold_of(problem: Record, n: int) -> int:
    """Fold number of a query, by hash of the problem's content: all responses to one problem share it."""
    content = record_id(problem.messages, problem.answer, problem.tests, problem.tools)
    return int(hashlib.sha256(("fold:" + content).encode()).hexdigest()[:8], 16) % n


def run_targets(context: Context) -> None:
    """Group responses into targets and folds.

    The responses are the run's own verified-correct ones (or, too few of them, reference solutions), or those of the
    user's files in ``data.queries``, one target a domain.

    Writes queries.parquet (the responses as records), tokenized.parquet (their tokens, the loss on those that f is
    over), folds.parquet (target, difficulty and fold of each) and targets.json (tried, solved and kept per target).
    """
    chosen, summary = _given_responses(context) if context.recipe.data.queries else _own_responses(context)
    save_targets(context, chosen, summary)
    counted = context.recipe.targets.tokens
    write_tokens(stored_records(context.queries), context.tokenized_queries, context, counted)


def _own_responses(context: Context) -> tuple[list[Chosen], list[dict[str, object]]]:
    recipe = context.recipe
    rows = pd.read_parquet(context.answers("responses"))
    target_of = {t.label: t.target for t in recipe.tasks if t.target}
    problems = {
        (name, r.id): r
        for name in target_of
        for r in load_records(context.problems(name))
        if r.attributes["split"] == "target"
    }
    chosen: list[Chosen] = []
    summary: list[dict[str, object]] = []
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
    return chosen, summary


def _given_responses(context: Context) -> tuple[list[Chosen], list[dict[str, object]]]:
    recipe = context.recipe
    chosen: list[Chosen] = []
    for source in recipe.data.queries:
        for record in read_source(source, recipe, []).records:
            chosen.append((record.domain, record, record.response or "", "given"))
    summary: list[dict[str, object]] = []
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
    return chosen, summary


def save_targets(context: Context, chosen: Sequence[Chosen], summary: list[dict[str, object]]) -> None:
    """Write the responses as query records with folds, in a canonical order."""
    if not chosen:
        raise InputError("no target has any response: raise tasks.limit or set targets.fallback to reference")
    rows = []
    for target, problem, text, source in chosen:
        level = problem.attributes.get("difficulty")
        rows.append(
            (
                target,
                int(level) if isinstance(level, int | float) else 0,
                fold_of(problem, context.recipe.targets.folds),
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
                "target": TargetName(target).name,
                "difficulty": level,
                "fold": fold,
                "source": source,
            }
        )
    save_records(records, context.queries)
    pd.DataFrame(frame).to_parquet(context.query_folds, index=False)
    write_json(context.target_summary, summary)


def query_folds(context: Context, ids: Sequence[str]) -> pd.DataFrame:
    """Target, difficulty and fold of the queries with these ids, in their order."""
    return pd.read_parquet(context.query_folds).set_index("id").loc[list(ids)].reset_index()


def query_examples(context: Context) -> tuple[pd.DataFrame, list[TokenizedExample]]:
    """The targets' responses as token sequences, with the target, difficulty and fold of each."""
    examples = tokens_of(context.tokenized_queries)
    return query_folds(context, [e.id for e in examples]), examples


def folds_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per fold, in the order of the directions: fold (its name), target, difficulty, part, n_queries."""
    grouped = frame.groupby(["target", "difficulty", "fold"], sort=True).size().reset_index(name="n_queries")
    grouped = grouped.rename(columns={"fold": "part"})
    names = [str(TargetName(*f)) for f in zip(grouped.target, grouped.difficulty, grouped.part)]
    grouped.insert(0, "fold", names)
    return grouped


def fold_names(frame: pd.DataFrame) -> list[str]:
    """The name of each query's fold."""
    return [str(TargetName(*f)) for f in zip(frame.target, frame.difficulty, frame.fold)]


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
                out[str(TargetName(name, int(level)))] = level_counts / level_counts.sum()
    return out


def _reads(job: Job, _: object) -> tuple[str, ...]:
    return () if job.recipe.data.queries else ("records", "responses")


TARGETS = Step(
    "targets",
    run_targets,
    reads=_reads,
    uses=(Uses(BASE, (TOKENIZER,)),),
    settings=("targets", "tasks", "data.queries", *ENCODING, "scores.shard_tokens"),
    files=lambda job: [s.path for s in job.recipe.data.queries],
)
