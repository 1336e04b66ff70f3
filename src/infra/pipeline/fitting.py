"""What the attributing stages decide and say before they start: how much data, which eigenvalues, what it will cost."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from infra.data import TokenizedExample
from infra.influence import (
    Agreement,
    Damping,
    Engine,
    FitSettings,
    agreeing_sample,
    choose_eigenvalues,
    estimate,
    matmul_speed,
)
from infra.influence.engine.engine import Eigenvalues
from infra.influence.estimate import Estimate
from infra.influence.fit import subsample_draw
from infra.influence.steps.settings import ModelSettings, engine_of
from infra.parallel.launch import Runtime
from infra.parallel.shards import Shards
from infra.parallel.world import share, world
from infra.pipeline.recipe import Recipe
from infra.progress import say

AUTO_FROM = 1024
"""Examples from which on it pays to find out how many are enough."""
CEILING = 4096
"""Most examples that are tried: they are in memory together."""


@dataclass(frozen=True)
class Decision:
    """``below``: examples whose draw lies below it are used. The rest is for the record, as in ``FitInfo``."""

    below: float
    eigenvalues: Eigenvalues
    agreement: tuple[tuple[int, float], ...] = ()
    per_token_check: tuple[float, float] | None = None


def damping_of(recipe: Recipe) -> Damping:
    """The recipe's damping as one value; none for the plain gradient, whose curvature is 1."""
    if recipe.method == "gradient":
        return Damping(0.0, "absolute")
    return Damping(recipe.curvature.damping, recipe.curvature.damping_scale)


def decide(
    recipe: Recipe, examples: Iterable[TokenizedExample], model: ModelSettings, root: Path, runtime: Runtime
) -> Decision:
    """Settle ``curvature.fraction`` and ``curvature.eigenvalues`` where they are 'auto'; same answer on every process.

    'auto' means everything and ``per_sequence`` for methods other than EK-FAC, under 1,024 examples, and for a
    model that is sharded over processes. Otherwise up to a quarter of the data is tried, for as long as the halves of
    the sample do not agree; if they never do, everything is used.
    """
    c = recipe.curvature
    below = 1.0 if c.fraction == "auto" else c.fraction
    plain = Decision(below, "per_sequence" if c.eigenvalues == "auto" else c.eigenvalues)
    if recipe.method != "ekfac" or runtime.fsdp or "auto" not in (c.fraction, c.eigenvalues):
        return plain
    found: Decision | None = None
    if world().first:
        sample, count = _smallest_draws(examples, recipe.seed)
        if count >= AUTO_FROM:
            found = _decided(recipe, plain, sample[: min(CEILING, count // 4)], engine_of(model, root, runtime))
    return cast(Decision | None, share(found)) or plain


def _decided(recipe: Recipe, plain: Decision, sample: list[TokenizedExample], engine: Engine) -> Decision:
    c = recipe.curvature
    settings = FitSettings("ekfac", c.fisher, recipe.seed, "per_sequence", c.include_prompt, c.block_size)
    if c.fraction != "auto":
        settings, check = choose_eigenvalues(engine, sample, settings)
        return Decision(plain.below, settings.eigenvalues, (), check)
    wanted = Agreement(damping=damping_of(recipe))
    found = agreeing_sample(engine, sample, settings, c.eigenvalues, wanted)
    enough, n = found.reached, len(found.examples)
    what = "which is enough" if enough else "so all are used"
    say(f"curvature: the halves of {n:,} examples agree to {found.rounds[-1][1]:.5f}, {what}")
    last = subsample_draw(recipe.seed, sample[n - 1])
    below = math.nextafter(last, 2.0) if enough else 1.0
    return Decision(below, found.settings.eigenvalues, found.rounds, found.per_token_check)


def _smallest_draws(examples: Iterable[TokenizedExample], seed: int) -> tuple[list[TokenizedExample], int]:
    """The examples with the smallest draws, in that order, at most :data:`CEILING`; and how many there are in all."""
    count = 0

    def drawn() -> Iterable[tuple[float, int, TokenizedExample]]:
        nonlocal count
        for count, example in enumerate(examples, 1):
            yield subsample_draw(seed, example), count, example

    return [e for _, _, e in heapq.nsmallest(CEILING, drawn())], count


def announce(
    label: str,
    job: str,
    model: ModelSettings,
    data: Shards,
    root: Path,
    runtime: Runtime,
    directions: int = 1,
    block_size: int | None = None,
) -> None:
    """Say what share of the model is tracked, and what ``job`` will take, before it starts."""
    if not world().first or runtime.fsdp:
        return
    engine = engine_of(model, root, runtime)
    total: Estimate | None = None
    for examples in data:
        part = estimate(job, engine.model, examples, engine.tracked, directions, model.max_tokens, block_size)
        total = part if total is None else total.then(part)
    if total is not None:
        minutes = total.seconds(matmul_speed(engine.model)) / 60 / world().size
        say(f"{label}: {engine.tracked}")
        say(f"{label}: {total}; {minutes:.1f} min or more at the speed of a matrix product here")
