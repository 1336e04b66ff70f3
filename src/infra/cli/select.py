"""`infra select`: from scores to a training file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from infra.cli._common import ADVANCED


def select(
    run: Annotated[Path, typer.Argument(help="Folder of an `infra score` or `infra run`.")],
    keep: Annotated[
        float | None, typer.Option(help="Share of the training records to keep, the best: 0.8.", show_default=False)
    ] = None,
    top: Annotated[int | None, typer.Option(help="The best N training records.", show_default=False)] = None,
    drop_harmful: Annotated[
        bool, typer.Option("--drop-harmful", help="Leave out records whose score is negative with its interval.")
    ] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Keep all, with loss weights by score in the field `weight`.")
    ] = False,
    pool: Annotated[
        int, typer.Option(rich_help_panel=ADVANCED, help="Also the best N of the pool.", show_default=False)
    ] = 0,
    target: Annotated[
        str | None, typer.Option(help="Whose scores count: math, code, ... Default: all, balanced.", show_default=False)
    ] = None,
    by: Annotated[
        Literal["score", "percentile", "per-token"], typer.Option(rich_help_panel=ADVANCED, help="What is ranked.")
    ] = "score",
    balance: Annotated[bool, typer.Option("--balance", help="Every domain keeps its share.")] = False,
    control: Annotated[
        Literal["random", "length"] | None,
        typer.Option(
            help="Also a control that ignores the scores; length: as many response tokens.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(rich_help_panel=ADVANCED, help="Seed of the control.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="File (kept.jsonl) or folder to write. Default: RUN/selected.", show_default=False),
    ] = None,
    messages: Annotated[
        bool,
        typer.Option("--messages", rich_help_panel=ADVANCED, help="Write id and messages, not the data's own format."),
    ] = False,
) -> None:
    """Write the training file that the scores of a run speak for: rows as they were, and why each is in or out."""
    from infra.experiments.selection import SelectSettings, select_records, write_selection

    settings = SelectSettings(keep, top, drop_harmful, weights, pool, target, by, balance, control, seed)
    selected = select_records(run, settings)
    files = write_selection(run, selected, out or run / "selected", messages=messages)
    told = selected.manifest
    for name, paths in (("kept", files.kept), ("control", files.control)):
        if paths:
            size, scored = told[name], told["scored"]
            counts = f"{size['records']:,} records, {size['response_tokens']:,} response tokens"
            print(f"{name}: {', '.join(map(str, paths))} ({counts}; scored: {scored['records']:,} records)")
    print(f"why each row is in or out: {files.manifest}")
