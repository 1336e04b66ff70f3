"""Records out of any supported file or hub data set, with the schema found and every bad row named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from infra.data.adapters import Adapter, detect, get_adapter
from infra.data.columns import complete, id_of, unread
from infra.data.fields import Draft, RowProblem
from infra.data.named import is_named_data, named_records
from infra.data.rows import Row, iter_rows
from infra.data.schema import Record
from infra.errors import InputError

OnError = Literal["raise", "skip"]
Ids = Literal["own", "line"]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was not used, and why.

    ``id`` is the record's, or the row's own, or ''. ``field`` is '' when the whole row is bad.
    """

    file: str
    line: int
    id: str
    field: str
    reason: str

    def __str__(self) -> str:
        name = f", record {self.id}" if self.id else ""
        field = f": field {self.field!r}" if self.field else ""
        return f"{self.file}, line {self.line}{name}{field}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record comes from: the file, and the line, row or element in it, as :class:`~infra.data.rows.Row` counts
    them. ``file`` is '' for records that come from no file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass(frozen=True, slots=True)
class ReadResult:
    """``schema`` is the adapter's name, to be shown to the user; ``skipped`` is empty unless skipping was
    asked for. ``unread`` names the columns, and keys of turns, that hold something and are not in the records.
    ``places`` says where each record comes from; it is empty for named data."""

    records: list[Record]
    schema: str
    skipped: list[BadRow]
    unread: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()


def read_records(
    path_or_id: str | Path,
    *,
    schema: str = "auto",
    domain: str | None = None,
    source: str | None = None,
    limit: int | None = None,
    on_error: OnError = "raise",
    split: str = "train",
    ids: Ids = "own",
    label: str | None = None,
) -> ReadResult:
    """All records of a file, a folder of files, a hub data set or a named source.

    A record's id is the row's own; where it has none it is file and line, ``train.jsonl:17``. Ids are unique in the
    result: where a file has one id twice, the second record gets ``~2`` at its end. Two files of a folder may not give
    one id to different records.

    Args:
        path_or_id: a JSONL, JSON, CSV, TSV or Parquet file (also gzipped), a folder of these, ``hf:org/name``, or a
            named source.
        schema: ``auto`` (found from the first readable row) or an adapter's name.
        domain: overrides what the data says.
        source: overrides what the data says.
        limit: stops after so many records.
        on_error: ``skip`` lists bad rows in ``skipped`` instead of raising.
        split: the files of a folder, or the split of a hub data set.
        ids: ``line`` names every record by file and line.
        label: takes the place of the file's or folder's name in such an id.

    Raises:
        InputError: a bad row, by file, line, record and field; with ``on_error="skip"`` only when the file itself
            cannot be read, no row is good, or files share an id.
    """
    if is_named_data(path_or_id):
        return ReadResult(list(islice(named_records(path_or_id), limit)), "named", [])
    reader = _Reader(schema, domain, source, on_error, ids, label)
    records: list[Record] = []
    places: list[Place] = []
    row_of: dict[str, int] = {}
    times: dict[str, int] = {}
    for record, place in reader.read(path_or_id, split, limit):
        name, count = record.id, times.get(record.id, 1)
        if name in row_of and places[row_of[name]].file != place.file:
            refuse_shared(record, place, records[row_of[name]], places[row_of[name]])
        while name in row_of:
            count += 1
            name = f"{record.id}~{count}"
        times[record.id] = count
        row_of[name] = len(records)
        records.append(record if count == 1 else replace(record, id=name))
        places.append(place)
    if not records and limit != 0:
        first = f"; the first: {reader.skipped[0]}" if reader.skipped else ""
        raise InputError(f"{path_or_id}: no record could be read ({len(reader.skipped)} rows are bad{first})")
    name = reader.adapter.name if reader.adapter else schema
    return ReadResult(records, name, reader.skipped, tuple(sorted(reader.unread)), tuple(places))


def refuse_shared(record: Record, place: Place | None, other: Record, other_place: Place | None) -> None:
    """Raise :class:`InputError` where two records of one id, from two files, differ in what is trained on."""
    if (record.messages, record.answer, record.tests) == (other.messages, other.answer, other.tests):
        return
    where = " and ".join(str(p) for p in (other_place, place) if p is not None and p.file)
    raise InputError(
        f"the id {record.id!r} names two different records ({where or record.source}); ids tell records apart in every "
        "table, so rename them in one of the files, or name records by file and line: ids='line' from Python, "
        "`ids: line` at the source in a recipe, --set data.sources.0.ids=line on the command line"
    )


