"""Rows of the user's files in new files, field by field as they were.

A JSON row keeps its text, a table's row its cells, a Parquet row its types. Only a new loss weight changes a row: its
field ``weight``, which is added where there is none.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from infra.data.adapters import detect
from infra.data.json_rows import Document
from infra.data.rows import MAX_ROW, Form, is_hub_data, iter_rows, open_data
from infra.data.table_rows import table_cells
from infra.errors import InputError
from infra.store import replacing

_ENDINGS: Mapping[str, Form] = {
    **{".jsonl": "lines", ".ndjson": "lines", ".json": "json"},
    **{".csv": "table", ".tsv": "table", ".parquet": "parquet"},
}


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """Rows of one file, or of a hub data set: line -> new loss weight, or None to leave the row as it
    is. Lines as :class:`~infra.data.rows.Row` counts them."""

    path: str
    weights: Mapping[int, float | None]

    @property
    def form(self) -> Form:
        """The file's form; rows of the hub are written as JSON Lines."""
        if is_hub_data(self.path):
            return "lines"
        with open_data(Path(self.path)) as (form, _):
            return form


def copy_rows(chosen: Sequence[ChosenRows], out: Path) -> Path:
    """Write rows of files of one form to ``out``, file by file in the order of their lines; gzipped where it ends in
    ``.gz``. Raises :class:`InputError` for files whose rows do not fit in one file, or an ``out`` of another form."""
    forms = {rows.form for rows in chosen}
    form = _form_of(out, forms)
    if form in ("lines", "json"):
        _check_schemas(chosen, out)
    write = {"parquet": _write_parquet, "table": _write_table}.get(form)
    with replacing(out) as part:
        if write is not None:
            write(chosen, part, out)
        else:
            _write_json(chosen, part, out, form)
    return out


def _form_of(out: Path, forms: set[Form]) -> Form:
    """The form of the new file. JSON comes as an array or as lines, whatever it was before."""
    name = out.name.removesuffix(".gz")
    wanted = _ENDINGS.get(Path(name).suffix)
    have = " and ".join(sorted(forms))
    if len(forms - {"lines", "json"}) + bool(forms & {"lines", "json"}) > 1:
        raise InputError(f"{out}: rows of different forms ({have}) do not fit in one file; give a folder for --out")
    if wanted == "json" and forms == {"lines"}:
        return "lines"  # a file of that name that holds one object a line stays so
    json_both = wanted in ("lines", "json") and forms <= {"lines", "json"}
    if wanted is None or not (json_both or forms <= {wanted}) or (wanted == "parquet" and out.suffix == ".gz"):
        raise InputError(f"{out}: the rows are {have}; give the file an ending of that form")
    return wanted


def _check_schemas(chosen: Sequence[ChosenRows], out: Path) -> None:
    """Refuse JSON rows of different schemas in one file: no trainer could read it."""
    names = {}
    for rows in chosen:
        first = next((r.value for r in iter_rows(rows.path) if r.line in rows.weights and r.value), {})
        found = detect(first)
        names[found.name if found else ", ".join(sorted(first))] = rows.path
    if len(names) > 1:
        listed = "; ".join(f"{path}: {name}" for name, path in names.items())
        raise InputError(f"{out}: rows of different schemas ({listed}) do not fit in one file; give a folder for --out")


def _write_json(chosen: Sequence[ChosenRows], part: Path, out: Path, form: Form) -> None:
    texts = (text for rows in chosen for text in _json_texts(rows))
    with _sink(part, out) as sink:
        if form == "lines":
            sink.writelines(text + b"\n" for text in texts)
            return
        sink.write(b"[")
        for i, text in enumerate(texts):
            sink.write((b",\n" if i else b"\n") + text)
        sink.write(b"\n]\n")


def _json_texts(rows: ChosenRows) -> Iterator[bytes]:
    """Each chosen row as JSON on one line: its own characters where these are one line, a new weight at the end."""
    for line, text in _sources(rows):
        if line not in rows.weights:
            continue
        weight = rows.weights[line]
        if b"\n" in text:
            text = _dumped(json.loads(text), text)
        if weight is not None:
            value = json.loads(text)
            if "weight" in value:
                text = _dumped({**value, "weight": weight}, text)
            else:
                text = text[:-1].rstrip() + f', "weight": {weight!r}}}'.encode()
        yield text


