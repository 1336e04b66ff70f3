"""`infra grade`: verdicts on a file of responses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli._common import ADVANCED, interruptible


def grade(
    file: Annotated[Path, typer.Argument(help="Rows with responses: JSONL, JSON, CSV or Parquet, also gzipped.")],
    out: Annotated[Path, typer.Option(help="The same rows with verdicts: .jsonl, .jsonl.gz or .parquet.")],
    limit: Annotated[int | None, typer.Option(min=1, help="First N rows.", show_default=False)] = None,
    response: Annotated[
        str, typer.Option(rich_help_panel=ADVANCED, help="Column with the text to grade.")
    ] = "response",
    answer: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=ADVANCED,
            help="Column with the reference; default: answer, gold, ground_truth, ...",
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option(rich_help_panel=ADVANCED, help="Code grader: strict, or compatible with LiveCodeBench's.")
    ] = "strict",
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            rich_help_panel=ADVANCED,
            help="Seconds of one test; default 6 for code, 10 for math.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, rich_help_panel=ADVANCED, help="Processes; default: the processors, at most 8.", show_default=False
        ),
    ] = None,
    unsafe_execution: Annotated[
        bool, typer.Option("--unsafe-execution", rich_help_panel=ADVANCED, help="Run code with no sandbox at all.")
    ] = False,
) -> None:
    """Grade responses: rows with `response` and an `answer` or `tests` get `correct`, `outcome`, `extracted`, `why`.

    Stopped or killed, the same command goes on from where it was. Exit code 2 when rows could not be graded: the
    others are, and the first of those are named.
    """
    from infra.evals import GradeSettings, grade_file
    from infra.intervals import wilson
    from infra.progress import progress

    settings = GradeSettings(response, answer, mode, timeout, unsafe_execution)
    with interruptible(), progress(None, "grading", "row") as bar:
        found = grade_file(file, out, settings, limit=limit, workers=workers, progress=bar.advance)
    right = found.outcomes["correct"]
    low, high = wilson(right / found.rows, found.rows)
    print(f"{right} of {found.rows} correct ({right / found.rows:.1%}, 95% interval {low:.1%} to {high:.1%})")
    print(", ".join(f"{count} {name}" for name, count in sorted(found.outcomes.items())))
    if found.sandbox is not None:
        print(f"code ran in sandbox {found.sandbox}, mode {found.mode}")
    if found.resumed:
        print(f"{found.resumed} rows were graded before")
    print(f"verdicts: {out}")
    if count := found.outcomes["ungradable"]:
        print(f"{count} rows could not be graded; mend their reference or leave them out:")
        for line in found.ungradable:
            print(f"  {line}")
        raise typer.Exit(2)
