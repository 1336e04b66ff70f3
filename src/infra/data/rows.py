"""Rows out of files, one at a time: JSON Lines, JSON, CSV, Parquet, gzip of these, folders of these, hub data
sets.

Every row carries the file and the line it came from, so that a bad one can be named. A row that cannot be
parsed is yielded with ``problem`` set; a file that cannot be read at all raises :class:`InputError`.
Memory stays flat in the number of rows (one Parquet batch, one line, or one JSON element at a time), and bounded: a row
of more than MAX_ROW bytes is refused, and so is compressed input that unpacks to more than a limit.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

from infra.data.bounded import BoundedGzip, refusal, unpacked_limit
from infra.data.json_rows import Document, is_document
from infra.data.table_rows import SUFFIXES as TABLES
from infra.data.table_rows import table_rows
from infra.errors import InputError

Form = Literal["lines", "json", "table", "parquet"]
"""JSON Lines, one JSON document, CSV or TSV, Parquet."""

_PLAIN = (".jsonl", ".json", ".ndjson", ".parquet", *TABLES)
SUFFIXES = (*_PLAIN, *(f"{suffix}.gz" for suffix in _PLAIN))
MAX_ROW = 1 << 29
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
        yield from _file_rows(path, split)
    elif is_hub_data(text):
        yield from _hub_rows(text, split)
    else:
        raise InputError(
            f"{text}: no such file; give a JSONL, JSON, CSV or Parquet file (also .gz) or a hub id org/name"
        )


def is_hub_data(path_or_id: str) -> bool:
    """True for ``hf:org/name``, and for ``org/name[:config]`` where there is no such path."""
    path = Path(path_or_id)
    named = _HUB_ID.fullmatch(path_or_id) is not None and not path.exists() and not path.parent.exists()
    return path_or_id.startswith("hf:") or named


def _folder_rows(folder: Path, split: str) -> Iterator[Row]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
    others = [p for p in files if not p.name.removesuffix(".gz").endswith(TABLES)]
    files = others or files  # a table beside other files describes them
    named = [p for p in files if re.split(r"[-_.]", p.name)[0] == split]
    if not files:
        raise InputError(f"{folder}: the folder holds no file ending in {', '.join(SUFFIXES)}")
    for file in named or files:
        yield from _file_rows(file, split)


def _file_rows(path: Path, split: str) -> Iterator[Row]:
    with open_data(path) as (form, stream):
        if form == "parquet":
            yield from _parquet_rows(path, stream)
        elif form == "table":
            yield from (Row(str(path), *row) for row in table_rows(str(path), stream, MAX_ROW))
        elif form == "json":
            yield from _json_rows(path, stream, split)
        else:
            yield from _json_lines_rows(path, stream)


@contextmanager
def open_data(path: Path) -> Iterator[tuple[Form, IO[bytes]]]:
    """A data file's form, and its content unpacked. Raises :class:`InputError` where it cannot be read."""
    try:
        with path.open("rb", buffering=_CHUNK) as raw:
            head = raw.read(4)
            raw.seek(0)
            if not head:
                raise InputError(f"{path}: the file is empty; it must hold at least one record")
            stream: IO[bytes] = raw
            if head[:2] == b"\x1f\x8b":
                stream = cast("IO[bytes]", BoundedGzip(str(path), raw, path.stat().st_size))
                if stream.read(4) == b"PAR1":
                    stream.seek(0)
                    stream = io.BytesIO(stream.read())
                stream.seek(0)
            yield _form(path, stream), stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path}: the gzip stream is damaged or breaks off ({error}); download or write the file again"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its rights"
        ) from error


def _form(path: Path, stream: IO[bytes]) -> Form:
    head = stream.read(4)
    stream.seek(0)
    if head == b"PAR1":
        return "parquet"
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        raise InputError(f"{path}: not a Parquet file (it does not begin with PAR1); write it again or rename it")
    start = stream.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    stream.seek(0)
    if name.endswith(TABLES):
        return "table"
    return "json" if is_document(start, name.endswith((".jsonl", ".ndjson"))) else "lines"


def _parquet_rows(path: Path, stream: IO[bytes]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        line = 0
        file = pq.ParquetFile(stream)
        size = stream.seek(0, io.SEEK_END)
        groups = (file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if max(groups, default=0) > unpacked_limit(size):
            raise refusal(str(path), size, unpacked_limit(size))
        for batch in file.iter_batches(batch_size=256):
            for value in batch.to_pylist():
                line += 1
                yield Row(str(path), line, value)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: the Parquet file is damaged or cut off ({reason}); write it again") from error


def _json_lines_rows(path: Path, stream: IO[bytes]) -> Iterator[Row]:
    for line, raw in enumerate(iter(lambda: stream.readline(MAX_ROW + 1), b""), start=1):
        if len(raw) > MAX_ROW:
            raise InputError(f"{path}, line {line}: the line is longer than {MAX_ROW:,} bytes; split the record")
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


def _json_rows(path: Path, stream: IO[bytes], split: str) -> Iterator[Row]:
    for line, value, source in Document(str(path), stream, split, MAX_ROW).elements():
        yield _checked(path, line, value, _SURROGATE.search(source) is not None)


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
