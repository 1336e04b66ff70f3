"""The end of the page: settings, model, versions, what was dropped, and every other small fact of ``results``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from infra.report.data import ReportData, table

LISTS = ("leaks", "skipped")
_FIRST = ("settings", "model", "model_hash", "versions")
_NOT_SHOWN = ("question", "tables", *LISTS)
_MOST_ROWS = 400


def listed_tables(data: ReportData) -> dict[str, pd.DataFrame]:
    """The given tables that have rows, and ``leaks`` and ``skipped`` from the results or their settings."""
    tables = {name: frame for name, frame in data.tables.items() if table(data, name) is not None}
    settings = data.results.get("settings")
    for name in LISTS:
        rows = data.results.get(name)
        if rows is None and isinstance(settings, Mapping):
            rows = settings.get(name)
        if name not in tables and isinstance(rows, (list, tuple)) and rows:
            tables[name] = pd.DataFrame([r if isinstance(r, Mapping) else {name: str(r)} for r in rows])
    return tables


def run_facts(data: ReportData) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of (key, value) texts: settings, model and versions first, loose values last."""
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    loose: list[tuple[str, str]] = []
    hidden = {*_NOT_SHOWN, *data.tables}
    names = [*(n for n in _FIRST if n in data.results), *(k for k in data.results if k not in _FIRST)]
    for name in names:
        value = data.results[name]
        if name in hidden or value is None:
            continue
        if isinstance(value, Mapping):
            rows = flat({k: v for k, v in value.items() if k not in LISTS})
            groups += [(name.replace("_", " ").capitalize(), rows[:_MOST_ROWS])] if rows else []
        else:
            loose += flat(value, name)
    groups += [("Further", loose[:_MOST_ROWS])] if loose else []
    return groups or [("Settings", [("settings", "none were given")])]


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as dotted keys and short texts, in order."""
    if isinstance(value, Mapping):
        return [row for k, v in value.items() for row in flat(v, f"{prefix}.{k}" if prefix else str(k))]
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(v, Mapping) for v in value):
            return [row for i, v in enumerate(value[:12]) for row in flat(v, f"{prefix}[{i}]")]
        shown = ", ".join(map(str, value[:12]))
        return [(prefix, shown + (f", … ({len(value)} in all)" if len(value) > 12 else ""))]
    return [(prefix, "–" if value is None else str(value))]
