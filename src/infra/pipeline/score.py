"""`infra score`: attribute an existing model without any training.

Either from queries (correct responses; curvature and directions are made here), or with the directions of an
earlier run, for new candidate data and the same model.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from infra.errors import ArtifactError, ModelError
from infra.models import model_hash, tokenizer_hash
from infra.parallel.world import together
from infra.pipeline import attribute, data, page, spans, targets
from infra.pipeline import queries as per_query
from infra.pipeline.effects import attribution_tables, run_effects
from infra.pipeline.experiment import write_results
from infra.pipeline.recipe import Recipe, apply_change, parse_recipe
from infra.pipeline.runner import Context, Stage, follow
from infra.store import RunFolder, link, read_json, sha256_path, write_json, write_text


def score_recipe(train: str, queries: str | None, changes: Sequence[str] = (), **settings: Any) -> Recipe:
    """A recipe for scoring: one training file, one file of queries (the training file itself when none is needed).

    ``changes`` as in :func:`infra.pipeline.recipe.load_recipe`.
    """
    raw = {
        "name": "score",
        "question": "Which training examples, steps and tokens raise the likelihood of these responses?",
        **settings,
        "data": {"sources": [{"path": train}], "queries": [{"path": queries or train}], **settings.pop("data", {})},
    }
    for change in changes:
        apply_change(raw, change)
    return parse_recipe(raw, where="infra score", folder=Path.cwd())


def score_stages(recipe: Recipe, folder: Path, directions: Path | None) -> list[Stage]:
    """The stages of `infra score`, in order."""
    path = recipe.model.base
    dumped = recipe.model_dump(mode="json", by_alias=True)

    def settings(*names: str) -> dict[str, Any]:
        return {n: dumped[n] for n in names}

    files = [s.path for s in (*recipe.data.sources, *recipe.data.queries)]
    inputs = {f: found for f in files if (found := sha256_path(Path(f))) is not None}
    model_input = {"model": model_hash(path), "tokenizer": tokenizer_hash(path)}  # nothing is generated here
    encoding = {"encoding": [recipe.data.max_length, recipe.data.on_error, recipe.model.dtype, recipe.model.device]}
    shards = {"shards": [recipe.scores.shard_tokens, recipe.scores.max_tokens]}
    stages = [Stage("records", partial(data.make_records, recipe=recipe), (), settings("data"), inputs)]
    if directions is None:
        stages += [
            Stage(
                "targets", partial(targets.run_query_targets, recipe=recipe), (), settings("data", "targets"), inputs
            ),
            Stage(
                "curvature",
                partial(attribute.run_curvature, recipe=recipe, model_path=path),
                ("records",),
                {**settings("curvature", "seed", "threads", "model"), **encoding, **shards},
                model_input,
                parallel=True,
            ),
            Stage(
                "directions",
                partial(attribute.run_directions, recipe=recipe, model_path=path),
                ("records", "targets", "curvature"),
                {**settings("targets", "curvature", "threads"), **encoding, **shards},
                model_input,
                parallel=True,
            ),
        ]
    else:
        stages.append(
            Stage(
                "directions",
                partial(borrow_directions, source=directions),
                (),
                {},
                {**model_input, "directions": _digest(directions)},
            )
        )
    if directions is None and recipe.scores.query_top:
        stages.append(
            Stage(
                "queries",
                partial(per_query.run_queries, recipe=recipe, model_path=path),
                ("records", "targets", "curvature"),
                {**settings("targets", "curvature", "scores", "seed", "threads"), **encoding},
                model_input,
            )
        )
    stages += [
        Stage(
            "scores",
            partial(attribute.run_scores, recipe=recipe, model_path=path),
            ("records", "directions"),
            {**settings("scores", "threads"), **encoding},
            model_input,
            parallel=True,
        ),
        Stage(
            "spans",
            partial(spans.run_spans, recipe=recipe, model_path=path),
            ("records", "directions", "scores"),
            {**settings("scores", "seed", "threads"), **encoding},
            model_input,
        ),
        Stage(
            "effects",
            partial(run_effects, recipe=recipe),
            ("directions", "scores", "spans"),
            settings("effects", "seed", "arms"),
        ),
        Stage(
            "results",
            partial(run_score_results, recipe=recipe),
            ("records", "directions", "scores", "spans", "effects"),
            settings("name", "quick", "seed"),
        ),
        Stage(
            "report",
            partial(page.run_report, recipe=recipe, model_path=path),
            ("records", "scores", "spans", "results"),
            {**settings("report", "name", "quick", "question"), **encoding},
            model_input,
        ),
    ]
    return stages


def _digest(run: Path) -> str:
    manifest = RunFolder(run).verify("directions")
    if manifest is None:
        raise ArtifactError(
            f"{run} has no finished stage 'directions'; give the folder of an `infra run` or `infra score`"
        )
    return manifest.digest


def borrow_directions(context: Context, source: Path) -> None:
    """Link (or copy) an earlier run's directions into this one, with its table of targets."""
    for file in sorted((source / "directions").iterdir()):
        if file.name != "manifest.json":
            link(file, context.out / file.name)
    shutil.copy2(source / "targets" / "targets.json", context.out / "summary.json")


def check_same_model(model: str, run: Path) -> None:
    """Refuse directions that were made for other weights. Raises ModelError."""
    expected = str(read_json(run / "directions" / "directions.json").get("model_hash"))
    got = model_hash(model)
    if expected != got:
        raise ModelError(
            f"the directions in {run} were made for a model with hash {expected[:12]}, and {model} has {got[:12]}; "
            "score with the model they were made for, or make new directions with --queries"
        )


def run_score_results(context: Context, recipe: Recipe) -> None:
    """Tables of a scoring run: effects, spans, targets, top examples."""
    made_here = context.dep("targets") / "targets.json"
    summary = made_here if made_here.exists() else context.dep("directions") / "summary.json"
    tables = {**attribution_tables(context), "targets": pd.DataFrame(read_json(summary))}
    write_results(context, recipe, tables, {})


def run_score(recipe: Recipe, folder: Path, directions: Path | None) -> Path:
    """Score ``recipe``'s training file. Returns the report's path."""
    from infra.pipeline import prepare, run_logged, summary

    prepare(recipe)
    if directions is not None:
        check_same_model(recipe.model.base, directions)
    run = RunFolder(folder)
    with together(recipe.model.device) as here:
        if not here.first:
            follow(score_stages(recipe, folder, directions), run)
            return folder / "report.html"
        with run.lock():
            write_json(folder / "recipe.json", recipe.model_dump(mode="json", by_alias=True))
            stages = score_stages(recipe, folder, directions)
            run_logged(stages, run, recipe)
            write_text(folder / "report.html", (run.path("report") / "report.html").read_text(encoding="utf-8"))
            write_json(folder / "summary.json", summary(run, stages))
    return folder / "report.html"
