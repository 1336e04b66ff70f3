"""Stage `report`: the page, from the artifacts of this run and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from infra.pipeline.attribute import token_targets_of
from infra.pipeline.data import load_records
from infra.pipeline.recipe import Recipe
from infra.pipeline.runner import Context
from infra.pipeline.train import encode
from infra.report import ExampleView, ReportData, render_report
from infra.spans import token_classes
from infra.store import read_json


def run_report(context: Context, recipe: Recipe, model_path: str) -> None:
    """Write report.html."""
    results = read_json(context.dep("results") / "results.json")
    tables = {p.stem: pd.read_parquet(p) for p in sorted((context.dep("results") / "tables").glob("*.parquet"))}
    dropped = read_json(context.dep("records") / "dropped.json")
    results["settings"] = {
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "leaks": dropped["leaks"][:200],
        "skipped": dropped["skipped"][:200],
    }
    scores = pd.read_parquet(context.dep("scores") / "examples.parquet")
    data = ReportData(
        title=recipe.name,
        quick=recipe.quick,
        notes=[results.pop("validation")] if "validation" in results else [],
        results=results,
        tables=tables,
        figures={},
        examples=example_views(context, recipe, model_path),
        scores=scores[scores.set == "train"],
    )
    render_report(data, context.out / "report.html")


def example_views(context: Context, recipe: Recipe, model_path: str) -> list[ExampleView]:
    """The most helpful, least helpful and some random training examples with their token scores and steps."""
    table = pd.read_parquet(context.dep("scores") / "examples.parquet")
    table = table[table.set == "train"].set_index("id")
    names = token_targets_of(
        recipe, [str(c).removeprefix("score_") for c in table.columns if str(c).startswith("score_")]
    )
    if not names or not recipe.report.examples:
        return []
    third = max(1, recipe.report.examples // (3 * len(names)))
    chosen: dict[str, None] = {}
    for name in names:
        ordered = table[f"score_{name}"].sort_values(kind="stable")
        chosen |= dict.fromkeys([*ordered.index[::-1][:third], *ordered.index[:third]])
    rng = np.random.default_rng(recipe.seed)
    chosen |= dict.fromkeys(rng.permutation(table.index.to_numpy())[: third * len(names)].tolist())
    wanted = list(chosen)
    records = {r.id: r for r in load_records(context.dep("records") / "train.parquet") if r.id in chosen}
    examples = {e.id: e for e in encode([records[i] for i in wanted], model_path, recipe)}
    scores: dict[str, dict[str, np.ndarray]] = {}
    kinds = [f"{kind}_{name}" for kind in ("loss", "position") for name in names]
    for path in sorted((context.dep("scores") / "tokens").glob("train-*.parquet")):
        columns = [c for c in kinds if c in pq.read_schema(path).names]
        for row in pq.read_table(path, columns=["id", *columns], filters=[("id", "in", wanted)]).to_pylist():
            scores[row["id"]] = {k: np.asarray(row[k], np.float32) for k in columns}
    steps = pd.read_parquet(
        context.dep("spans") / "steps.parquet", filters=[("id", "in", wanted), ("set", "==", "train")]
    )
    views = []
    for id_ in wanted:
        example = examples[id_]
        mine = steps[steps.id == id_].sort_values("step")
        views.append(
            ExampleView(
                id=id_,
                attributes={"domain": records[id_].domain, **dict(records[id_].attributes)},
                text=example.text,
                token_offsets=example.offsets,
                loss_mask=example.loss_mask,
                scores={
                    kind: np.stack([scores[id_][f"{kind}_{n}"] for n in names])
                    for kind in ("loss", "position")
                    if f"{kind}_{names[0]}" in scores[id_]
                },
                targets=names,
                steps=[(int(r["t0"]), int(r["t1"]), tuple(r["behaviours"])) for r in mine.to_dict("records")],
                example_scores=np.array([table.loc[id_, f"score_{n}"] for n in names], np.float32),
                token_classes=token_classes(example.text, example.offsets),
                preview=str(table.loc[id_, "preview"]),
            )
        )
    return views
