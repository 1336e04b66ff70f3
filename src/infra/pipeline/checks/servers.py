"""Checks of what is asked over the network. ``--offline`` leaves them out."""

from __future__ import annotations

from collections.abc import Iterator

from infra.errors import InfraError
from infra.models.generation import answers_at
from infra.pipeline.checks.subject import Subject


def servers(subject: Subject) -> Iterator[InfraError]:
    """Judges, and the server that answers for the base model, can be reached."""
    if subject.offline:
        return
    recipe = subject.recipe
    asked = []
    if recipe.data.judge is not None and "judge" in recipe.data.difficulty.values():
        asked.append(("data.judge", recipe.data.judge.server))
    if recipe.scores.judge is not None:
        asked.append(("scores.judge", recipe.scores.judge.server))
    if recipe.eval.server is not None and recipe.tasks:
        asked.append(("eval.server", recipe.eval.server))
    for setting, url in asked:
        try:
            answers_at(url)
        except InfraError as error:
            yield type(error)(f"{setting}: {error}; --offline starts without asking")
