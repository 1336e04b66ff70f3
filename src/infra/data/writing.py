"""Records into tables and files, without loss, in the forms that trainers read.

Parquet and JSON Lines carry one column per field of the record; ``messages`` is a list of ``{role, content}``
structs, which ``datasets.load_dataset("parquet", data_files=...)`` and TRL's SFTTrainer take as they are. Turns without
loss (``loss``), calls of tools (``tool_calls``, ``tool_call_id``, ``name``) and ``tools`` add keys in the form of
OpenAI's API, in files that have any.
``tests`` and ``attributes`` differ from row to row and so are JSON texts in Parquet, and objects in JSON
Lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.data.adapters import get_adapter
from infra.data.fields import RowProblem
from infra.data.schema import Message, Record
from infra.errors import InputError, ResourceError
from infra.store import replacing, write_text

if TYPE_CHECKING:
    import pyarrow as pa

_LLAMAFACTORY_ROLES = {"user": "human", "assistant": "gpt", "tool": "observation"}


def record_to_dict(record: Record) -> dict[str, Any]:
    """A record as plain JSON values.

    Args:
        record: any record.
    """
    return {
        "id": record.id,
        "messages": [{"role": m.role, "content": m.content, **m.extras()} for m in record.messages],
        "domain": record.domain,
        "source": record.source,
        "answer": record.answer,
        "tests": None if record.tests is None else dict(record.tests),
        "attributes": dict(record.attributes),
        "spans": [{"start": s.start, "end": s.end, "labels": list(s.labels)} for s in record.spans],
        "weight": record.weight,
        **({"tools": [dict(tool) for tool in record.tools]} if record.tools else {}),
    }


def record_from_dict(row: dict[str, Any]) -> Record:
    """The inverse of :func:`record_to_dict`.

    Args:
        row: plain JSON values.

    Raises:
        InputError: a field is missing or wrong, by record and field.
    """
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
        draft.tools,
    )


def _schema(wide: bool) -> pa.Schema:
    """``wide``: with what only some conversations have, turns without loss and tools."""
    import pyarrow as pa

    turn = [("role", pa.string()), ("content", pa.string())]
    function = pa.struct([("name", pa.string()), ("arguments", pa.string())])
    call = pa.struct([("id", pa.string()), ("type", pa.string()), ("function", function)])
    extras = [
        ("loss", pa.bool_()),
        ("tool_calls", pa.list_(call)),
        ("tool_call_id", pa.string()),
        ("name", pa.string()),
    ]
    span = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("labels", pa.list_(pa.string()))])
    return pa.schema(
        [
            ("id", pa.string()),
            ("messages", pa.list_(pa.struct([*turn, *(extras if wide else [])]))),
            ("domain", pa.string()),
            ("source", pa.string()),
            ("answer", pa.string()),
            ("tests", pa.string()),
            ("attributes", pa.string()),
            ("spans", pa.list_(span)),
            ("weight", pa.float64()),
            *([("tools", pa.string())] if wide else []),
        ]
    )


def _is_wide(records: Iterable[Record]) -> bool:
    return any(r.tools or any(m.extras() for m in r.messages) for r in records)


def records_to_table(records: Iterable[Record]) -> pa.Table:
    """Records as an Arrow table, one row a record. Nothing is lost.

    Args:
        records: any records.
    """
    listed = list(records)
    return _table(listed, _is_wide(listed))


def _table(records: Sequence[Record], wide: bool) -> pa.Table:
    import pyarrow as pa

    rows = [record_to_dict(r) for r in records]
    for row in rows:
        for name in ("tests", "attributes", "tools"):
            if row.get(name) is not None:
                row[name] = json.dumps(row[name], ensure_ascii=False)
    return pa.Table.from_pylist(rows, schema=_schema(wide))


def records_from_table(table: pa.Table) -> list[Record]:
    """The inverse of :func:`records_to_table`.

    Args:
        table: one row a record.
    """
    return [record_from_dict(row) for row in table.to_pylist()]


def write_records(records: Iterable[Record], path: str | Path) -> Path:
    """Write records to a file, as a whole or not at all. Memory is flat for an iterator.

    Args:
        records: to write.
        path: ends in ``.parquet`` or ``.jsonl``.

    Raises:
        InputError: another suffix.
        ResourceError: the disk is full or not writable; what stood at ``path`` before is then untouched.
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
    """Chunk by chunk. At the first chunk that needs the wide schema, what is written is copied into a wide file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wide = False
    writer = pq.ParquetWriter(part, _schema(wide), compression="zstd")
    try:
        for chunk in _chunks(records, 1024):
            if not wide and _is_wide(chunk):
                writer.close()
                wide, narrow = True, part.with_name(part.name + ".narrow")
                os.replace(part, narrow)
                writer = pq.ParquetWriter(part, _schema(wide), compression="zstd")
                for batch in pq.ParquetFile(narrow).iter_batches(batch_size=1024):
                    rows = batch.to_pylist()
                    writer.write_table(pa.Table.from_pylist(rows, schema=_schema(wide)))
                narrow.unlink()
            writer.write_table(_table(chunk, wide))
    finally:
        writer.close()
        part.with_name(part.name + ".narrow").unlink(missing_ok=True)


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
    """Write a LLaMA-Factory data folder: rows in its ShareGPT form, and ``dataset_info.json`` that declares them.

    Point ``dataset_dir`` at the folder and ``dataset`` at ``name``. What LLaMA-Factory has no form for is refused,
    because it would be ignored without a word: weights other than 1, turns without loss, text beside a call of a
    tool.

    Args:
        records: each ends with an assistant turn.
        folder: to write into.
        name: of the data set.

    Raises:
        InputError: a record that LLaMA-Factory cannot express, by id.
    """
    rows: list[dict[str, Any]] = []
    for record in records:
        if record.response is None:
            raise InputError(f"record {record.id}: no assistant turn at the end; LLaMA-Factory needs one to train on")
        if record.weight != 1.0:
            raise InputError(
                f"record {record.id}: weight {record.weight} cannot be expressed for LLaMA-Factory; write Parquet"
            )
        system = next((m.content for m in record.messages if m.role == "system"), "")
        turns = [_llamafactory_turn(record.id, m) for m in record.messages if m.role != "system"]
        rows.append({"conversations": turns, "system": system})
        if record.tools:
            rows[-1]["tools"] = json.dumps([dict(t) for t in record.tools], ensure_ascii=False)
    columns = {"messages": "conversations", "system": "system"}
    if any("tools" in row for row in rows):
        columns["tools"] = "tools"
        rows = [{"tools": "", **row} for row in rows]
    declared = {
        name: {
            "file_name": f"{name}.json",
            "formatting": "sharegpt",
            "columns": columns,
        }
    }
    folder = Path(folder)
    for file, value in ((f"{name}.json", rows), ("dataset_info.json", declared)):
        write_text(folder / file, json.dumps(value, ensure_ascii=False, indent=1))
    return folder


def _llamafactory_turn(record_id: str, message: Message) -> dict[str, str]:
    """A turn in ShareGPT's form, as LLaMA-Factory has it: calls are a turn of their own."""
    if not message.loss:
        raise InputError(
            f"record {record_id}: a turn without loss cannot be expressed for LLaMA-Factory, except for all but the "
            "last by its own setting mask_history; write Parquet"
        )
    if not message.tool_calls:
        return {"from": _LLAMAFACTORY_ROLES[message.role], "value": message.content}
    if message.content.strip():
        raise InputError(
            f"record {record_id}: text beside a call of a tool cannot be expressed for LLaMA-Factory; write Parquet"
        )
    calls = [{"name": c.name, "arguments": json.loads(c.arguments)} for c in message.tool_calls]
    return {"from": "function_call", "value": json.dumps(calls if len(calls) > 1 else calls[0], ensure_ascii=False)}
