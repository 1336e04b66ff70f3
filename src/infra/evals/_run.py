"""`infra eval`: benchmarks on one model, standing alone. Writes rows and a summary."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from infra.data.schema import Record
from infra.errors import InputError
from infra.evals._evaluate import evaluate
from infra.evals._metrics import accuracy_by, avg_at_k, majority_vote, pass_at_k
from infra.evals._types import EvalRow
from infra.evals.sandbox import choose
from infra.evals.tasks import Task, get_task
from infra.intervals import accuracy_interval
from infra.models.generation import Generator, Sampling
from infra.store import replacing, write_text

GROUPS = ("split", "difficulty", "platform", "month")


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """Settings of a stand-alone evaluation. ``options`` go to every task's loader; ``paths`` are files by task name."""

    tasks: tuple[str, ...]
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    limit: int | None = None
    mode: str = "strict"
    instruct: bool = True
    system: str | None = None
    thinking_prefix: str = ""
    unsafe_execution: bool = False
    paths: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def run_eval(
    generator: Generator,
    settings: EvalSettings,
    out: Path | str,
    *,
    model_hash: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Evaluate every task; write ``out/<task>.parquet`` and ``out/summary.json``, and return the summary.

    Generations are kept in ``out/generations.jsonl``, so the same call goes on after a kill. Raises what loaders,
    generator and verifier raise.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: results cannot be written there ({error.strerror}); give a folder") from error
    summary: dict[str, Any] = {"model": model_hash or generator.identity, "settings": asdict(settings), "tasks": {}}
    for name in settings.tasks:
        task = get_task(name, settings.paths.get(name))
        options = {k: v for k, v in settings.options.items() if k in task.options}
        problems = task.load(limit=settings.limit, **options)
        asked = [replace(p, messages=task.prompt(p)) for p in problems] if settings.instruct else problems
        rows = evaluate(
            asked,
            generator,
            settings.sampling,
            settings.seed,
            folder,
            model_hash=model_hash,
            system=settings.system,
            thinking_prefix=settings.thinking_prefix,
            mode=settings.mode,
            unsafe_execution=settings.unsafe_execution,
            progress=progress,
        )
        write_rows(rows, folder / f"{task.name}.parquet")
        summary["tasks"][task.name] = describe_rows(task, problems, rows, settings)
    write_text(folder / "summary.json", json.dumps(summary, indent=1, sort_keys=True, default=str) + "\n")
    return summary


def describe_rows(
    task: Task, problems: Sequence[Record], rows: Sequence[EvalRow], settings: EvalSettings
) -> dict[str, Any]:
    """Accuracy with n, k, sampling, revision and the sandbox that code ran in (None where no code was run): overall,
    per split, difficulty, platform and month.
    """
    samples = settings.sampling.n
    table = np.array([r.correct for r in rows], dtype=float).reshape(len(problems), samples)
    answers = [[r.answer for r in rows[i * samples : (i + 1) * samples]] for i in range(len(problems))]
    splits = [rows[i * samples].split for i in range(len(problems))]
    found: dict[str, Any] = {
        "revision": task.revision,
        "n": len(problems),
        "k": samples,
        "mode": settings.mode,
        "sandbox": choose(settings.unsafe_execution) if any(p.tests is not None for p in problems) else None,
        "accuracy": accuracy_interval(table)._asdict(),
        "avg_at_k": avg_at_k(table),
        "pass_at_k": {k: pass_at_k(table, k) for k in sorted({1, samples})},
        "outcomes": {o: sum(r.outcome == o for r in rows) for o in sorted({r.outcome for r in rows})},
        "cut_by_length": sum(r.finish == "length" for r in rows),
    }
    if samples > 1 and task.domain == "math":
        found["majority_vote"] = majority_vote(answers, table)
    for name in GROUPS:
        groups = [s if name == "split" else p.attributes.get(name) for s, p in zip(splits, problems)]
        if any(g is not None for g in groups):
            by = accuracy_by(table, groups)
            found[f"by_{name}"] = {group: interval._asdict() for group, interval in by.items()}
    return found


def write_rows(rows: Sequence[EvalRow], path: Path) -> None:
    """Rows as Parquet; difficulty as text, since levels may be names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [getattr(r, name) for r in rows] for name in EvalRow.__dataclass_fields__}
    columns["difficulty"] = [None if d is None else str(d) for d in columns["difficulty"]]
    with replacing(path) as part:
        pq.write_table(pa.table(columns), part, compression="zstd")
