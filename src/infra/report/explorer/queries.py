"""Follow one query (a correct response inside a target) to the examples it gains and loses most from, and back.

``queries/queries.parquet`` holds a row per query, side and rank: ``query, target, text,
side`` ('top' or 'bottom'), ``rank, id, influence`` and, where they were kept, ``tokens`` (float32 list: the example's
token scores for this query) with their ``decomposition``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError
from infra.report.encode import plain
from infra.report.explorer.index import RunIndex
from infra.report.explorer.links import answer_of, raised_by
from infra.report.explorer.search import few_words

COLUMNS = ("query", "target", "text", "side", "rank", "id", "influence")


def has_queries(run: RunIndex) -> bool:
    """Whether the run kept per-query tops and bottoms."""
    return _file(run).is_file()


def find_queries(run: RunIndex, search: str = "", target: str = "", offset: int = 0, limit: int = 50) -> dict[str, Any]:
    """``{"total", "rows": [{query, target, text, best, worst}]}``: the queries whose text holds every word.

    Words in quotes must stand next to each other.
    """
    con = _ready(run)
    pieces = search.lower().split('"')
    few_words(search.lower().split())
    words = [w for piece in pieces[::2] for w in piece.split()] + [p.strip() for p in pieces[1::2] if p.strip()]
    where = " AND ".join(
        ["true", *("lower(text) LIKE '%' || ? || '%'" for _ in words), *(["target = ?"] if target else [])]
    )
    values: list[Any] = [*words, *([target] if target else [])]
    base = f"FROM query_texts WHERE {where}"
    rows = con.execute(
        f"SELECT query, target, left(text, 200), best, worst {base} ORDER BY query LIMIT ? OFFSET ?",
        [*values, limit, offset],
    ).fetchall()
    total = con.execute(f"SELECT count(*) {base}", values).fetchone()
    names = ("query", "target", "text", "best", "worst")
    return {"total": total[0] if total else 0, "rows": [dict(zip(names, map(plain, r))) for r in rows]}


def open_query(run: RunIndex, query: str) -> dict[str, Any]:
    """The query's text, its most helpful and least helpful examples, and its answer with the steps that raised it.

    Raises :class:`InputError` when unknown.
    """
    con = _ready(run)
    head = con.execute("SELECT target, text FROM query_texts WHERE query = ?", [query]).fetchone()
    if head is None:
        raise InputError(f"this run has no query '{query}'")
    rows = con.execute(
        "SELECT r.side, r.rank, r.id, r.influence, e.preview FROM query_rows r LEFT JOIN examples e ON e.id = r.id "
        "WHERE r.query = ? ORDER BY r.side DESC, r.rank",
        [query],
    ).fetchall()
    names = ("side", "rank", "id", "influence", "preview")
    return {
        "query": query,
        "target": head[0],
        "text": plain(head[1]),
        "rows": [dict(zip(names, map(plain, r))) for r in rows],
        "answer": answer_of(run, query),
    }


def queries_of(run: RunIndex, id_: str) -> list[dict[str, Any]]:
    """The queries that have an example among their top or bottom, and what its steps raise in them: the way back."""
    if not has_queries(run):
        return []
    rows = (
        _ready(run)
        .execute(
            "SELECT r.query, q.target, r.side, r.rank, r.influence, left(q.text, 160) FROM query_rows r "
            "JOIN query_texts q USING (query) WHERE r.id = ? ORDER BY r.rank LIMIT 200",
            [id_],
        )
        .fetchall()
    )
    names = ("query", "target", "side", "rank", "influence", "text")
    raised = raised_by(run, id_)
    return [{**dict(zip(names, map(plain, r))), "units": raised.get(r[0], [])} for r in rows]


def query_tokens(run: RunIndex, query: str, id_: str) -> tuple[str, float, NDArray[np.float32]] | None:
    """Decomposition, influence and token scores ``[T]`` of an example for a query, where the run kept them."""
    if not has_queries(run):
        return None
    con = run.cursor()
    file = str(_file(run))
    names = {d[0] for d in con.execute("DESCRIBE SELECT * FROM read_parquet(?)", [file]).fetchall()}
    if "tokens" not in names:
        return None
    kind = "decomposition" if "decomposition" in names else "'loss'"
    row = con.execute(
        f"SELECT {kind}, influence, tokens FROM read_parquet(?) WHERE query = ? AND id = ? LIMIT 1", [file, query, id_]
    ).fetchone()
    if row is None or row[2] is None:
        return None
    return str(row[0]), float(row[1]), np.asarray(row[2], dtype=np.float32)


def _file(run: RunIndex) -> Path:
    return run.paths.query_scores


def _ready(run: RunIndex) -> Any:
    """A cursor with ``query_rows`` and ``query_texts`` made."""
    if not has_queries(run):
        raise InputError("this run kept no scores of single queries; set scores.query_top and run it again")
    con = run.cursor()
    with run.making:
        _make(con, str(_file(run)))
    return con


def _make(con: Any, file: str) -> None:
    if not con.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'query_texts'").fetchone():
        con.execute(
            "CREATE OR REPLACE TABLE query_rows AS SELECT query, side, rank, id, influence FROM read_parquet(?) "
            "ORDER BY query, side, rank",
            [file],
        )
        con.execute(
            "CREATE OR REPLACE TABLE query_texts AS SELECT query, any_value(target) AS target, "
            "any_value(text) AS text, max(influence) AS best, min(influence) AS worst "
            "FROM read_parquet(?) GROUP BY query ORDER BY query",
            [file],
        )
