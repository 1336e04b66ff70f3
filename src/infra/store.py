"""Artifacts: written once, by rename, with the hash of everything that went in and came out.

A run folder holds one folder per stage. A stage works in ``<stage>.part``; when it is done a ``manifest.json``
is written into it and the folder is renamed to ``<stage>``. So a stage folder either is complete or does not
exist. The manifest's ``key`` hashes the stage's name, its settings and the digests of its inputs: the same key
means the same result, and the stage is skipped. A ``.part`` folder of the same key is handed back to the stage,
which may go on from what lies there.

Times, memory and host facts go to ``runtime.jsonl`` beside the stages, outside every hash.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from infra.errors import ArtifactError, InfraError, ResourceError

MANIFEST = "manifest.json"
SEALS = ".seals"
FORMAT = 1

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "os error 28",
    "os error 122",
    "os error 27",
    " requested and ",
    "PytorchStreamWriter failed",
)
"""How numpy, safetensors, tokenizers, Arrow and torch say it, each in an exception of its own."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def sha256_text(text: str) -> str:
    """Hex SHA-256 of UTF-8 text (lone surrogates pass through)."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    return sha256_text(canonical_json(value))


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_path(path: Path) -> str | None:
    """Hex SHA-256 of a file, or of a folder's files with their names; None where there is neither."""
    if path.is_file():
        return sha256_file(path)
    return sha256_json(sha256_tree(path)) if path.is_dir() else None


def sha256_tree(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file under ``folder`` except the manifest, sorted by path."""
    return {
        p.relative_to(folder).as_posix(): sha256_file(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != MANIFEST
    }


_written = count()
"""Sets apart the temporary files of threads that write to one place."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write; it takes the place of ``path`` when the block ends well.

    The content is on disk before the rename, so that a reader sees the whole old file or the whole new one, also after
    a crash. When the block fails the temporary file is removed and ``path`` stays as it was. A killed process leaves
    ``.<name>.<pid>.<count>.tmp``, which :meth:`RunFolder.lock` and :meth:`RunFolder.writing` clear away.

    Raises ResourceError when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_written)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        full = out_of_space(error, path)
        if full is None:
            raise
        raise full from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically. Non-finite numbers are refused: they are no JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON, or raise :class:`ArtifactError` naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing; run the same command again to make it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read as JSON ({error}); delete it and run again") from error


def link(source: Path, target: Path) -> None:
    """Give a finished file a second name, ``target``: a hard link where the file system has them, else a copy."""
    if target.exists() and target.samefile(source):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def out_of_space(error: BaseException, path: Path) -> ResourceError | None:
    """What to tell the user when ``error``, of whatever library, means that ``path`` could not grow; else None."""
    said = isinstance(error, OSError) and error.errno in _FULL
    if isinstance(error, InfraError) or not (said or any(words in str(error) for words in _FULL_WORDS)):
        return None
    return ResourceError(
        f"no space left on the disk of {path} (or a limit on the size of files); nothing finished was lost: free some "
        "space and run the same command again"
    )


def seal(part: Path, file: Path) -> None:
    """Note the hash of a finished file of a work folder, so that a later command may go on from it."""
    write_text(_seal_of(part, file), sha256_file(file))


def sealed(part: Path, file: Path) -> bool:
    """Whether a file of a work folder is whole, by its seal. One that is not is removed, to be made again."""
    note = _seal_of(part, file)
    if file.is_file() and note.is_file() and note.read_bytes() == sha256_file(file).encode():
        return True
    file.unlink(missing_ok=True)
    return False


def _seal_of(part: Path, file: Path) -> Path:
    return part / SEALS / file.relative_to(part)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished stage says of itself."""

    stage: str
    key: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The hash that later stages name as their input: over outputs only, so equal bytes stay equal."""
        return sha256_json(dict(self.outputs))

    @property
    def consistent(self) -> bool:
        """Whether the key is that of the settings and inputs beside it (false for another version's manifest)."""
        return stage_key(self.stage, self.config, self.inputs) == self.key


