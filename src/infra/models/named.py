"""Models that have a name of their own rather than a folder or a hub id."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

_PLACES = {"world": "infra.world:BASE_MODEL"}
"""Name -> module and attribute that holds the folder."""


def is_named_model(where: str | Path) -> bool:
    """Whether it is one of the names; a folder of the same name is written ``./name``."""
    return str(where) in _PLACES


def model_place(where: str | Path) -> str:
    """The folder of a named model; any other folder or hub id as it is."""
    if not is_named_model(where):
        return str(where)
    module, _, attribute = _PLACES[str(where)].partition(":")
    return str(getattr(import_module(module), attribute))
