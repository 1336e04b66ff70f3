"""Step `report`: the page, from the artifacts of this run and nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from infra.data import TokenizedFile
from infra.pipeline.attribute import token_targets_of
from infra.pipeline.data import load_records
from infra.pipeline.marked import classes_of
from infra.pipeline.stage import Context
from infra.pipeline.step import Step
from infra.report import ExampleView, ReportData, render_report
from infra.store import read_json


def run_report(context: Context) -> None:
    """Write report.html."""
    recipe = context.recipe
    results = read_json(context.results)
    tables = {p.stem: pd.read_parquet(p) for p in context.tables}
    dropped = read_json(context.dropped)
    results["settings"] = {
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "leaks": dropped["leaks"][:200],
        "skipped": dropped["skipped"][:200],
    }
    scores = pd.read_parquet(context.example_scores)
    data = ReportData(
        title=recipe.name,
        quick=recipe.quick,
        notes=[results.pop("validation")] if "validation" in results else [],
        results=results,
        tables=tables,
        figures={},
        examples=example_views(context),
        scores=scores[scores.set == "train"],
    )
    render_report(data, context.report)


def example_views(context: Context) -> list[ExampleView]:
    """The most helpful, least helpful and some random training examples with their token scores and steps."""
    recipe = context.recipe
    table = pd.read_parquet(context.example_scores)
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
    records = {r.id: r for r in load_records(context.records("train")) if r.id in chosen}
    examples = TokenizedFile.open(context.tokenized("train")).select(wanted)
    scores: dict[str, dict[str, np.ndarray]] = {}
    kinds = [f"{kind}_{name}" for kind in ("loss", "position") for name in names]
    for path in context.token_files("train"):
        columns = [c for c in kinds if c in pq.read_schema(path).names]
        for row in pq.read_table(path, columns=["id", *columns], filters=[("id", "in", wanted)]).to_pylist():
            scores[row["id"]] = {k: np.asarray(row[k], np.float32) for k in columns}
    steps = pd.read_parquet(context.step_scores, filters=[("id", "in", wanted), ("set", "==", "train")])
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
                token_classes=classes_of(example),
                preview=str(table.loc[id_, "preview"]),
            )
        )
    return views


REPORT = Step(
    "report",
    run_report,
    reads=("records", "tokenized", "scores", "spans", "results"),
    settings=("*",),  # the page shows the whole recipe
)
