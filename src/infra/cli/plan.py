"""`infra plan`: what a job will need, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli._common import ADVANCED, DEFAULT_RECIPE


def plan(
    recipe: Annotated[
        Path | None, typer.Argument(help="A YAML recipe; without one, the embedded world.", show_default=False)
    ] = None,
    device: Annotated[
        str, typer.Option(help="h100, h200, a100, l40s, cpu (calibrated now), or memory=80e9,flops=400e12,...")
    ] = "cpu",
    devices: Annotated[
        int | None,
        typer.Option(min=1, help="Devices that share each stage; without it, as many as it takes.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="In place of the recipe's: a folder, a known name, or 7.6e9 parameters.", show_default=False),
    ] = None,
    examples: Annotated[int | None, typer.Option(min=1, help="Training examples.", show_default=False)] = None,
    pool: Annotated[
        int | None, typer.Option(min=0, rich_help_panel=ADVANCED, help="Pool examples.", show_default=False)
    ] = None,
    length: Annotated[
        float | None,
        typer.Option(min=1, help="Tokens of an example; beyond data.max_length, that is raised.", show_default=False),
    ] = None,
    queries: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=ADVANCED, help="Target responses.", show_default=False)
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=1, rich_help_panel=ADVANCED, help="Query folds, where their number is known.", show_default=False
        ),
    ] = None,
    score: Annotated[
        bool, typer.Option("--score", help="Plan `infra score`: the model is there, and nothing is trained.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=ADVANCED, help="Compare the plan with this finished run instead.", show_default=False
        ),
    ] = None,
) -> None:
    """Memory, disk, operations and hours of each stage, and settings that fit: before anything is loaded."""
    from infra.cli import _plan_tables as show
    from infra.pipeline import plan as planning
    from infra.pipeline.recipe import load_recipe
    from infra.pipeline.score import score_recipe

    if check is not None:
        show.checked(*planning.check(check, None if device == "cpu" else planning.device_of(device)))
        return
    alone = score and recipe is None
    settings = score_recipe("train.jsonl", None) if alone else load_recipe(recipe or DEFAULT_RECIPE)
    shape = planning.shape_of_recipe(settings, model)
    amounts = planning.amounts_of(settings, examples, pool, length, queries, folds)
    costs = planning.Costs(settings, shape, amounts, trains=not score)
    show.planned(planning.plan(costs, planning.device_named(device, costs), devices))
