"""A user's own method, benchmark or data adapter: named as an object in a file, or by an entry point of a package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from infra.errors import InputError


def is_in_file(name: str) -> bool:
    """Whether a name is of the form ``path/to/file.py:NAME``."""
    return ".py:" in name


def from_file(name: str, what: str) -> Any:
    """The object ``path/to/file.py:NAME``; ``what`` it is (a method, a benchmark) stands in the messages.

    The file is imported once. Raises :class:`InputError` for a file that is missing or cannot be imported, and for a
    name that it does not define, listing those it does.
    """
    place, _, wanted = name.rpartition(":")
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise InputError(f"{what} {name!r}: there is no file {path}")
    try:
        module = _imported(path)
    except Exception as error:
        raise InputError(f"{what} {name!r}: {path} cannot be imported ({type(error).__name__}: {error})") from error
    if not hasattr(module, wanted):
        own = [n for n, value in vars(module).items() if not n.startswith("_") and not isinstance(value, ModuleType)]
        there = ", ".join(own) or "nothing"
        raise InputError(f"{what} {name!r}: {path} does not define {wanted!r}; it defines {there}")
    return getattr(module, wanted)


def file_of(name: str) -> str | None:
    """The file of a name of that form, else None: what a result depends on besides the name."""
    return name.rpartition(":")[0] if is_in_file(name) else None


def label_of(name: str) -> str:
    """What a name is called in file names: the object's own name where it lies in a file."""
    return name.rpartition(":")[2] if is_in_file(name) else name


def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of installed packages in a group such as ``infra.benchmarks``, by name."""
    return {entry.name: entry for entry in entry_points(group=group)}


def users_own(name: str, what: str, group: str, known: Iterable[str]) -> Any:
    """The object that a name outside Infra stands for: ``path/to/file.py:NAME``, or an entry point of ``group``.

    ``what`` it is stands in the messages, and so do the names that are ``known`` here. Raises :class:`InputError` for a
    name that is neither, and as :func:`from_file`.
    """
    if is_in_file(name):
        return from_file(name, what)
    added = installed(group)
    if name not in added:
        raise InputError(
            f"{what} {name!r} is not known; use one of {', '.join([*known, *added])}, or name one in a file of yours "
            "as path/to/file.py:NAME"
        )
    return added[name].load()


@lru_cache(maxsize=64)
def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"infra_plugin_{path.stem}_{abs(hash(path))}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module
