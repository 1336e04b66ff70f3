"""Rows out of files, one at a time: JSON Lines, JSON, Parquet, gzip of these, folders of these, hub data
sets.

Every row carries the file and the line it came from, so that a bad one can be named. A row that cannot be
parsed is yielded with ``problem`` set; a file that cannot be read at all raises :class:`InputError`.
Memory stays flat in the number of rows (one Parquet batch, one line, or one JSON element at a time).
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from infra.errors import InputError

SUFFIXES = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz", ".ndjson", ".ndjson.gz")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_CHUNK = 1 << 16
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
# apart, because the two as one expression take ten times as long
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE_BYTES = re.compile(rb"\xed[\xa0-\xbf]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: ``line`` counts from 1 (line of a text file, row of a Parquet file, element of a JSON
    array). ``repaired`` is the row with a mark in place of each half character, where these are its only problem."""

    file: str
    line: int
    value: dict[str, Any] | None
    problem: str | None = None
    repaired: dict[str, Any] | None = None


def iter_rows(path_or_id: str | Path, *, split: str = "train") -> Iterator[Row]:
    """Rows of a file, a folder of files, or a hub data set (``hf:org/name[:config]``, or org/name when no
    such path).

    Raises :class:`InputError` when nothing is there, or the file cannot be opened, is empty, or breaks off.
    """
    text = str(path_or_id)
    path = Path(text)
    if text.startswith("hf:"):
        yield from _hub_rows(text[3:], split)
    elif path.is_dir():
        yield from _folder_rows(path, split)
    elif path.is_file():
        yield from _file_rows(path)
    elif is_hub_data(text):
        yield from _hub_rows(text, split)
    else:
        raise InputError(f"{text}: no such file; give a JSONL, JSON or Parquet file (also .gz) or a hub id org/name")


def is_hub_data(path_or_id: str) -> bool:
    """True for ``hf:org/name``, and for ``org/name[:config]`` where there is no such path."""
    path = Path(path_or_id)
    named = _HUB_ID.fullmatch(path_or_id) is not None and not path.exists() and not path.parent.exists()
    return path_or_id.startswith("hf:") or named


def _folder_rows(folder: Path, split: str) -> Iterator[Row]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
    named = [p for p in files if re.split(r"[-_.]", p.name)[0] == split]
    if not files:
        raise InputError(f"{folder}: the folder holds no file ending in {', '.join(SUFFIXES)}")
    for file in named or files:
        yield from _file_rows(file)


def _file_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open("rb", buffering=_CHUNK) as raw:
            head = raw.read(4)
            raw.seek(0)
            if not head:
                raise InputError(f"{path}: the file is empty; it must hold at least one record")
            stream: IO[bytes] = raw
            if head[:2] == b"\x1f\x8b":
                stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
                if stream.read(4) == b"PAR1":
                    stream.seek(0)
                    stream = io.BytesIO(stream.read())
                stream.seek(0)
            yield from _stream_rows(path, stream)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: the gzip stream is damaged or breaks off ({error}); download or write the file again"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its rights"
        ) from error


def _stream_rows(path: Path, stream: IO[bytes]) -> Iterator[Row]:
    head = stream.read(4)
    stream.seek(0)
    if head == b"PAR1":
        return _parquet_rows(path, stream)
    if path.name.endswith((".parquet", ".parquet.gz")):
        raise InputError(f"{path}: not a Parquet file (it does not begin with PAR1); write it again or rename it")
    start = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    stream.seek(0)
    if start[:1] == b"[":
        return _json_array_rows(path, stream)
    return _json_lines_rows(path, stream)


def _parquet_rows(path: Path, stream: IO[bytes]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        line = 0
        for batch in pq.ParquetFile(stream).iter_batches(batch_size=256):
            for value in batch.to_pylist():
                line += 1
                yield Row(str(path), line, value)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: the Parquet file is damaged or cut off ({reason}); write it again") from error


def _json_lines_rows(path: Path, stream: IO[bytes]) -> Iterator[Row]:
    for line, raw in enumerate(stream, start=1):
        if not raw.strip():
            continue
        try:
            value = json.loads(raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw)
        except UnicodeDecodeError as error:
            yield Row(
                str(path),
                line,
                None,
                f"not UTF-8 ({error.reason} at byte {error.start}); convert the file to UTF-8",
            )
            continue
        except (ValueError, RecursionError) as error:
            cut = "; the file breaks off in this line" if not raw.endswith(b"\n") else ""
            yield Row(str(path), line, None, f"not JSON ({_reason(error)}){cut}; mend or remove the line")
            continue
        suspect = _SURROGATE_ESCAPE.search(raw) or (b"\xed" in raw and _SURROGATE_BYTES.search(raw))
        yield _checked(path, line, value, bool(suspect))


def _json_array_rows(path: Path, stream: IO[bytes]) -> Iterator[Row]:
    """Elements of one top-level array, decoded one by one from a buffer that grows until an element fits."""
    reader = io.TextIOWrapper(stream, encoding="utf-8-sig")
    decoder = json.JSONDecoder()
    line, size = 0, _CHUNK
    try:
        buffer = reader.read(size).lstrip()[1:]
        while True:
            buffer = buffer.lstrip()
            if buffer[:1] == "]":
                return
            if line and buffer and buffer[0] != ",":
                raise InputError(
                    f"{path}: after element {line}: ',' or ']' expected, found {buffer[0]!r}; mend the JSON"
                )
            start = len(buffer) - len(buffer[1:].lstrip()) if line else 0
            try:
                value, end = decoder.raw_decode(buffer, start)
            except (ValueError, RecursionError) as error:
                more = reader.read(size)
                if not more:
                    raise InputError(
                        f"{path}: element {line + 1}: not JSON, or the file breaks off here ({_reason(error)}); mend it"
                    ) from error
                buffer, size = buffer + more, size * 2
                continue
            suspect = _SURROGATE.search(buffer, start, end) is not None
            line, size, buffer = line + 1, _CHUNK, buffer[end:]
            yield _checked(path, line, value, suspect)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: after element {line}: not UTF-8 ({error.reason}); convert the file to UTF-8"
        ) from error


def _hub_rows(name: str, split: str) -> Iterator[Row]:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"hf:{name}: reading from the hub needs the extra 'hub'; pip install 'infra-attribution[hub]'"
        ) from error
    repository, _, config = name.partition(":")
    try:
        rows = datasets.load_dataset(repository, config or None, split=split, streaming=True)
        for line, value in enumerate(rows, start=1):
            yield Row(f"hf:{name}", line, dict(value))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"hf:{name}: the hub data set cannot be read ({_reason(error)}); check the id, config, split and network"
        ) from error


def _checked(path: Path, line: int, value: object, suspect: bool) -> Row:
    """The row, if its value is an object and, where its source is suspect, all of its text can be written as UTF-8."""
    if not isinstance(value, dict):
        problem = f"a JSON object is expected, found {type(value).__name__}; mend or remove the row"
        return Row(str(path), line, None, problem)
    if suspect:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            problem = f"{half} is half a character and no text; mend or remove the row"
            return Row(str(path), line, None, problem, whole_text(value))
    return Row(str(path), line, value)


def whole_text(value: Any) -> Any:
    """A JSON value whose texts can be written as UTF-8: halves of a character joined, lone ones replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list | tuple):
        return [whole_text(v) for v in value]
    if isinstance(value, dict):
        return {whole_text(k): whole_text(v) for k, v in value.items()}
    return value


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
