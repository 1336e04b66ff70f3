"""Stages that experiment and conclude: `arms`, `measure`, `results`."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
from infra.models import load_model
from infra.pipeline.attribute import load_folds
from infra.pipeline.data import load_records, save_records
from infra.pipeline.effects import attribution_tables
from infra.pipeline.recipe import Recipe
from infra.pipeline.runner import Context
from infra.pipeline.targets import fold_names, query_examples
from infra.pipeline.train import base_path, encode
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


def run_arms(context: Context, recipe: Recipe) -> None:
    """Write each arm's training set and its manifest of what changed and why. Without arms no pool is needed."""
    if not recipe.arms.names:
        return
    base = base_path(recipe, context.folder)
    sets = {w: load_records(context.dep("records") / f"{w}.parquet") for w in ("train", "pool")}
    lengths = {e.id: e.n_response_tokens for w in sets for e in encode(sets[w], base, recipe)}
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
        save_records([by_id[i] for i in arm.order], context.out / f"{name}.parquet")
        write_json(context.out / f"{name}.json", {"out": list(arm.out_ids), "in": list(arm.in_ids), **arm.manifest})


def models_of(recipe: Recipe) -> list[tuple[str, int, str]]:
    """(arm, seed, stage) of every fine-tuned model of the run; `sft` is the original training set."""
    return [
        (arm, seed, f"sft/{'original' if arm == 'sft' else arm}-s{seed}")
        for arm in ("sft", *recipe.arms.names, *(n for s in recipe.strategies.names for n in (s, CONTROLS[s])))
        for seed in range(recipe.seeds)
    ]


def run_measure(context: Context, recipe: Recipe) -> None:
    """f of every model on the same fixed responses: one row per arm, seed and fold."""
    frame, examples = query_examples(context, recipe, base_path(recipe, context.folder))
    folds, _, _ = load_folds(context)
    names = np.array(fold_names(frame))
    groups = {fold: np.flatnonzero(names == fold) for fold in folds.fold}
    todo = [("base", 0, base_path(recipe, context.folder))]
    todo += [(arm, seed, str(context.dep(stage) / "model")) for arm, seed, stage in models_of(recipe)]
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
    pd.DataFrame(rows).to_parquet(context.out / "f.parquet", index=False)


def gather_rows(context: Context, recipe: Recipe) -> pd.DataFrame:
    """Every held-out answer of every model: arm, seed, task, problem_id, correct, difficulty, outcome."""
    frames = []
    for arm, seed, name in [
        ("base", 0, "base"),
        *((a, s, stage.removeprefix("sft/")) for a, s, stage in models_of(recipe)),
    ]:
        rows = pd.read_parquet(
            context.dep(f"evals/{name}") / "rows.parquet",
            columns=["task", "problem_id", "index", "correct", "difficulty", "outcome"],
        )
        frames.append(rows.assign(arm=arm, seed=seed))
    return pd.concat(frames, ignore_index=True)


def weight_changes(context: Context, recipe: Recipe) -> dict[str, dict[str, float]]:
    """Arm -> record id -> change of its weight: 1 put in, -1 taken out. Cut records have none (their text changed)."""
    changes: dict[str, dict[str, float]] = {}
    for arm in recipe.arms.names:
        manifest = read_json(context.dep("arms") / f"{arm}.json")
        changes[arm] = {**dict.fromkeys(manifest["out"], -1.0), **dict.fromkeys(manifest["in"], 1.0)}
    for strategy in recipe.strategies.names:
        for name in (strategy, CONTROLS[strategy]):
            found = read_json(context.dep("strategies") / f"{name}.json")["weight_changes"]
            if found:
                changes[name] = found
    return changes


def f_table(context: Context, folds: pd.DataFrame, weights: Mapping[str, NDArray[np.float64]]) -> pd.DataFrame:
    """Measured f per arm, seed and target: the folds' values under each target's weights."""
    long = pd.read_parquet(context.dep("measure") / "f.parquet")
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


