"""Steps that experiment and conclude: `arms`, `measure`, `results`."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra import __version__
from infra.analysis import (
    accuracy_table,
    arm_contrasts,
    hypotheses,
    predicted_vs_measured,
    strategy_contrasts,
)
from infra.data import Record
from infra.experiments.selection import CONTROLS, ArmItem, make_arm
from infra.influence import MeanLogLikelihood
from infra.layout import BASE, EXPLAINED, SETS
from infra.models import load_model
from infra.pipeline.answers import evaluated_models
from infra.pipeline.attribute import load_weights
from infra.pipeline.convergence import CONVERGENCE
from infra.pipeline.data import load_records, save_records
from infra.pipeline.effects import attribution_tables, validated
from infra.pipeline.recipe import Recipe
from infra.pipeline.stage import PRECISION, Context
from infra.pipeline.step import Job, Step, Uses
from infra.pipeline.targets import fold_names, query_examples
from infra.pipeline.tokenized import tokens_of
from infra.pipeline.train import guided_arms, models_of
from infra.pipeline.validity import STAGE as VALIDATION
from infra.pipeline.validity import validation_note, validation_tables
from infra.progress import progress
from infra.store import read_json, write_json


def items(records: Sequence[Record], lengths: dict[str, int]) -> list[ArmItem]:
    """What an arm needs to know of each record; a record without a level has difficulty None."""
    found = [(r, r.attributes.get("difficulty")) for r in records if r.id in lengths]
    return [
        ArmItem(r.id, r.domain, int(level) if isinstance(level, int | float) else None, lengths[r.id])
        for r, level in found
    ]


def run_arms(context: Context) -> None:
    """Write each arm's training set and its manifest of what changed and why. Without arms no pool is needed."""
    recipe = context.recipe
    if not recipe.arms.names:
        return
    sets = {w: load_records(context.records(w)) for w in SETS}
    lengths = {e.id: e.n_response_tokens for w in SETS for e in tokens_of(context.tokenized(w))}
    by_id = {r.id: r for w in sets for r in sets[w]}
    a = recipe.arms
    for name in a.names:
        arm = make_arm(
            name,
            items(sets["train"], lengths),
            items(sets["pool"], lengths),
            fraction=a.fraction,
            seed=recipe.seed,
            token_matched=a.token_matched,
            length_matched=a.length_matched,
            easy=a.easy,
            hard=a.hard,
        )
        save_records([by_id[i] for i in arm.order], context.arm("arms", name))
        write_json(
            context.arm_manifest("arms", name), {"out": list(arm.out_ids), "in": list(arm.in_ids), **arm.manifest}
        )


def run_measure(context: Context) -> None:
    """f of every model on the same fixed responses: one row per arm, seed and fold."""
    recipe = context.recipe
    frame, examples = query_examples(context)
    folds = pd.read_parquet(context.folds)
    names = np.array(fold_names(frame))
    groups = {fold: np.flatnonzero(names == fold) for fold in folds.fold}
    todo = [("base", 0, context.use(BASE)), *((m.arm, m.seed, context.use(m.step)) for m in models_of(recipe))]
    rows = []
    with progress(len(todo), context.label, "model") as bar:
        for arm, seed, path in todo:
            model, _ = load_model(path, dtype=recipe.model.dtype, device=recipe.model.device)
            values = MeanLogLikelihood("all", examples, form=recipe.targets.form).values(model)
            rows += [
                {"arm": arm, "seed": seed, "fold": n, "f": float(np.mean(values[members]))}
                for n, members in groups.items()
            ]
            bar.advance()
    pd.DataFrame(rows).to_parquet(context.measured, index=False)


def gather_rows(context: Context, recipe: Recipe) -> pd.DataFrame:
    """Every held-out answer of every model: arm, seed, task, problem_id, correct, difficulty, outcome."""
    whose = {BASE: ("base", 0), **{m.step: (m.arm, m.seed) for m in models_of(recipe)}}
    columns = ["task", "problem_id", "index", "correct", "difficulty", "outcome"]
    frames = []
    for of in evaluated_models(recipe):
        arm, seed = whose[of.model]
        rows = pd.read_parquet(context.answers(of.step), columns=columns)
        frames.append(rows.assign(arm=arm, seed=seed))
    return pd.concat(frames, ignore_index=True)


