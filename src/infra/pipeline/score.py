"""`infra score`: attribute an existing model without any training.

Either from queries (correct responses; curvature and directions are made here), or with the directions of an
earlier run, for new candidate data and the same model. The graph of steps is that of `infra run`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.pipeline.recipe import Recipe, apply_change, parse_recipe
from infra.pipeline.stage import Stage

if TYPE_CHECKING:
    from infra.pipeline.checks import Subject


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


def score_stages(
    recipe: Recipe, directions: Path | None, folder: Path | None = None, *, fetch: bool = True
) -> list[Stage]:
    """The stages of `infra score`, in order. ``fetch=False`` plans without downloading a model.

    With ``folder`` the batches are those that were chosen for it. Raises ArtifactError for a run without finished
    directions.
    """
    from infra.pipeline import graph, with_settled

    recipe = recipe if folder is None else with_settled(recipe, folder)
    return graph.stages_for(graph.job_of_score(recipe, directions, fetch))


def run_score(recipe: Recipe, folder: Path, directions: Path | None, offline: bool = False) -> Path:
    """Score ``recipe``'s training file. Returns the report's path.

    Everything cheap is checked first (:mod:`infra.pipeline.checks`); ``offline`` asks nothing over the network for it.
    """
    from infra.pipeline import prepare, run_job

    prepare(recipe)
    subject = score_subject(recipe, folder, directions, offline=offline)
    return run_job(subject, lambda: score_stages(recipe, directions, folder))


def score_subject(
    recipe: Recipe, folder: Path, directions: Path | None, *, offline: bool = False, fetch: bool = True
) -> Subject:
    """What `infra score` is about to do, for its checks."""
    from infra.pipeline import with_settled
    from infra.pipeline.checks import Subject
    from infra.pipeline.graph import given_for_score

    recipe = with_settled(recipe, folder)
    return Subject(given_for_score(recipe, directions, fetch), folder, offline)
