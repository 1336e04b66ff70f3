"""Checks of the output folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from infra.errors import ArtifactError, InfraError
from infra.layout import Run
from infra.pipeline.checks.subject import Subject
from infra.store import MANIFEST

HARMLESS = (".log", ".out", ".err", ".yaml", ".yml")
"""Files that people keep beside a run before it begins."""


def output_folder(subject: Subject) -> Iterator[InfraError]:
    """The run's folder can be written and is nobody else's."""
    yield from folder_problems(subject.folder, is_run)


def is_run(folder: Path) -> bool:
    """Whether a folder was written by `infra run` or `infra score`."""
    return Run(folder).recipe_file.exists() or any(folder.glob(f"*/{MANIFEST}")) or any(folder.glob("*.part/.key"))


def folder_problems(folder: Path, is_ours: object) -> Iterator[InfraError]:
    """What speaks against writing to ``folder``. ``is_ours`` tells whether an earlier command of the kind wrote it."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not there.is_dir():
        yield ArtifactError(f"{folder} cannot be written: {there} is a file; choose another --out")
        return
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        yield ArtifactError(f"{folder} cannot be written ({error.strerror}); choose another --out")
    if folder.is_dir() and callable(is_ours) and not is_ours(folder):
        strange = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and p.suffix not in HARMLESS)
        if strange:
            more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
            yield ArtifactError(
                f"{folder} holds {', '.join(strange[:3])}{more} and is no folder of an earlier run; choose another "
                "--out, such as a new folder inside it"
            )
