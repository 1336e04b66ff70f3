"""`infra run`, the whole job, and `infra work`, which helps a job that is under way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli._common import ADVANCED, DEFAULT_RECIPE, OFFLINE, QUICK_RECIPE, interruptible
from infra.cli._dry_run import print_plan
from infra.parallel.process_group import this_rank


def run(
    recipe: Annotated[
        Path | None, typer.Argument(help="A YAML recipe; without one, the embedded world.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder. Default: runs/<recipe's name>.", show_default=False)
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A sliver of the job, to see that everything works: too small to conclude from."),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=ADVANCED, help="SFT seeds per arm, 0..n-1.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(rich_help_panel=ADVANCED, help="Seed of everything else.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, rich_help_panel=ADVANCED, help="N training and pool records per domain.", show_default=False
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...", show_default=False)] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            rich_help_panel=ADVANCED,
            help="Change a setting: sft.epochs=1, data.sources.0.path=mine.jsonl. Repeatable.",
        ),
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Also measure by retraining how well the scores predict it (LDS).")
    ] = False,
    validate_minutes: Annotated[
        float,
        typer.Option(
            min=0.1,
            rich_help_panel=ADVANCED,
            help="Time of its own for --validate; what does not fit is left out or refused.",
        ),
    ] = 30.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan and what is already done; run nothing.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", rich_help_panel=ADVANCED, help=OFFLINE)] = False,
) -> None:
    """The whole job: evaluate, fine-tune, attribute, reweight with controls, retrain, report.

    Finished stages are skipped, so the same command goes on after Ctrl-C, a crash or a kill.
    """
    from infra.pipeline.quick import quick_changes
    from infra.pipeline.recipe import load_recipe, validation_settings

    path = recipe or (QUICK_RECIPE if quick else DEFAULT_RECIPE)
    options = {"model.device": device, "seeds": seeds, "seed": seed, "data.limit": limit}
    asked = [*(f"{key}={value}" for key, value in options.items() if value is not None), *(changes or ())]
    settings = load_recipe(path, changes=asked)
    if quick and recipe is not None:
        settings = load_recipe(path, changes=[*asked, *quick_changes(settings, asked)])
    if validate:
        own = settings.validation or validation_settings()
        settings = settings.model_copy(update={"validation": own.model_copy(update={"minutes": validate_minutes})})
    folder = out or Path("runs") / settings.name
    from infra.pipeline import run_recipe, run_subject, stages_of

    if dry_run:
        subject = run_subject(settings, folder, offline=offline, fetch=False)
        print_plan(subject, lambda: stages_of(settings, folder, fetch=False))
        return
    with interruptible():
        report = run_recipe(settings, folder, offline)
    if not this_rank().first:
        return
    from infra.report import print_summary
    from infra.store import read_json

    print_summary(read_json(folder / "summary.json"))
    print(f"report: {report}\nsummary: {folder / 'summary.json'}")


def work(
    run: Annotated[Path, typer.Argument(help="Folder of a run that is under way.")],
    threads: Annotated[int | None, typer.Option(min=1, help="As in the run, for the same bytes.")] = None,
) -> None:
    """Help a run that is under way, from this machine or another that sees its folder. May come and go at any time."""
    from infra.influence.steps.worker import work_of
    from infra.parallel.launch import Runtime, join_run

    with interruptible():
        print(f"{join_run(run, work_of, Runtime(threads=threads))} tasks done here")
