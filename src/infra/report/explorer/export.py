"""Rows as files: the examples that the list shows, and any table of the explorer."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import InputError
from infra.report.explorer.index import RunIndex
from infra.report.explorer.rows import Query, conditions, order_of

MOST_BYTES = 64_000_000
"""Of a table that is sent to be made a file."""
_FLOATS = {"number", "effect", "percent", "points", "percentile"}


def export_rows(run: RunIndex, query: Query, form: str) -> bytes:
    """All examples that a query finds, in its order, with every column, as ``csv`` or ``parquet``."""
    con = run.cursor()
    where, values = conditions(run, con, query)
    sql = f"SELECT * EXCLUDE (_row) FROM examples {where} ORDER BY {order_of(run, query)}"
    return table_bytes(con.sql(sql, params=values).to_arrow_table(), form)


def table_bytes(table: pa.Table, form: str) -> bytes:
    """A table as a file of that form. Raises :class:`InputError` for another than ``csv`` and ``parquet``."""
    out = io.BytesIO()
    if form == "parquet":
        pq.write_table(table, out)
    elif form == "csv":
        frame = table.to_pandas(types_mapper=pd.ArrowDtype)
        guarded = {c: [_guarded(v) for v in frame[c]] for c in frame if not pd.api.types.is_numeric_dtype(frame[c])}
        frame.assign(**guarded).to_csv(out, index=False, lineterminator="\r\n")
    else:
        raise InputError(f"the format is {form[:40]!r}; choose csv or parquet")
    return out.getvalue()


def sent_table(body: bytes) -> pa.Table:
    """A table as the page sends it, ``{"columns": [[name, kind], ...], "rows": [[...], ...]}``."""
    sent = sent_json(body)
    try:
        names = [str(name) for name, _ in sent["columns"]]
        kinds = [str(kind) for _, kind in sent["columns"]]
        rows = [list(row) for row in sent["rows"]]
        columns = [[row[i] for row in rows] for i in range(len(names))]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise InputError(f"this is no table: {type(error).__name__} in what was sent") from error
    return pa.Table.from_arrays([_column(v, k) for v, k in zip(columns, kinds)], names)


def sent_json(body: bytes) -> dict[str, Any]:
    """An object that the page sends. Raises :class:`InputError` for anything else."""
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("what was sent is no JSON") from error
    if not isinstance(sent, dict):
        raise InputError("what was sent is no object")
    return sent


def _column(values: Sequence[Any], kind: str) -> pa.Array:
    """Numbers as float64 where the page prints them so; values of several types as text."""
    numbers = all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in values)
    try:
        return pa.array(values, type=pa.float64() if numbers and kind in _FLOATS else None)
    except (pa.ArrowException, OverflowError, UnicodeError):
        texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
        return pa.array([t if t is None else t.encode("utf-8", "replace").decode() for t in texts], type=pa.string())


def _guarded(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula, with an apostrophe before it; as ``csvCell`` of the page."""
    if value is pd.NA or value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, default=str) if isinstance(value, list) else value
    if isinstance(text, str) and re.match(r"[=+\-@\t\r]", text) and not re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", text):
        return "'" + text
    return text
