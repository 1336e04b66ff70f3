"""`infra score`: attribute an existing model without any training.

Either from queries (correct responses; curvature and directions are made here), or with the directions of an
earlier run, for new candidate data and the same model. The graph of steps is that of `infra run`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.errors import ModelError
from infra.layout import Run
from infra.models import model_hash
from infra.pipeline.recipe import Recipe, apply_change, parse_recipe
from infra.pipeline.stage import Stage
from infra.store import read_json


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


def score_stages(recipe: Recipe, directions: Path | None) -> list[Stage]:
    """The stages of `infra score`, in order. Raises ArtifactError for a run without finished directions."""
    from infra.pipeline import graph

    return graph.stages_for(graph.job_of_score(recipe, directions))


def check_same_model(model: str, run: Path) -> None:
    """Refuse directions that were made for other weights. Raises ModelError."""
    expected = str(read_json(Run(run).method_index).get("model_hash"))
    got = model_hash(model)
    if expected != got:
        raise ModelError(
            f"the directions in {run} were made for a model with hash {expected[:12]}, and {model} has {got[:12]}; "
            "score with the model they were made for, or make new directions with --queries"
        )


def run_score(recipe: Recipe, folder: Path, directions: Path | None) -> Path:
    """Score ``recipe``'s training file. Returns the report's path."""
    from infra.pipeline import prepare, run_job

    prepare(recipe)
    if directions is not None and recipe.warmup is None:
        check_same_model(recipe.model.base, directions)
    return run_job(recipe, folder, lambda: score_stages(recipe, directions))
