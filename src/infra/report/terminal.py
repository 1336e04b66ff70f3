"""A run in the terminal: the answer in sentences, and small tables under it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.data import is_whole
from infra.report.data import ReportData
from infra.report.sections import answer, caveats, trust
from infra.report.sections.accuracy import over_seeds
from infra.report.sections.contrasts import detectable, interval
from infra.report.sections.top import READ_BY, reading
from infra.report.wording import contrast_name, is_number, number, percent, points, set_name, signed

_TONES = {"up": "blue", "down": "dark_orange", "open": "dim", "plain": "default"}


def print_summary(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the answer, how far to trust it, what to beware of, the ends of the ranking, accuracies, contrasts and
    predicted against measured.

    ``results`` is the content of ``summary.json`` or ``results.json``; tables that are not in it are left out.
    """
    console = console or Console()
    inner = results["results"] if isinstance(results.get("results"), Mapping) else results
    rows = inner.get("tables")
    tables = {name: pd.DataFrame(t) for name, t in rows.items()} if isinstance(rows, Mapping) else {}
    data = ReportData(str(inner.get("name", "run")), bool(inner.get("quick")), (), inner, tables)
    console.print(f"\n[bold]{escape(data.title)}[/bold]")
    for sentence in answer(data):
        console.print(f"  [{_TONES[sentence.tone]}]•[/] {escape(sentence.text)}", highlight=False)
    for name, text in trust(data) if tables else ():
        console.print(f"  [dim]{escape(name)}.[/] {escape(text)}", highlight=False)
    for note in caveats(data):
        console.print(f"  [yellow]![/] {escape(note)}", highlight=False)
    for build in (_top, _accuracy, _contrasts, _arms, _definitions, _stages):
        shown = build(tables, results)
        if shown is not None:
            console.print(shown)


def _table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0)
    return made


def _has(tables: Mapping[str, pd.DataFrame], name: str) -> bool:
    return name in tables and len(tables[name]) > 0


def _top(tables: Mapping[str, pd.DataFrame], _: Mapping[str, Any]) -> Table | None:
    """The first and the last three of each whole target."""
    if not _has(tables, "top"):
        return None
    columns = ("example", "target", "reads as", "percentile", "sd", "influence, nats", "95% interval")
    made = _table("Most and least helpful examples", *columns)
    made.caption, made.caption_justify = READ_BY, "left"
    top = tables["top"]
    for row in top[(top["rank"] <= 3) & top["target"].astype(str).map(is_whole)].to_dict("records"):
        made.add_row(
            escape(str(row["id"])),
            escape(str(row["target"])),
            reading(pd.Series(row)),
            number(row.get("percentile")),
            signed(row.get("standardised"), 2) if is_number(row.get("standardised")) else "–",
            signed(row["influence"]),
            escape(f"[{number(row['low'])}, {number(row['high'])}]") if is_number(row.get("low")) else "–",
        )
    return made


def _accuracy(tables: Mapping[str, pd.DataFrame], _: Mapping[str, Any]) -> Table | None:
    if not _has(tables, "accuracy"):
        return None
    means = over_seeds(tables["accuracy"], ["arm", "task"])
    tasks = list(dict.fromkeys(means["task"]))
    made = _table("Held-out accuracy, mean over seeds", "training set", *map(str, tasks))
    for arm in dict.fromkeys(means["arm"]):
        mine = means[means["arm"] == arm].set_index("task")
        cells = []
        for task in tasks:
            if task not in mine.index:
                cells.append("–")
                continue
            row = mine.loc[task]
            reach = f" [{percent(row['low'])}, {percent(row['high'])}]" if is_number(row["low"]) else ""
            cells.append(escape(percent(row["accuracy"]) + reach))
        made.add_row(escape(set_name(str(arm))), *cells)
    return made


def _contrasts(tables: Mapping[str, pd.DataFrame], _: Mapping[str, Any]) -> Table | None:
    if not _has(tables, "contrasts"):
        return None
    made = _table("Contrasts of accuracy, points (* primary)", "contrast", "task", "difference", "interval", "MDE")
    for _index, row in tables["contrasts"].iterrows():
        name = contrast_name(str(row["contrast"])) + (" *" if row["role"] == "primary" else "")
        reach = interval(row["low"], row["high"]) if is_number(row["low"]) else "–"
        made.add_row(
            escape(name),
            escape(str(row["task"])),
            points(row["difference"]),
            escape(reach),
            points(detectable(row), sign=False),
        )
    return made


def _arms(tables: Mapping[str, pd.DataFrame], _: Mapping[str, Any]) -> Table | None:
    if not _has(tables, "arms"):
        return None
    made = _table("Change of f: predicted and measured", "training set", "target", "predicted", "measured", "interval")
    for row in tables["arms"].to_dict("records"):
        if not is_whole(str(row["target"])):
            continue
        reach = f"[{number(row['f_low'])}, {number(row['f_high'])}]" if is_number(row["f_low"]) else "–"
        made.add_row(
            escape(set_name(str(row["arm"]))),
            escape(str(row["target"])),
            signed(row["predicted"]),
            signed(row["measured_f"]),
            escape(reach),
        )
    return made


def _definitions(tables: Mapping[str, pd.DataFrame], _: Mapping[str, Any]) -> Table | None:
    if not _has(tables, "step_definitions"):
        return None
    columns = ("target", "steps of", "steps", "ρ", "interval", "ρ within examples", "ρ per token")
    made = _table("A step masked against the step deleted, rank agreement", *columns)
    for row in tables["step_definitions"].to_dict("records"):
        reach = f"[{number(row['low'], 2)}, {number(row['high'], 2)}]" if is_number(row["low"]) else "–"
        made.add_row(
            escape(str(row["target"])),
            escape(str(row["domain"])),
            str(row["n_steps"]),
            number(row["rho"], 2),
            escape(reach),
            number(row["rho_within"], 2),
            number(row["rho_per_token"], 2),
        )
    return made


def _stages(_: Mapping[str, pd.DataFrame], results: Mapping[str, Any]) -> Table | None:
    runtime = results.get("runtime")
    stages = runtime.get("stages") if isinstance(runtime, Mapping) else None
    if not isinstance(stages, Mapping) or not stages:
        return None
    made = _table("Stages", "stage", "seconds", "peak GiB")
    longest = sorted(stages.items(), key=lambda kv: -kv[1]["seconds"])[:8]
    for name, cost in longest:
        made.add_row(escape(name), f"{cost['seconds']:.1f}", f"{cost['peak_memory_bytes'] / 2**30:.2f}")
    if len(stages) > len(longest):
        rest = sum(c["seconds"] for c in stages.values()) - sum(c["seconds"] for _, c in longest)
        made.add_row(f"{len(stages) - len(longest)} others", f"{rest:.1f}", "")
    return made
