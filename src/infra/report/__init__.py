"""The page and the explorer: what a run found, down to the coloured tokens.

In a program, in the terminal, in a notebook, and as a local web site::

    render_report(ReportData("My run", results=..., tables={"effects": df}, examples=[...]), Path("report.html"))
    print_summary(read_json(run / "summary.json"))
    show_tokens(view, "math")
    load_run(folder).tables["effects"]
    serve(run)
"""

from __future__ import annotations

from pathlib import Path

from infra.report.data import ExampleView, ReportData
from infra.report.page import render_report
from infra.report.run import OpenRun, load_run
from infra.report.section import Figure, Section, Sentence, Table
from infra.report.sections import SECTIONS, TABLE_COLUMNS
from infra.report.terminal import print_summary
from infra.report.tokenmap import TokenMap, show_tokens

__all__ = [
    "SECTIONS",
    "TABLE_COLUMNS",
    "ExampleView",
    "Figure",
    "OpenRun",
    "ReportData",
    "Section",
    "Sentence",
    "Table",
    "TokenMap",
    "load_run",
    "print_summary",
    "render_report",
    "serve",
    "show_tokens",
]


def serve(run_dir: Path, host: str = "127.0.0.1", port: int = 7860, compare: Path | None = None) -> None:
    """Serve the explorer of a run until interrupted; see :func:`infra.report.explorer.serve`."""
    from infra.report.explorer import serve as serve_explorer

    serve_explorer(run_dir, host, port, compare)
