"""What commands share: the recipes at hand, and how Ctrl-C ends a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

ADVANCED = "Advanced options"
"""The panel of help with the options that most calls leave alone."""

OFFLINE = "Before the start ask no server and no hub whether it answers."
"""Help of ``--offline``."""

DEFAULT_RECIPE = Path(__file__).parents[1] / "world" / "default.yaml"
QUICK_RECIPE = Path(__file__).parents[1] / "world" / "quick.yaml"


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the block with one sentence and exit code 130; and it is never silent for long."""
    from infra.progress import alive

    try:
        with alive(" ".join(["infra", *sys.argv[1:2]])):
            yield
    except KeyboardInterrupt:
        print("\nstopped; nothing finished is lost, and the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
