"""The user's cache of models that Infra has made into ordinary folders: unpacked GGUF files, merged adapters.

It lies in ``$INFRA_CACHE``, else in ``$XDG_CACHE_HOME/infra``, else in ``~/.cache/infra``. A folder appears there whole
or not at all, with ``infra_source.json`` beside the weights: what it was made from. Every folder may be deleted; it is
made again when it is asked for.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from infra.errors import ArtifactError, ResourceError
from infra.store import out_of_space, read_json, write_json

SOURCE = "infra_source.json"
Source = Mapping[str, object]


def cache_folder() -> Path:
    """Where models made by Infra are kept; the folder need not exist."""
    own, shared = os.environ.get("INFRA_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else (Path(shared) if shared else Path("~/.cache")) / "infra"
    return root.expanduser() / "models"


def found(name: str, source: Source) -> Path | None:
    """The finished folder ``name``, if it is there and was made from ``source``."""
    folder = cache_folder() / name
    try:
        return folder if read_json(folder / SOURCE) == dict(source) else None
    except ArtifactError:
        return None


def kept(name: str, source: Source, make: Callable[[Path], None]) -> Path:
    """The folder ``name`` made from ``source``: the one in the cache, else a new one that ``make`` fills.

    Of several processes one makes it and the others wait. A folder of another source under the same name is replaced.
    Raises :class:`ResourceError` where the cache cannot be written to or the disk is full.
    """
    folder = cache_folder() / name
    if (here := found(name, source)) is not None:
        return here
    unfinished = folder.with_name(f".{name}.unfinished")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            if (here := found(name, source)) is not None:
                return here
            shutil.rmtree(unfinished, ignore_errors=True)  # of a command that was killed
            unfinished.mkdir()
            make(unfinished)
            write_json(unfinished / SOURCE, dict(source))
            if folder.exists():
                shutil.rmtree(folder)
            unfinished.rename(folder)
    except Exception as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        full = out_of_space(error, folder)
        if full is None and isinstance(error, OSError):
            full = ResourceError(
                f"the cache of models {folder.parent} cannot be written to ({error.strerror or error}); set "
                "INFRA_CACHE to a folder of yours"
            )
        raise full or error from error
    return folder


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Exclusive right to make ``folder``; the kernel frees it when the process dies."""
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is making {folder.name}; waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