def run_results(context: Context, recipe: Recipe) -> None:
    """Everything the report says, as tables, and results.json over them."""
    rows = gather_rows(context, recipe)
    task_of_target = {str(t.target): t.name for t in reversed(recipe.tasks) if t.target}
    guided = [name for s in recipe.strategies.names for name in (s, CONTROLS[s])]
    plain = rows[~rows.arm.isin(guided)]
    contrasts = arm_contrasts(plain, primary_tasks=list(task_of_target.values())) if _testable(recipe) else None
    folds, weights, _ = load_folds(context)
    scores = pd.read_parquet(context.dep("scores") / "examples.parquet")
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
        "targets": pd.DataFrame(read_json(context.dep("targets") / "targets.json")),
    }
    if contrasts is not None:
        tables["contrasts"] = contrasts
    if recipe.validation is not None:
        tables |= validation_tables(context.dep("validation"))
    if guided:
        pairs = [(s, CONTROLS[s]) for s in recipe.strategies.names]
        pairs += [("select", "flip")] if "select" in recipe.strategies.names else []
        tables["strategies"] = strategy_contrasts(rows, [*pairs, *((s, "sft") for s in recipe.strategies.names)])
    unread = rows.outcome.isin(["no_answer", "ungradable"]).groupby(rows.arm).mean()
    write_results(
        context,
        recipe,
        tables,
        {
            **(validation_note(context.dep("validation")) if recipe.validation is not None else {}),
            "parseable": {k: 1 - float(v) for k, v in unread.items()},
            "arms_manifest": {
                a: {
                    k: v
                    for k, v in read_json(context.dep("arms") / f"{a}.json").items()
                    if k not in ("in", "out", "pairs", "changes")
                }
                for a in recipe.arms.names
            },
            "strategies_manifest": {
                a: {
                    k: v
                    for k, v in read_json(context.dep("strategies") / f"{a}.json").items()
                    if k not in ("weight_changes", "changes")
                }
                for a in guided
            },
        },
    )


def _testable(recipe: Recipe) -> bool:
    return {"flip", "same-difficulty-swap"} <= set(recipe.arms.names)


def write_results(
    context: Context, recipe: Recipe, tables: Mapping[str, pd.DataFrame], more: Mapping[str, Any]
) -> None:
    """tables/<name>.parquet and results.json, which holds them as rows too."""
    counts = read_json(context.dep("records") / "counts.json")
    agreement = counts.pop("judge", {})  # of the votes on difficulty, where a judge rated it
    coverage = read_json(context.dep("directions") / "coverage.json")
    made_for = read_json(context.dep("directions") / "directions.json").get("model_hash")
    folder = context.out / "tables"
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    write_json(
        context.out / "results.json",
        {
            "name": recipe.name,
            "question": recipe.question,
            "quick": recipe.quick,
            "seeds": recipe.seeds,
            "counts": {name: c["n"] for name, c in counts.items() if c["n"]},
            "levels": {name: c["by_level"] for name, c in counts.items() if c["n"]},
            "judge": agreement,
            "dropped": {k: len(v) for k, v in read_json(context.dep("records") / "dropped.json").items()},
            "model": {"name": recipe.model.base, "hash": made_for, "parameters": coverage.get("parameters")},
            "versions": versions(),
            "coverage": {name: coverage[name] for name in ("tracked", "share")},
            "token_sums": read_json(context.dep("scores") / "check.json"),
            **more,
            "tables": {name: to_json(table) for name, table in tables.items()},
        },
    )


def versions() -> dict[str, str]:
    """Versions that the numbers depend on."""
    packages = {"infra": "infra-attribution", **{name: name for name in ("torch", "transformers", "numpy")}}
    return {"python": platform.python_version(), **{name: metadata.version(p) for name, p in packages.items()}}


def to_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain JSON values; missing and non-finite numbers become null."""
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=12))
    return rows
