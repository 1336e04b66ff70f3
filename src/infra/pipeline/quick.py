"""`infra run RECIPE --quick`: the recipe's own job on a sliver of its data, to see that every stage works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.pipeline.recipe import Recipe

SMALLEST: dict[str, int] = {
    "seeds": 1,
    "data.limit": 24,
    "targets.samples": 2,
    "targets.folds": 2,
    "targets.minimum": 5,
    "scores.span_examples": 24,
    "scores.delete_examples": 4,
    "scores.queries": 8,
    "effects.bootstrap": 200,
    "report.examples": 8,
}
"""What a quick run takes at most of each."""
PROBLEMS = 12
"""Problems of each part of a task that a quick run asks at most."""
ARMS = ("flip", "same-difficulty-swap")
"""The arms of the primary contrast; a quick run trains no other."""


def quick_changes(recipe: Recipe, asked: Sequence[str] = ()) -> list[str]:
    """The changes, as ``--set`` takes them, that make a recipe small; what is smaller already stays.

    Model, sources, tasks, tracked weights, method and SFT stay the recipe's. So does every key that one of the changes
    in ``asked`` (``key=value``) names: the user's word counts.
    """
    small: dict[str, Any] = {"name": f"{recipe.name}-quick", "quick": "true", "validation": "null"}
    for key, most in SMALLEST.items():
        now = _value(recipe, key)
        small[key] = most if now is None else min(now, most)
    for i, task in enumerate(recipe.tasks):
        small[f"tasks.{i}.limit"] = PROBLEMS if task.limit is None else min(task.limit, PROBLEMS)
    small["arms.names"] = f"[{', '.join(name for name in recipe.arms.names if name in ARMS)}]"
    small["arms.token_matched"] = "false"  # a swap of a handful of records cannot keep the tokens within 1%
    small["strategies.names"] = "[]"
    own = {change.partition("=")[0].strip() for change in asked}
    return [f"{key}={value}" for key, value in small.items() if key not in own]


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    return value