def weight_changes(context: Context, recipe: Recipe) -> dict[str, dict[str, float]]:
    """Arm -> record id -> change of its weight: 1 put in, -1 taken out. Cut records have none (their text changed)."""
    changes: dict[str, dict[str, float]] = {}
    for arm in recipe.arms.names:
        manifest = read_json(context.arm_manifest("arms", arm))
        changes[arm] = {**dict.fromkeys(manifest["out"], -1.0), **dict.fromkeys(manifest["in"], 1.0)}
    for name in guided_arms(recipe):
        found = read_json(context.arm_manifest("strategies", name))["weight_changes"]
        if found:
            changes[name] = found
    return changes


def f_table(context: Context, folds: pd.DataFrame, weights: Mapping[str, NDArray[np.float64]]) -> pd.DataFrame:
    """Measured f per arm, seed and target: the folds' values under each target's weights."""
    long = pd.read_parquet(context.measured)
    wide = long.pivot_table(index=["arm", "seed"], columns="fold", values="f")[list(folds.fold)]
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "arm": wide.index.get_level_values(0),
                    "seed": wide.index.get_level_values(1),
                    "target": t,
                    "f": wide.to_numpy() @ w,
                }
            )
            for t, w in weights.items()
        ],
        ignore_index=True,
    )


def run_results(context: Context) -> None:
    """Everything the report says, as tables, and results.json over them.

    Of a job that trains nothing that is attribution alone; else also accuracy, hypotheses and what was retrained.
    """
    summary = pd.DataFrame(read_json(context.target_summary))
    tables, more = _experiments(context) if context.has("measure") else (attribution_tables(context), {})
    write_results(context, {**tables, "targets": summary}, more)


def _experiments(context: Context) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The tables of a job that trains, and what results.json says beside them."""
    recipe = context.recipe
    rows = gather_rows(context, recipe)
    task_of_target = {str(t.target): t.label for t in reversed(recipe.tasks) if t.target}
    guided = guided_arms(recipe)
    plain = rows[~rows.arm.isin(guided)]
    contrasts = arm_contrasts(plain, primary_tasks=list(task_of_target.values())) if _testable(recipe) else None
    folds, weights = pd.read_parquet(context.folds), load_weights(context)
    scores = pd.read_parquet(context.example_scores)
    n_train = int((scores.set == "train").sum())
    changes = weight_changes(context, recipe)
    arms = predicted_vs_measured(
        changes,
        list(scores.id),
        scores[[f"score_{t}" for t in weights]].to_numpy() / n_train,  # the curvature is a mean over N examples
        list(weights),
        f_values=f_table(context, folds, weights),
        eval_rows=rows,
        tasks=task_of_target,
    )
    tables = attribution_tables(context)
    tables["hypotheses"] = hypotheses(
        tables["effects"],
        domain_means=tables["domain_means"],
        behaviours=tables["behaviours"],
        token_classes=tables["token_classes"],
        contrasts=contrasts,
        tasks=task_of_target,
    )
    tables |= {
        "accuracy": accuracy_table(rows).assign(split="held-out"),
        "slope": accuracy_table(rows, ["difficulty"]),
        **({"arms": arms} if changes else {}),
    }
    if contrasts is not None:
        tables["contrasts"] = contrasts
    if context.has(VALIDATION):
        tables |= validation_tables(context.validation)
    if guided:
        pairs = [(s, CONTROLS[s]) for s in recipe.strategies.names]
        pairs += [("select", "flip")] if "select" in recipe.strategies.names else []
        tables["strategies"] = strategy_contrasts(rows, [*pairs, *((s, "sft") for s in recipe.strategies.names)])
    unread = rows.outcome.isin(["no_answer", "ungradable"]).groupby(rows.arm).mean()
    noted = validation_note(context.validation) if context.has(VALIDATION) else {}
    return tables, {
        **noted,
        "parseable": {k: 1 - float(v) for k, v in unread.items()},
        "arms_manifest": {a: _told(context.arm_manifest("arms", a)) for a in recipe.arms.names},
        "strategies_manifest": {a: _told(context.arm_manifest("strategies", a)) for a in guided},
    }


def _told(manifest: Path) -> dict[str, Any]:
    """What a training set's manifest says of it as a whole."""
    each = ("in", "out", "pairs", "changes", "weight_changes")
    return {k: v for k, v in read_json(manifest).items() if k not in each}


