"""A run of the whole loop small enough for a test: real stages on a sliver of the embedded world."""

from pathlib import Path

import pytest

from infra.pipeline import stages_of
from infra.pipeline.recipe import Recipe, parse_recipe
from infra.pipeline.stage import Context
from tests.shared import made_once

MINI = {
    "name": "mini",
    "quick": True,
    "jobs": 2,
    "threads": 1,
    "seeds": 1,
    "data": {"world": "default", "limit": 30},
    "tasks": [
        {"name": "world-math", "target": "math", "limit": 24},
        {"name": "world-code", "target": "code", "limit": 24},
    ],
    "sft": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 16},
    "eval": {"max_new_tokens": 120},
    "targets": {"folds": 2, "minimum": 2, "samples": 4},
    "scores": {"span_examples": 12},
    "effects": {"bootstrap": 20},
    "arms": {"names": ["flip", "same-difficulty-swap"], "fraction": 0.1, "token_matched": False},
    "report": {"examples": 6},
}


def context_of(name: str, recipe: Recipe, out: Path, run: Path) -> Context:
    """What a step of a recipe would see if it wrote to ``out`` in the run folder ``run``."""
    return Context(next(s for s in stages_of(recipe, run) if s.name == name), out, run)


def mini(**changes) -> Recipe:
    return parse_recipe({**MINI, **changes}, where="mini", folder=Path("."))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of an undisturbed mini run."""
    from infra.pipeline import run_recipe

    return made_once(tmp_path_factory, "mini", lambda folder: run_recipe(mini(), folder))
