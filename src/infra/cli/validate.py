"""`infra validate`: do the scores of a run predict what retraining does?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli._common import ADVANCED, interruptible


def validate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Time budget; the plan is sized to fit it.")] = 30.0,
    subsets: Annotated[int, typer.Option(min=2, rich_help_panel=ADVANCED, help="Random subsets per protocol.")] = 100,
    seeds: Annotated[
        int, typer.Option(min=1, rich_help_panel=ADVANCED, help="Fresh orders and seeds per subset for seed_mean.")
    ] = 3,
    kinds: Annotated[
        str,
        typer.Option(
            rich_help_panel=ADVANCED,
            help="What is removed: half,drop1,token,step_mask,step_delete. Default: what fits.",
        ),
    ] = "",
    methods: Annotated[
        str, typer.Option(help="Compared with the run's own scores; docs/reference/methods.md lists them.")
    ] = "random,length,loss,gradient",
    accuracy: Annotated[
        int,
        typer.Option(
            min=0, rich_help_panel=ADVANCED, help="Held-out problems a task answered after each half-subset retrain."
        ),
    ] = 0,
    compile: Annotated[
        bool,
        typer.Option(
            "--compile", rich_help_panel=ADVANCED, help="Fuse the training passes: for hundreds of retrains; needs g++."
        ),
    ] = False,
) -> None:
    """Check a run's scores by retraining on random subsets (LDS). Writes RUN/validation and the report again."""
    from rich.console import Console
    from rich.table import Table

    from infra.pipeline.recipe import validation_settings
    from infra.pipeline.validity import validate_finished

    settings = validation_settings(
        minutes=minutes,
        subsets=subsets,
        seeds=seeds,
        kinds=kinds.split(",") if kinds else None,
        methods=methods.split(","),
        accuracy_problems=accuracy,
        compile=compile,
        required=True,
    )
    with interruptible():
        found = validate_finished(run, settings)
    table = Table(*map(str, found.columns))
    for row in found.itertuples(index=False):
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row))
    Console().print(table)
