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
from infra.data.schema import Record, record_id
from infra.errors import InputError

OnError = Literal["raise", "skip"]


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
class ReadResult:
    """``schema`` is the adapter's name, to be shown to the user; ``skipped`` is empty unless skipping was
    asked for. ``unread`` names the columns, and keys of turns, that hold something and are not in the records."""

    records: list[Record]
    schema: str
    skipped: list[BadRow]
    unread: tuple[str, ...] = ()


def read_records(
    path_or_id: str | Path,
    *,
    schema: str = "auto",
    domain: str | None = None,
    source: str | None = None,
    limit: int | None = None,
    on_error: OnError = "raise",
    split: str = "train",
) -> ReadResult:
    """All records of a JSONL, JSON or Parquet file (also gzipped), a folder of these, a hub data set or a named source.

    ``schema`` is ``auto`` (found from the first readable row) or an adapter's name; ``domain`` and ``source``
    override what the data says; ``limit`` stops after so many records. Ids are unique in the result: the
    second record with the same content gets ``~2`` at its end (see :func:`infra.data.duplicates`).

    Raises :class:`InputError` naming file, line, record and field at the first bad row, or, with
    ``on_error="skip"``, only when the file itself cannot be read or no row is good.
    """
    if is_named_data(path_or_id):
        return ReadResult(list(islice(named_records(path_or_id), limit)), "named", [])
    reader = _Reader(schema, domain, source, on_error)
    records: list[Record] = []
    seen: dict[str, int] = {}
    for record in reader.read(path_or_id, split, limit):
        count = seen.get(record.id, 0) + 1
        seen[record.id] = count
        if count > 1:
            record = replace(record, id=f"{record.id}~{count}")
            seen[record.id] = seen.get(record.id, 0) + 1
        records.append(record)
    if not records and limit != 0:
        first = f"; the first: {reader.skipped[0]}" if reader.skipped else ""
        raise InputError(f"{path_or_id}: no record could be read ({len(reader.skipped)} rows are bad{first})")
    name = reader.adapter.name if reader.adapter else schema
    return ReadResult(records, name, reader.skipped, tuple(sorted(reader.unread)))


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
    """The same records one at a time, in flat memory; ids of repeated content repeat."""
    yield from _Reader(schema, domain, source, on_error).read(path_or_id, split, limit)


class _Reader:
    """Holds the adapter found on the first row and the rows skipped so far."""

    def __init__(self, schema: str, domain: str | None, source: str | None, on_error: OnError) -> None:
        if on_error not in ("raise", "skip"):
            raise InputError(f"on_error is {on_error!r}; use raise or skip")
        self.adapter: Adapter | None = None if schema == "auto" else get_adapter(schema)
        self.domain, self.source, self.on_error = domain, source, on_error
        self.skipped: list[BadRow] = []
        self.unread: set[str] = set()

    def read(self, path_or_id: str | Path, split: str, limit: int | None) -> Iterator[Record]:
        done = 0
        default_source = Path(str(path_or_id)).name.split(".")[0]
        for row in iter_rows(path_or_id, split=split):
            if limit is not None and done >= limit:
                return
            record = self._convert(row, default_source)
            if record is not None:
                done += 1
                yield record

    def _convert(self, row: Row, default_source: str) -> Record | None:
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
            draft = complete(draft, row.value, read, native_id, Path(row.file).name, row.line)
        except RowProblem as problem:
            return self._bad(row, name, problem.field, problem.reason)
        self.unread |= unread(row.value, read)
        return self._finish(draft, default_source)

    def _name(self, value: Mapping[str, Any]) -> str:
        column = id_of(value, self.adapter.native_id if self.adapter else None)
        return "" if column is None else str(value[column])

    def _finish(self, draft: Draft, default_source: str) -> Record:
        adapter_source = self.adapter.source if self.adapter else None
        return Record(
            id=draft.id or record_id(draft.messages, draft.answer, draft.tests, draft.tools),
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
