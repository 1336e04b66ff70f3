"""A run folder from somebody else is data: nothing in it may lead the explorer to files outside it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import duckdb

from infra.errors import ArtifactError
from infra.models.cache import cache_folder


def refuse_links_out(root: Path) -> None:
    """Raise :class:`ArtifactError` naming the first link in a run folder that leads out of it, or in circles."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            inside(root, Path(folder) / name)


def inside(root: Path, file: Path) -> Path:
    """``file``, unless it or a folder above it is a link out of ``root``. Raises :class:`ArtifactError` then."""
    try:
        target = file.resolve()
        if target.is_relative_to(root.resolve()):
            return file
    except (OSError, RuntimeError) as error:  # a link to itself
        raise ArtifactError(f"{file} is a link in a circle; remove it and open the run again") from error
    raise ArtifactError(
        f"{file} leads out of the run folder {root}, to {target}; put the file itself there, or remove the link, and "
        "open the run again"
    )


def index_database(root: Path, fingerprint: str) -> duckdb.DuckDBPyConnection:
    """The index of one state of a run, in the user's own cache; in memory where that cannot be written to.

    An index that lies in the run folder is never opened: its views could read any file of the user's. The connection
    itself reads files of the run folder alone, and loads no extension. Indexes of the run's earlier states are deleted.
    """
    place = cache_folder().parent / "explorer"
    run = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    name = f"{run}-{fingerprint}.duckdb"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.stat().st_uid != os.getuid():
            return locked(duckdb.connect(":memory:"), root)
        for old in place.glob(f"{run}-*.duckdb"):
            if old.name != name:
                old.unlink(missing_ok=True)
        return locked(duckdb.connect(str(place / name)), root)
    except (OSError, duckdb.Error):
        return locked(duckdb.connect(":memory:"), root)


def locked(database: duckdb.DuckDBPyConnection, root: Path) -> duckdb.DuckDBPyConnection:
    """The connection with no access but to files of ``root``, for good."""
    folders = ", ".join("'" + str(f).replace("'", "''") + "'" for f in {root.absolute(), root.resolve()})
    database.execute(f"SET allowed_directories = [{folders}]")
    database.execute("SET autoinstall_known_extensions = false")
    database.execute("SET autoload_known_extensions = false")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    return database
