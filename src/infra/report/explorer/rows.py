"""Filter, search and sort: one question to DuckDB for the rows of a page, one for their number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.errors import InputError
from infra.report.encode import plain
from infra.report.explorer.index import RunIndex

PAGE = 50
FACET_VALUES = 60
FACET_NUMBERS = 12
MAX_WORDS = 32
"""Words of one search; each is a question of its own to the index."""
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
    order = _order(run, query)
    rows = con.execute(
        f"SELECT * EXCLUDE (_row) FROM examples {where} ORDER BY {order} LIMIT ? OFFSET ?",
        [*values, max(1, min(query.limit, 500)), max(0, query.offset)],
    )
    names = [d[0] for d in rows.description or []]
    found = [dict(zip(names, map(plain, row))) for row in rows.fetchall()]
    total = con.execute(f"SELECT count(*) FROM examples {where}", values).fetchone()
    return {"total": total[0] if total else 0, "rows": found}


def facets(run: RunIndex) -> list[dict[str, Any]]:
    """What can be filtered: for few values each with its count, for many numbers their range."""
    con = run.cursor()
    out = []
    for name, kind in run.columns.items():
        column = _quote(name)
        distinct = con.execute(f"SELECT approx_count_distinct({column}) FROM examples").fetchone()
        most = FACET_NUMBERS if kind == "number" else FACET_VALUES
        few = distinct is not None and distinct[0] <= 2 * most
        if few:
            values = con.execute(
                f"SELECT {column}::VARCHAR, count(*) FROM examples GROUP BY ALL ORDER BY {column}::VARCHAR NULLS LAST "
                f"LIMIT {most + 1}"
            ).fetchall()
            few = len(values) <= most
        if few and len(values) > 1:
            out.append(
                {"name": name, "kind": kind, "values": [[None if v is None else plain(v), n] for v, n in values]}
            )
        elif not few and kind == "number":
            least, most = con.execute(f"SELECT min({column}), max({column}) FROM examples").fetchone() or (None, None)
            out.append({"name": name, "kind": "range", "range": [plain(least), plain(most)]})
    return out


def conditions(run: RunIndex, con: Any, query: Query) -> tuple[str, list[Any]]:
    """A WHERE clause and its values. Column names come from the run's own list, values are parameters."""
    parts: list[str] = []
    values: list[Any] = []
    for name, accepted in query.equals.items():
        column = _column(run, name)
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
        column = _column(run, name)
        if run.columns.get(name) != "number":
            raise InputError(f"column '{name}' holds no numbers, so it has no range; filter it by its values")
        for bound, sign in ((least, ">="), (most, "<=")):
            if bound is not None:
                parts.append(f"{column} {sign} ?")
                values.append(bound)
    search, found = _search(run, con, query.search)
    parts += search
    values += found
    return ("WHERE " + " AND ".join(parts) if parts else ""), values


def _search(run: RunIndex, con: Any, text: str) -> tuple[list[str], list[Any]]:
    """Every word of ``text`` must begin a word of the example's text; a whole id finds that example."""
    text = text.strip()
    if not text:
        return [], []
    hit = con.execute("SELECT _row FROM examples WHERE id = ?", [text]).fetchone()
    if hit:
        return ["_row = ?"], [hit[0]]
    words = search_words(text)
    if not words:
        return ["preview LIKE '%' || ? || '%'"], [text]
    if not run.searchable.is_set():
        like = ["lower(preview) LIKE '%' || ? || '%'" for _ in words]
        return like, list(words)
    parts, values = [], []
    for word in words:
        low, high = con.execute(
            "SELECT min(number), max(number) FROM vocabulary WHERE word >= ? AND word < ? || chr(1114111)", [word, word]
        ).fetchone() or (None, None)
        if low is None:
            return ["false"], []
        parts.append("_row IN (SELECT _row FROM postings WHERE number BETWEEN ? AND ?)")
        values += [low, high]
    return parts, values


def search_words(text: str) -> list[str]:
    """The words of a search, each once. Raises :class:`InputError` for more than :data:`MAX_WORDS`."""
    return few_words([w[:64] for w in re.split(r"[^\w]+", text.lower()) if w])


def few_words(words: Sequence[str]) -> list[str]:
    """The words, each once. Raises :class:`InputError` for more than :data:`MAX_WORDS`."""
    found = list(dict.fromkeys(words))
    if len(found) > MAX_WORDS:
        raise InputError(f"the search has {len(found)} words; give at most {MAX_WORDS}")
    return found


def _order(run: RunIndex, query: Query) -> str:
    way = "DESC" if query.descending else "ASC"
    if not query.sort:
        return "_row"
    if query.sort in run.targets:
        return f"{_quote('score_' + query.sort)} {way} NULLS LAST, _row"
    return f"{_column(run, query.sort)} {way} NULLS LAST, _row"


def _column(run: RunIndex, name: str) -> str:
    if name not in run.columns and name != "id":
        raise InputError(f"there is no column '{name}' in this run; it has {', '.join(run.columns)}")
    return _quote(name)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
