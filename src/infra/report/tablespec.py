"""How a table is shown: column labels, the kind of number in a column, rows for the page's script."""

from __future__ import annotations

from typing import Any

import pandas as pd

from infra.report.encode import plain
from infra.report.section import Table
from infra.report.sections import TABLES

_LABELS = {
    "p_holm": "p (Holm)",
    "n_problems": "problems",
    "n_seeds": "seeds",
    "mde": "min. detectable",
    "measured_f": "measured Δf",
    "f_low": "low",
    "f_high": "high",
    "measured_accuracy": "Δ accuracy (points)",
    "acc_low": "low (points)",
    "acc_high": "high (points)",
    "predicted": "predicted Δf",
    "overlap_n": "overlap n",
    "id": "example",
    "arm": "training set",
    "reading": "reads as",
    "influence": "influence (nats of f)",
    "rho": "Spearman ρ",
    "rho_within": "ρ within examples",
    "rho_per_token": "ρ per token",
    "n_steps": "steps",
    "n_rules": "by rules",
    "n_judge": "by judge",
    "n_examples": "examples",
    "n_permutations": "shuffles",
    "statistic": "largest |t|",
    "same_sign": "same sign",
}
_POINTS = {
    "difference": "difference (points)",
    "low": "low (points)",
    "high": "high (points)",
    "mde": "min. detectable (points)",
}
_COUNTS = """
    n seed overlap_n n_rest tried solved kept rank n_problems n_seeds step position n_steps n_examples
    n_permutations n_rules n_judge
"""
_INTEGERS = set(_COUNTS.split())
_LONG = {"preview", "statement", "evidence", "text", "question"}
_TINTED = {"effect", "influence", "difference", "predicted", "measured_f", "standardised"}


def known(name: str) -> Table:
    """The table of that name as a section declares it, or one with a title made from its name."""
    return TABLES.get(name) or Table(name)


def title(spec: Table) -> str:
    """The heading of a table."""
    return spec.title or spec.name.replace("_", " ").capitalize()


def kind(spec: Table, column: str) -> str:
    """How a column's values are printed: one of text, long, code, int, number, effect, percent, points, percentile."""
    if column in _INTEGERS:
        return "int"
    if column in _LONG:
        return "long"
    if column == "id":
        return "code"
    if column == "percentile":
        return "percentile"
    if column in spec.percent.split():
        return "percent"
    if column in spec.points.split():
        return "points"
    return "effect" if column in _TINTED or column.startswith("score_") else "number"


def _column(spec: Table, column: str, numeric: bool) -> dict[str, Any]:
    how = kind(spec, column)
    label = spec.labels.get(column) or (_POINTS.get(column) if how == "points" else None) or _LABELS.get(column)
    return {
        "key": column,
        "label": label or column.replace("_", " "),
        "kind": "text" if how == "number" and not numeric else how,
        "tinted": column in _TINTED or column.startswith("score_"),
    }


def table_spec(name: str, frame: pd.DataFrame, limit: int | None = None, spec: Table | None = None) -> dict[str, Any]:
    """What the page's script draws a table from; ``rows`` hold the exact values, for the CSV."""
    spec = spec or known(name)
    first = [c for c in spec.columns.split() if c in frame.columns]
    columns = first + [str(c) for c in frame.columns if c not in first]
    values = [[plain(v) for v in frame[c].tolist()] for c in columns]
    return {
        "name": name,
        "title": title(spec),
        "columns": [_column(spec, c, pd.api.types.is_numeric_dtype(frame[c])) for c in columns],
        "rows": [list(row) for row in zip(*values)] if len(frame) else [],
        "filters": spec.filters.split(),
        "limit": limit or spec.limit,
    }
