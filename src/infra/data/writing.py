"""Records into tables and files, without loss, in the forms that trainers read.

Parquet and JSON Lines carry one column per field of the record; ``messages`` is a list of ``{role, content}``
structs, which ``datasets.load_dataset("parquet", data_files=...)`` and TRL's SFTTrainer take as they are.
``tests`` and ``attributes`` differ from row to row and so are JSON texts in Parquet, and objects in JSON
Lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.data.adapters import get_adapter
from infra.data.fields import RowProblem
from infra.data.schema import Record
from infra.errors import InputError, ResourceError
from infra.store import replacing, write_text

if TYPE_CHECKING:
    import pyarrow as pa


def record_to_dict(record: Record) -> dict[str, Any]:
    """The record as plain JSON values."""
    return {
        "id": record.id,
        "messages": [{"role": m.role, "content": m.content} for m in record.messages],
        "domain": record.domain,
        "source": record.source,
        "answer": record.answer,
        "tests": None if record.tests is None else dict(record.tests),
        "attributes": dict(record.attributes),
        "spans": [{"start": s.start, "end": s.end, "labels": list(s.labels)} for s in record.spans],
        "weight": record.weight,
    }


def record_from_dict(row: dict[str, Any]) -> Record:
    """The inverse of :func:`record_to_dict`. Raises :class:`InputError` naming record and field."""
    try:
        draft = get_adapter("record").convert(row)
    except RowProblem as problem:
        raise InputError(f"record {row.get('id', '?')}: {problem}") from problem
    return Record(
        str(draft.id),
        draft.messages,
        draft.domain,
        str(draft.source),
        draft.answer,
        draft.tests,
        draft.attributes,
        draft.spans,
        draft.weight,
    )


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
            ("domain", pa.string()),
            ("source", pa.string()),
            ("answer", pa.string()),
            ("tests", pa.string()),
            ("attributes", pa.string()),
            (
                "spans",
                pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("labels", pa.list_(pa.string()))])),
            ),
            ("weight", pa.float64()),
        ]
    )


def records_to_table(records: Iterable[Record]) -> pa.Table:
    """An Arrow table, one row a record, lossless."""
    import pyarrow as pa

    rows = [record_to_dict(r) for r in records]
    for row in rows:
        row["tests"] = None if row["tests"] is None else json.dumps(row["tests"], ensure_ascii=False)
        row["attributes"] = json.dumps(row["attributes"], ensure_ascii=False)
    return pa.Table.from_pylist(rows, schema=_schema())


def records_from_table(table: pa.Table) -> list[Record]:
    """The inverse of :func:`records_to_table`."""
    return [record_from_dict(row) for row in table.to_pylist()]


def write_records(records: Iterable[Record], path: str | Path) -> Path:
    """Write ``.parquet`` or ``.jsonl`` (by the suffix), as a whole or not at all.

    Memory is flat for an iterator. Raises :class:`InputError` for another suffix, :class:`ResourceError` when
    the disk is full or not writable; what stood at ``path`` before is then untouched.
    """
    path = Path(path)
    if path.suffix not in (".parquet", ".jsonl"):
        raise InputError(f"{path}: records are written as .parquet or .jsonl; change the file's suffix")
    try:
        with replacing(path) as part:
            if path.suffix == ".parquet":
                _write_parquet(records, part)
            else:
                _write_json_lines((record_to_dict(r) for r in records), part)
    except OSError as error:
        raise ResourceError(
            f"{path}: cannot be written ({error.strerror or error}); free disk space or choose another folder"
        ) from error
    return path


def _write_parquet(records: Iterable[Record], part: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(part, _schema(), compression="zstd") as writer:
        for chunk in _chunks(records, 1024):
            writer.write_table(records_to_table(chunk))


def _write_json_lines(rows: Iterable[dict[str, Any]], part: Path) -> None:
    with part.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _chunks(records: Iterable[Record], size: int) -> Iterator[Sequence[Record]]:
    chunk: list[Record] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def to_llamafactory(records: Iterable[Record], folder: str | Path, name: str = "infra") -> Path:
    """A LLaMA-Factory data folder: ``<name>.json`` in its ShareGPT form and ``dataset_info.json`` that
    declares it.

    Point ``dataset_dir`` at the folder and ``dataset`` at ``name``. Each record must end with an assistant
    turn; weights other than 1 are refused, because LLaMA-Factory has none and would ignore them without a
    word.
    """
    roles = {"user": "human", "assistant": "gpt", "tool": "observation"}
    rows = []
    for record in records:
        if record.response is None:
            raise InputError(f"record {record.id}: no assistant turn at the end; LLaMA-Factory needs one to train on")
        if record.weight != 1.0:
            raise InputError(
                f"record {record.id}: weight {record.weight} cannot be expressed for LLaMA-Factory; write Parquet"
            )
        system = next((m.content for m in record.messages if m.role == "system"), "")
        turns = [{"from": roles[m.role], "value": m.content} for m in record.messages if m.role != "system"]
        rows.append({"conversations": turns, "system": system})
    declared = {
        name: {
            "file_name": f"{name}.json",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "system": "system"},
        }
    }
    folder = Path(folder)
    for file, value in ((f"{name}.json", rows), ("dataset_info.json", declared)):
        write_text(folder / file, json.dumps(value, ensure_ascii=False, indent=1))
    return folder