def _testable(recipe: Recipe) -> bool:
    return {"flip", "same-difficulty-swap"} <= set(recipe.arms.names)


def write_results(context: Context, tables: Mapping[str, pd.DataFrame], more: Mapping[str, Any]) -> None:
    """tables/<name>.parquet and results.json, which holds them as rows too."""
    recipe = context.recipe
    counts = read_json(context.counts)
    agreement = counts.pop("judge", {})  # of the votes on difficulty, where a judge rated it
    coverage = read_json(context.coverage)
    made_for = read_json(context.method_index).get("model_hash")
    for name, table in tables.items():
        context.table(name).parent.mkdir(exist_ok=True)
        table.to_parquet(context.table(name), index=False)
    write_json(
        context.results,
        {
            "name": recipe.name,
            "question": recipe.question,
            "quick": recipe.quick,
            "seeds": recipe.seeds,
            "counts": {name: c["n"] for name, c in counts.items() if c["n"]},
            "levels": {name: c["by_level"] for name, c in counts.items() if c["n"]},
            "judge": agreement,
            "dropped": {k: len(v) for k, v in read_json(context.dropped).items()},
            "model": {"name": recipe.model.base, "hash": made_for, "parameters": coverage.get("parameters")},
            **({"warmup": read_json(context.warmup)} if context.has(EXPLAINED) else {}),
            **({"convergence": read_json(context.convergence)} if context.has(CONVERGENCE.name) else {}),
            "versions": versions(),
            "coverage": {name: coverage[name] for name in ("tracked", "share")},
            "token_sums": read_json(context.score_check),
            **more,
            "tables": {name: to_json(table) for name, table in tables.items()},
        },
    )


def versions() -> dict[str, str]:
    """Versions that the numbers depend on."""
    packages = {name: metadata.version(name) for name in ("torch", "transformers", "numpy")}
    return {"python": platform.python_version(), "infra": __version__, **packages}


def to_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain JSON values; missing and non-finite numbers become null."""
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=12))
    return rows


def _read_by_results(job: Job, _: object) -> tuple[str, ...]:
    attribution = ("records", "targets", "directions", "scores", "spans", "effects")
    warmed = (EXPLAINED,) if job.warms_up else ()
    seen = (*attribution, *(() if job.recipe.scale.fsdp else (CONVERGENCE.name,)), *warmed)
    if not job.trains:
        return seen
    answers = [of.step for of in evaluated_models(job.recipe)]
    guided = ("strategies",) if job.recipe.strategies.names else ()
    return (*seen, "arms", *guided, "measure", *answers, *validated(job))


NAMED = ("arms.names", "strategies.names", "seeds")
"""Settings that name the models of a run; the steps that read those are keyed by them."""

ARMS = Step(
    "arms",
    run_arms,
    reads=("records", "tokenized"),
    settings=("arms", "seed"),
    when=lambda job: job.trains,
)
MEASURE = Step(
    "measure",
    run_measure,
    reads=("targets", "directions"),
    uses=lambda job, _: [Uses(BASE), *(Uses(m.step) for m in models_of(job.recipe))],
    settings=("targets.form", "model.dtype", PRECISION, "model.device"),
    unhashed=NAMED,
    when=lambda job: job.trains,
)
RESULTS = Step(
    "results",
    run_results,
    reads=_read_by_results,
    settings=("name", "question", "quick", "seeds", "tasks", "model.base", "arms.names", "strategies.names"),
)
