"""Data sources that have a name of their own, ``name:variant``, rather than a file or a hub id."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from infra.data.schema import Record

_MAKERS = {"world": "infra.world:records_of"}
"""Name -> module and function from a variant to its records, each marked with its ``split``."""


def is_named_data(where: str | Path) -> bool:
    """Whether this is ``name:variant`` of a known name, such as ``world:default``.

    Args:
        where: a name or a path.
    """
    name, colon, _ = str(where).partition(":")
    return bool(colon) and name in _MAKERS


def named_records(where: str | Path) -> Iterator[Record]:
    """The records of a named source.

    Args:
        where: ``name:variant``, such as ``world:default``.

    Raises:
        InputError: the source does not have that variant.
    """
    name, _, variant = str(where).partition(":")
    module, _, function = _MAKERS[name].partition(":")
    made: Iterator[Record] = getattr(import_module(module), function)(variant)
    return made
