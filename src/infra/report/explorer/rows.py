"""Filter, search and sort: one question to DuckDB for the rows of a page, one for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.errors import InputError
from infra.report.encode import plain
from infra.report.explorer.index import RunIndex
from infra.report.explorer.search import search_conditions

PAGE = 50
MAX_VALUES = 1000
"""Accepted values of one filter."""


@dataclass(frozen=True)
class Query:
    """What the list shows. ``equals``: column -> accepted values as text; ``ranges``: column -> (least, most)."""

    search: str = ""
    equals: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    sort: str = ""
    descending: bool = True
    offset: int = 0
    limit: int = PAGE


def find_rows(run: RunIndex, query: Query) -> dict[str, Any]:
    """``{"total": int, "rows": [...]}``; a row has id, preview, attributes and all target scores.

    Raises :class:`InputError` for a column or target that the run does not have.
    """
    con = run.cursor()
    where, values = conditions(run, con, query)
    order = order_of(run, query)
    page = [max(1, min(query.limit, 500)), max(0, query.offset)]
    hits = con.execute(  # one look at the filters gives the page and the number, over few columns
        f"SELECT rowid, count(*) OVER () FROM examples {where} ORDER BY {order} LIMIT ? OFFSET ?", [*values, *page]
    ).fetchall()
    if not hits:
        total = con.execute(f"SELECT count(*) FROM examples {where}", values).fetchone() if query.offset else None
        return {"total": total[0] if total else 0, "rows": []}
    chosen = ", ".join(str(int(row)) for row, _ in hits)
    rows = con.execute(f"SELECT * EXCLUDE (_row) FROM examples WHERE rowid IN ({chosen}) ORDER BY {order}")
    names = [d[0] for d in rows.description or []]
    return {"total": hits[0][1], "rows": [dict(zip(names, map(plain, row))) for row in rows.fetchall()]}


def conditions(run: RunIndex, con: Any, query: Query) -> tuple[str, list[Any]]:
    """A WHERE clause and its values. Column names come from the run's own list, values are parameters."""
    parts: list[str] = []
    values: list[Any] = []
    for name, accepted in query.equals.items():
        column = column_of(run, name)
        if len(accepted) > MAX_VALUES:
            raise InputError(f"the filter on '{name}' accepts {len(accepted)} values; give at most {MAX_VALUES}")
        known = [v for v in accepted if v != "\0"]
        tests = []
        if known:
            tests.append(f"{column}::VARCHAR IN ({', '.join('?' * len(known))})")
            values += known
        if len(known) < len(accepted):
            tests.append(f"{column} IS NULL")
        if tests:
            parts.append("(" + " OR ".join(tests) + ")")
    for name, (least, most) in query.ranges.items():
        column = number_column(run, name)
        for bound, sign in ((least, ">="), (most, "<=")):
            if bound is not None:
                parts.append(f"{column} {sign} ?")
                values.append(bound)
    search, found = search_conditions(run, con, query.search)
    parts += search
    values += found
    return ("WHERE " + " AND ".join(parts) if parts else ""), values


def order_of(run: RunIndex, query: Query) -> str:
    """The ORDER BY of a query; rows that tie stay in the order of the data."""
    way = "DESC" if query.descending else "ASC"
    if not query.sort:
        return "_row"
    if query.sort in run.targets:
        return f"{_quote('score_' + query.sort)} {way} NULLS LAST, _row"
    return f"{column_of(run, query.sort)} {way} NULLS LAST, _row"


def column_of(run: RunIndex, name: str) -> str:
    """A column of the examples as SQL: an attribute, the id, or ``score_<target>``. Raises :class:`InputError`."""
    if name not in run.columns and name != "id" and not _is_score(run, name):
        raise InputError(f"there is no column '{name}' in this run; it has {', '.join(run.columns)}")
    return _quote(name)


def number_column(run: RunIndex, name: str) -> str:
    """A column of numbers as SQL. Raises :class:`InputError` for another."""
    column = column_of(run, name)
    if not _is_score(run, name) and run.columns.get(name) != "number":
        raise InputError(f"column '{name}' holds no numbers, so it has no range; filter it by its values")
    return column


def _is_score(run: RunIndex, name: str) -> bool:
    return name.startswith("score_") and name.removeprefix("score_") in run.targets


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