def stage_key(stage: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Hash of everything that determines a stage's bytes."""
    from infra import __version__

    return sha256_json([FORMAT, __version__, stage, dict(config), dict(inputs)])


class RunFolder:
    """One run on disk. Holds an advisory lock while a command writes to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, stage: str) -> Path:
        """Folder of a stage, finished or not."""
        return self.root / stage

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Exclusive lock of the run; the kernel frees it when the process dies, so it never goes stale."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = open(self.root / ".lock", "w")  # noqa: SIM115 (held for the block)
        except OSError as error:
            full = out_of_space(error, self.root)
            if full is not None:
                raise full from error
            raise ArtifactError(f"cannot write to {self.root} ({error.strerror}); choose another --out") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.close()
            raise ArtifactError(
                f"another command is writing to {self.root}; wait for it or choose another --out"
            ) from error
        try:
            for left in self.root.glob(".*.tmp"):  # of a command killed between writing and renaming
                left.unlink(missing_ok=True)
            yield
        finally:
            handle.close()

    def is_idle(self) -> bool:
        """Whether no command is writing to the run at this moment."""
        try:
            with open(self.root / ".lock", "r+") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        return True

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of a finished stage, or None when the stage has not finished."""
        path = self.path(stage) / MANIFEST
        if not path.exists():
            return None
        raw = read_json(path)
        if not _is_manifest(raw):
            raise ArtifactError(f"{path} is damaged; delete the folder {path.parent} and run again")
        return Manifest(raw["stage"], raw["key"], raw["config"], raw["inputs"], raw["outputs"])

    def verify(self, stage: str) -> Manifest | None:
        """Like :meth:`manifest`, and every output is hashed against it.

        Raises ArtifactError naming the first file that is missing or differs: a damaged artifact is never used.
        """
        found = self.manifest(stage)
        if found is None:
            return None
        folder = self.path(stage)
        for relative, expected in found.outputs.items():
            file = folder / relative
            try:
                actual = sha256_file(file) if file.is_file() else None
            except (OSError, ValueError) as error:
                raise ArtifactError(
                    f"{folder / MANIFEST} names {relative[:80]!r}, which cannot be read ({error}); delete the folder "
                    f"{folder} to have it made again"
                ) from error
            if actual is None:
                raise ArtifactError(f"{file} is missing; delete the folder {folder} to have it made again")
            if actual != expected:
                raise ArtifactError(
                    f"{file} does not match its manifest (damaged or edited); delete the folder {folder} to have it "
                    "made again"
                )
        return found

    @contextmanager
    def writing(self, stage: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> Iterator[Path]:
        """Yield the stage's work folder and, when the block ends well, promote it.

        A work folder left by a killed command is kept when its key is the same and emptied otherwise.
        """
        key = stage_key(stage, config, inputs)
        final = self.path(stage)
        part = final.with_name(final.name + ".part")
        key_file = part / ".key"
        try:
            if part.exists() and not (key_file.is_file() and key_file.read_bytes() == key.encode()):
                shutil.rmtree(part)
            part.mkdir(parents=True, exist_ok=True)
            for left in part.rglob(".*.tmp"):  # of a command killed in write_text: it must not become an output
                left.unlink()
            key_file.write_text(key)
            yield part
            key_file.unlink(missing_ok=True)
            shutil.rmtree(part / SEALS, ignore_errors=True)
            outputs = sha256_tree(part)
            write_json(
                part / MANIFEST,
                {"stage": stage, "key": key, "config": dict(config), "inputs": dict(inputs), "outputs": outputs},
            )
            stale = final.with_name(final.name + ".stale")
            shutil.rmtree(stale, ignore_errors=True)
            if final.exists():  # made from other inputs: replaced only now that its successor is complete
                os.replace(final, stale)
            os.replace(part, final)
            shutil.rmtree(stale, ignore_errors=True)
        except Exception as error:
            full = out_of_space(error, part)
            if full is None:
                raise
            raise full from error

    def log_runtime(self, entry: Mapping[str, Any]) -> None:
        """Append one line of times and memory, outside every hash."""
        path = self.root / "runtime.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(dict(entry)) + "\n")
        except OSError as error:
            raise out_of_space(error, path) or error from error

    def runtimes(self) -> dict[str, dict[str, Any]]:
        """Stage -> its newest runtime entry. A torn last line (a killed writer) is passed over."""
        path = self.root / "runtime.jsonl"
        found: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    found[entry["stage"]] = entry
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue
        return found


def _is_manifest(raw: Any) -> bool:
    """Whether a JSON value has a manifest's fields, each of its type."""
    return (
        isinstance(raw, dict)
        and all(isinstance(raw.get(name), str) for name in ("stage", "key"))
        and isinstance(raw.get("config"), dict)
        and all(
            isinstance(raw.get(name), dict) and all(isinstance(v, str) for v in raw[name].values())
            for name in ("inputs", "outputs")
        )
    )