def _sources(rows: ChosenRows) -> Iterator[tuple[int, bytes]]:
    """Line and text of every JSON row of a file."""
    if is_hub_data(rows.path):
        yield from ((row.line, _dumped(row.value, b"")) for row in iter_rows(rows.path) if row.value is not None)
        return
    with open_data(Path(rows.path)) as (form, stream):
        if form == "lines":
            for line, raw in enumerate(iter(lambda: stream.readline(MAX_ROW + 1), b""), start=1):
                yield line, raw.removeprefix(b"\xef\xbb\xbf").strip()
        else:
            for line, _, source in Document(rows.path, stream, "train", MAX_ROW).elements():
                yield line, source.encode()


def _dumped(value: Any, before: bytes) -> bytes:
    """A value as JSON; with all but ASCII escaped where the text ``before`` was."""
    return json.dumps(value, ensure_ascii=before.isascii(), default=str).encode()


def _write_table(chosen: Sequence[ChosenRows], part: Path, out: Path) -> None:
    """Cells as they are. Raises InputError where files have different columns."""
    first: list[str] = []
    with _sink(part, out) as sink, io.TextIOWrapper(sink, encoding="utf-8", newline="") as text:
        for rows in chosen:
            table = _table(rows.path)
            _, (columns, separator) = next(table)
            if not first:
                first = columns
                header = columns if not _weighted(chosen) or "weight" in columns else [*columns, "weight"]
                writer = csv.writer(text, delimiter=separator, lineterminator="\n")
                writer.writerow(header)
            elif columns != first:
                raise InputError(f"{rows.path}: its columns are not those of {chosen[0].path}; give a folder for --out")
            for line, (cells, _) in table:
                if line in rows.weights:
                    writer.writerow(_weighed(cells, header, rows.weights[line]))


def _table(path: str) -> Iterator[tuple[int, tuple[list[str], str]]]:
    with open_data(Path(path)) as (_, stream):
        yield from table_cells(path, stream, MAX_ROW)


def _weighed(cells: list[str], header: list[str], weight: float | None) -> list[str]:
    row = cells + [""] * (len(header) - len(cells))
    if weight is not None:
        row[header.index("weight")] = repr(weight)
    return row


def _write_parquet(chosen: Sequence[ChosenRows], part: Path, out: Path) -> None:
    """Columns with their types. Raises InputError where files have different schemas."""
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None
    try:
        for rows in chosen:
            for table in _tables(rows, _weighted(chosen)):
                if writer is None:
                    writer = pq.ParquetWriter(part, table.schema)
                elif not table.schema.equals(writer.schema):
                    raise InputError(
                        f"{rows.path}: its columns are not those of {chosen[0].path}; give a folder for --out"
                    )
                writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _tables(rows: ChosenRows, weighted: bool) -> Iterator[Any]:
    """The chosen rows of a Parquet file, batch by batch, with a column of weights where any row has a new one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_data(Path(rows.path)) as (_, stream):
        line = 0
        for batch in pq.ParquetFile(stream).iter_batches(batch_size=1024):
            lines = [n for n in range(line + 1, line + batch.num_rows + 1) if n in rows.weights]
            table = pa.Table.from_batches([batch]).take([n - line - 1 for n in lines])
            line += batch.num_rows
            if weighted:
                column = pa.array([rows.weights[n] for n in lines], pa.float64())
                if "weight" in table.column_names:
                    table = table.set_column(table.column_names.index("weight"), "weight", column)
                else:
                    table = table.append_column("weight", column)
                kept = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"huggingface"}
                table = table.replace_schema_metadata(kept)  # `datasets` notes the columns there, and has no weight
            yield table


def _weighted(chosen: Sequence[ChosenRows]) -> bool:
    return any(weight is not None for rows in chosen for weight in rows.weights.values())


@contextmanager
def _sink(part: Path, out: Path) -> Iterator[IO[bytes]]:
    """The new file, open for writing; packed without a time in it, so that equal rows give equal bytes."""
    with part.open("wb") as raw:
        if out.suffix == ".gz":
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                yield cast("IO[bytes]", packed)
        else:
            yield raw
