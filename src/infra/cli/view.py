"""`infra view`: explore a run in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli._common import ADVANCED


def view(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    compare: Annotated[Path | None, typer.Option(help="A second run to compare with.", show_default=False)] = None,
    host: Annotated[
        str,
        typer.Option(rich_help_panel=ADVANCED, help="Address to bind; anything but localhost is open to the network."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the address.")] = 7860,
) -> None:
    """Explore a run of any size in the browser: filter, search, sort, coloured tokens."""
    from infra.report import serve

    serve(run, host, port, compare)
