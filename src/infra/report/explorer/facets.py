"""What can be filtered: each value with its count under the other filters, numbers as ranges, scores as histograms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from infra.report.encode import plain
from infra.report.explorer.index import RunIndex
from infra.report.explorer.rows import Query, column_of, conditions, number_column

FACET_VALUES = 60
FACET_NUMBERS = 12
BINS = 40
TAIL = 0.005
"""Share of the scores beyond either end of a histogram; they lie in its outermost bins."""


def facets(run: RunIndex) -> list[dict[str, Any]]:
    """What can be filtered: for few values each with its count, for many numbers their range."""
    con = run.cursor()
    out = []
    for name, kind in run.columns.items():
        column = column_of(run, name)
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


def facet_counts(run: RunIndex, query: Query, names: list[str]) -> dict[str, list[list[Any]]]:
    """Column -> ``[[value, count], ...]`` among the examples that pass the search and all *other* filters.

    Columns without a filter of their own share one look at the examples.
    """
    con = run.cursor()
    free = [n for n in names if n not in query.equals]
    counted: dict[str, list[list[Any]]] = {n: [] for n in names}
    for group, asked in [(free, query)] * bool(free) + [
        ([n], replace(query, equals={k: v for k, v in query.equals.items() if k != n}))
        for n in names
        if n in query.equals
    ]:
        columns = [column_of(run, n) for n in group]
        where, values = conditions(run, con, asked)
        sets = ", ".join(f"({c})" for c in columns)
        texts = ", ".join(f"{c}::VARCHAR" for c in columns)
        rows = con.execute(
            f"SELECT grouping_id({', '.join(columns)}), count(*), {texts} FROM examples {where} "
            f"GROUP BY GROUPING SETS ({sets})",
            values,
        ).fetchall()
        places = {(1 << len(group)) - 1 - (1 << (len(group) - 1 - i)): i for i in range(len(group))}
        for which, n, *texts_of in rows:
            place = places[which]
            counted[group[place]].append([plain(texts_of[place]), n])
    return counted


def histogram(run: RunIndex, query: Query, column: str) -> dict[str, Any]:
    """``{"low", "high", "counts", "all"}``: a column's :data:`BINS` bins under the other filters, and without any.

    The bins reach over all but :data:`TAIL` of the examples at either end; what lies beyond is in the outermost bins.
    """
    con, name = run.cursor(), number_column(run, column)
    found = con.execute(
        f"SELECT quantile_cont({name}, ?)::DOUBLE, quantile_cont({name}, ?)::DOUBLE FROM examples "
        f"WHERE isfinite({name})",
        [TAIL, 1 - TAIL],
    ).fetchone()
    low, high = found if found and found[0] is not None else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    asked = replace(query, ranges={k: v for k, v in query.ranges.items() if k != column})
    out: dict[str, Any] = {"low": low, "high": high}
    for key, (where, values) in {"counts": conditions(run, con, asked), "all": ("", [])}.items():
        counts = [0] * BINS
        rows = con.execute(
            f"SELECT greatest(0, least(?, floor(({name} - ?) / ? * ?)))::INTEGER AS bin, count(*) FROM examples "
            f"{where} {'AND' if where else 'WHERE'} isfinite({name}) GROUP BY bin",
            [BINS - 1, low, high - low, BINS, *values],
        ).fetchall()
        for place, n in rows:
            counts[place] = n
        out[key] = counts
    return out
