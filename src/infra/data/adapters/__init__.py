"""One adapter per published schema, and their detection.

The registry is ordered: the first adapter whose fields are all present and whose own check accepts the row
wins. To add a schema, write a module with an example row at its head and an ``ADAPTERS`` tuple, and list it
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.data.adapters._adapter import Adapter
from infra.errors import InputError
from infra.plugins import users_own

from infra.data.adapters import (  # isort: skip
    acereason,
    aime,
    apps,
    chat,
    deepmath,
    gsm8k,
    humaneval,
    leetcode,
    limo,
    magicoder,
    math,
    mbpp,
    metamath,
    numinamath,
    openmath,
    openr1,
    openthoughts,
    own,
    pairs,
    s1k,
    stratos,
    svamp,
    synthetic1,
    taco,
)

_ORDER = (
    own,
    openthoughts,
    stratos,
    openr1,
    openmath,
    synthetic1,
    s1k,
    deepmath,
    metamath,
    magicoder,
    taco,
    apps,
    mbpp,
    leetcode,
    humaneval,
    svamp,
    numinamath,
    aime,
    math,
    limo,
    gsm8k,
    acereason,
    chat,
    pairs,
)

GROUP = "infra.adapters"
"""The entry point group in which an installed package names its adapters."""
ADAPTERS: tuple[Adapter, ...] = tuple(adapter for module in _ORDER for adapter in module.ADAPTERS)

__all__ = ["ADAPTERS", "Adapter", "detect", "get_adapter"]


def get_adapter(name: str) -> Adapter:
    """The adapter of a name or alias.

    Args:
        name: a schema's name, ``path/to/file.py:NAME`` for an :class:`Adapter` in a file of your own, or the name of an
            entry point in the group ``infra.adapters``.

    Raises:
        InputError: there is no such adapter; the message lists the names.
    """
    for adapter in ADAPTERS:
        if name == adapter.name or name in adapter.aliases:
            return adapter
    found = users_own(name, "schema", GROUP, ("auto", *(a.name for a in ADAPTERS)))
    if not isinstance(found, Adapter):
        raise InputError(f"schema {name!r} is a {type(found).__name__} and no infra.data.adapters.Adapter")
    return found


def detect(row: Mapping[str, Any]) -> Adapter | None:
    """The first adapter that fits a row.

    Args:
        row: one row of a file, by column.

    Returns:
        The adapter; None where none fits.
    """
    return next((a for a in ADAPTERS if a.fits(row)), None)
