"""`infra data`: what is in a data set, and a clean copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli._common import ADVANCED
from infra.errors import InputError


def data(
    file: Annotated[str, typer.Argument(help="File, folder or hub id.")],
    schema: Annotated[str, typer.Option(rich_help_panel=ADVANCED, help="An adapter's name; auto detects it.")] = "auto",
    benchmarks: Annotated[str, typer.Option(help="Look for leaks into these: gsm8k=FILE,math500=FILE.")] = "",
    figure: Annotated[Path | None, typer.Option(help="Write a figure: .svg, .pdf or .png.", show_default=False)] = None,
    on_error: Annotated[
        str, typer.Option(rich_help_panel=ADVANCED, help="raise, or skip: pass over bad rows and list them.")
    ] = "raise",
    limit: Annotated[int | None, typer.Option(min=1, help="First N records.", show_default=False)] = None,
    ngram: Annotated[int, typer.Option(min=3, rich_help_panel=ADVANCED, help="Words in a row that make a leak.")] = 13,
    drop_leaks: Annotated[bool, typer.Option("--drop-leaks", help="Leave leaking records out of --out.")] = False,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Leave whole copies out of --out (same question and response).")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the records: .parquet or .jsonl.", show_default=False)] = None,
) -> None:
    """Show a data set: counts, lengths, attributes, duplicates, and leaks into benchmarks; and clean it."""
    from infra.pipeline.standalone import describe_data, write_clean

    if (drop_leaks or drop_duplicates) and out is None:
        raise InputError("--drop-leaks and --drop-duplicates need --out FILE to write what is left")
    if drop_leaks and not benchmarks:
        raise InputError("--drop-leaks needs --benchmarks, such as gsm8k=FILE,math500=FILE")
    records, summary = describe_data(
        file, schema, [b for b in benchmarks.split(",") if b], figure, on_error, limit, ngram
    )
    if out is not None:
        write_clean(records, summary, out, leaks=drop_leaks, duplicates=drop_duplicates)