def iter_records(
    path_or_id: str | Path,
    *,
    schema: str = "auto",
    domain: str | None = None,
    source: str | None = None,
    limit: int | None = None,
    on_error: OnError = "raise",
    split: str = "train",
) -> Iterator[Record]:
    """The records of :func:`read_records` one at a time, in flat memory; ids that repeat in the data repeat."""
    for record, _ in _Reader(schema, domain, source, on_error).read(path_or_id, split, limit):
        yield record


def file_label(path_or_id: str | Path, file: str, label: str | None = None) -> str:
    """What ids call a file of a data set: ``label`` or its name; in a folder its place there, after the ``label``."""
    whole = Path(str(path_or_id))
    if whole.is_dir():
        inside = Path(file).relative_to(whole).as_posix()
        return inside if label is None else f"{label}/{inside}"
    if label is not None:
        return label
    return file.removeprefix("hf:") if file.startswith("hf:") else Path(file).name


class _Reader:
    """Holds the adapter found on the first row and the rows skipped so far."""

    def __init__(
        self,
        schema: str,
        domain: str | None,
        source: str | None,
        on_error: OnError,
        ids: Ids = "own",
        label: str | None = None,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise InputError(f"on_error is {on_error!r}; use raise or skip")
        if ids not in ("own", "line"):
            raise InputError(f"ids is {ids!r}; use own or line")
        self.adapter: Adapter | None = None if schema == "auto" else get_adapter(schema)
        self.domain, self.source, self.on_error, self.ids, self.label = domain, source, on_error, ids, label
        self.skipped: list[BadRow] = []
        self.unread: set[str] = set()

    def read(self, path_or_id: str | Path, split: str, limit: int | None) -> Iterator[tuple[Record, Place]]:
        done = 0
        default_source = Path(str(path_or_id)).name.split(".")[0]
        for row in iter_rows(path_or_id, split=split):
            if limit is not None and done >= limit:
                return
            record = self._convert(row, default_source, file_label(path_or_id, row.file, self.label))
            if record is not None:
                done += 1
                yield record, Place(row.file, row.line)

    def _convert(self, row: Row, default_source: str, file: str) -> Record | None:
        if row.value is None:
            return self._bad(row, "", "", row.problem or "unreadable")
        name = self._name(row.value)
        if self.adapter is None:
            self.adapter = detect(row.value)
            if self.adapter is None:
                found = ", ".join(sorted(row.value)[:12]) or "none"
                return self._bad(
                    row,
                    name,
                    "",
                    f"no known schema has the fields found ({found}); rename them to prompt and response, or pass "
                    "schema=",
                )
        read, native_id = self.adapter.columns, self.adapter.native_id
        try:
            draft = self.adapter.convert(row.value)
            draft = complete(draft, row.value, read, native_id)
        except RowProblem as problem:
            return self._bad(row, name, problem.field, problem.reason)
        self.unread |= unread(row.value, read)
        own = draft.id if self.ids == "own" else None
        return self._finish(draft, own or f"{file}:{row.line}", default_source)

    def _name(self, value: Mapping[str, Any]) -> str:
        column = id_of(value, self.adapter.native_id if self.adapter else None)
        return "" if column is None else str(value[column])

    def _finish(self, draft: Draft, name: str, default_source: str) -> Record:
        adapter_source = self.adapter.source if self.adapter else None
        return Record(
            id=name,
            messages=draft.messages,
            domain=self.domain or draft.domain,
            source=self.source or draft.source or adapter_source or default_source,
            answer=draft.answer,
            tests=draft.tests,
            attributes=draft.attributes,
            spans=draft.spans,
            weight=draft.weight,
            tools=draft.tools,
        )

    def _bad(self, row: Row, name: str, field: str, reason: str) -> Record | None:
        bad = BadRow(row.file, row.line, name, field, reason)
        if self.on_error == "raise":
            raise InputError(str(bad))
        self.skipped.append(bad)
        return None
