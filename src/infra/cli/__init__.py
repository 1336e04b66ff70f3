"""The command line: nothing but parsing and printing. One file a command; this one lists them.

Exit codes: 0 done; 1 an error of the environment; 2 bad input or recipe (also wrong usage); 3 a damaged or foreign
artifact; 4 a model that cannot be used as asked; 5 out of memory, disk or time; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from infra import __version__
from infra.cli import data, doctor, eval, fetch, grade, plan, run, score, select, validate, view
from infra.errors import InfraError

MORE = "More commands"

app = typer.Typer(
    name="infra",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Which training data makes a language model reason better at math and code, down to the step and the token.",
)

app.command("run")(run.run)
app.command("score")(score.score)
app.command("select")(select.select)
app.command("validate")(validate.validate)
app.command("view")(view.view)
app.command("eval")(eval.evaluate)
app.command("data")(data.data)
app.command("plan")(plan.plan)
app.command("doctor")(doctor.doctor)
app.command("grade", rich_help_panel=MORE)(grade.grade)
app.command("fetch", rich_help_panel=MORE)(fetch.fetch)
app.command("work", rich_help_panel=MORE)(run.work)


def print_version(asked: bool) -> None:
    """Print the version and end, where it was asked for."""
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Entry point: errors a user can act on are one sentence and an exit code, never a traceback."""
    try:
        app(standalone_mode=True)
    except InfraError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
