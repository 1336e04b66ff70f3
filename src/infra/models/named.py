"""Models that have a name of their own rather than a folder or a hub id."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

_PLACES = {"world": "infra.world:BASE_MODEL"}
"""Name -> module and attribute that holds the folder."""


def is_named_model(where: str | Path) -> bool:
    """Whether this is one of the short names of models.

    Args:
        where: a name or a path. A folder that is spelled like a short name is written ``./name``.
    """
    return str(where) in _PLACES


def model_place(where: str | Path) -> str:
    """The folder of a model with a short name; any other folder or hub id as it is.

    Args:
        where: a short name, a folder or a hub id.
    """
    if not is_named_model(where):
        return str(where)
    module, _, attribute = _PLACES[str(where)].partition(":")
    return str(getattr(import_module(module), attribute))
