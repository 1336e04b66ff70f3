"""How many tokens go into a batch, where the recipe does not say: as many as keep the processor busy and fit.

The choice is made once, before the first stage of a run, and kept in the run's folder (``batches.json``): results
depend on it to rounding, so a run that goes on later, with other memory free, goes on with the same batches. It is then
a setting like any other: in ``recipe.json``, and in the keys of the stages.

A batch that still does not fit is halved where it runs (:mod:`infra.influence.engine.batches`,
:mod:`infra.train.trainer`, :mod:`infra.models.generation`), which says so and goes on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from infra.layout import Run
from infra.pipeline.plan.costs import Costs
from infra.pipeline.recipe import Recipe
from infra.progress import say
from infra.store import read_json, write_json

SETTINGS = {"scores": "max_tokens", "sft": "max_tokens_per_microbatch"}
"""Section of the recipe -> its setting."""
STAGES = {
    "scores": ("convergence", "curvature", "directions", "scores", "spans", "queries", "links"),
    "sft": ("base", "sft"),
}
"""Section -> the stages (or families of them) whose batches it sets."""
SHARE = 0.8
"""Share of the free memory that is planned with."""
LEAST = 64
BUSY_FLOPS = 5e11
"""Operations of a batch beyond which a CPU gains nothing from a larger one: some seconds of work, against tens of
milliseconds of Python and one walk over the sums."""
BUSY_TOKENS = 1024
"""Tokens from which on a CPU's matrix products are as fast as they get."""


def with_recorded(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the batches that were chosen for this run folder, where it does not set its own."""
    path = Run(folder).batches
    return _with(recipe, read_json(path)["tokens"]) if path.exists() else recipe


def settle(costs: Costs | None, recipe: Recipe, folder: Path, free: float, trains: bool) -> Recipe:
    """The recipe with every batch size settled. What is chosen now is said, and written into ``folder``.

    Args:
        costs: of the recipe's stages; None where the model's shape is not known, and the defaults stay.
        recipe: what was asked for.
        folder: of the run.
        free: bytes of memory that are free on the model's device, before the model is loaded.
        trains: whether the job fine-tunes.
    """
    path = Run(folder).batches
    if costs is None or path.exists():
        return with_recorded(recipe, folder)
    asked = [s for s in ("scores", "sft") if s == "scores" or trains]
    tokens = {s: chosen(costs, s, SHARE * free) for s in asked if not _is_set(recipe, s)}
    if not tokens:
        return recipe
    write_json(path, {"tokens": tokens})
    told = ", ".join(f"{n:,} tokens ({s}.{SETTINGS[s]})" for s, n in tokens.items())
    say(f"batches of {told}: chosen for {free / 2**30:.1f} GiB of free memory and kept for this run")
    return _with(recipe, tokens)


def chosen(costs: Costs, section: str, room: float) -> int:
    """Tokens of a batch: the setting's default, halved until they are no more than keep the processor busy and the
    fullest stage takes at most ``room`` bytes beside one direction."""
    tokens: int = getattr(getattr(costs.recipe, section), SETTINGS[section])
    least = max(LEAST, round(costs.amounts.length))
    while tokens // 2 >= least and (tokens // 2 >= enough(costs) or peak(costs, section, tokens) > room):
        tokens //= 2
    return tokens


def enough(costs: Costs) -> float:
    """Tokens of a batch beyond which larger ones save no time."""
    if costs.recipe.model.device != "cpu":
        return float("inf")
    return max(float(BUSY_TOKENS), BUSY_FLOPS / costs.passes.visit(costs.amounts.length, costs.amounts.response))


def peak(costs: Costs, section: str, tokens: int) -> float:
    """Bytes of the fullest stage of a section with so many tokens a batch. Directions are counted once: as many as fit
    are taken at a time."""
    recipe = _with(costs.recipe, {section: tokens}, always=True)
    small = replace(costs, recipe=recipe, amounts=replace(costs.amounts, folds=1))
    names = [n for n in small.names if n.split("/")[0] in STAGES[section]]
    return max((sum(small.stage(n).memory.values()) for n in names), default=0.0)


def _is_set(recipe: Recipe, section: str) -> bool:
    return SETTINGS[section] in getattr(recipe, section).model_fields_set


def _with(recipe: Recipe, tokens: dict[str, int], always: bool = False) -> Recipe:
    changed = {
        section: getattr(recipe, section).model_copy(update={SETTINGS[section]: number})
        for section, number in tokens.items()
        if always or not _is_set(recipe, section)
    }
    return recipe.model_copy(update=changed)
