"""`infra score`: attribute a model that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli._common import ADVANCED, OFFLINE, interruptible
from infra.cli._dry_run import print_plan
from infra.errors import InputError
from infra.parallel.process_group import this_rank


def score(
    model: Annotated[str, typer.Option(help="Fine-tuned causal language model: folder or Hugging Face id.")],
    train: Annotated[Path, typer.Option(help="Training data to score: JSONL, JSON or Parquet.")],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    queries: Annotated[
        Path | None,
        typer.Option(help="Correct responses the targets are made of; one target a domain.", show_default=False),
    ] = None,
    directions: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=ADVANCED,
            help="Use the directions of this earlier run instead of queries.",
            show_default=False,
        ),
    ] = None,
    tracked: Annotated[
        str,
        typer.Option(
            rich_help_panel=ADVANCED, help="Weights that count: mlp, attention, all, or a pattern over names."
        ),
    ] = "mlp",
    warmup: Annotated[
        bool,
        typer.Option(
            "--warmup", help="Fine-tune the model shortly on the training data first, and score for that model."
        ),
    ] = False,
    method: Annotated[
        str,
        typer.Option(help="ekfac, gradient, trak, less, trackstar, bm25, ... or path/to/file.py:NAME for your own."),
    ] = "ekfac",
    tokens: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=ADVANCED,
            help="What targets and scores are over: content (what the author wrote), or all (the template's too).",
            show_default=False,
        ),
    ] = None,
    damping: Annotated[
        float, typer.Option(min=1e-12, rich_help_panel=ADVANCED, help="Damping, times the mean corrected eigenvalue.")
    ] = 0.1,
    max_length: Annotated[int, typer.Option(min=8, rich_help_panel=ADVANCED, help="Longest example in tokens.")] = 4096,
    on_error: Annotated[
        str, typer.Option(rich_help_panel=ADVANCED, help="raise, or skip: pass over bad rows and list them.")
    ] = "raise",
    limit: Annotated[
        int | None, typer.Option(min=1, help="First N training records per domain.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    dtype: Annotated[str, typer.Option(rich_help_panel=ADVANCED, help="float32, bfloat16 or float64.")] = "float32",
    seed: Annotated[int, typer.Option(rich_help_panel=ADVANCED, help="Seed of sampled labels and bootstraps.")] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            rich_help_panel=ADVANCED,
            help="Change any setting of a recipe: scale.fsdp=true, threads=1. Repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan and what is already done; run nothing.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", rich_help_panel=ADVANCED, help=OFFLINE)] = False,
) -> None:
    """Attribute a model: the influence of every training example, step and token. Only --warmup trains."""
    from infra.pipeline.score import run_score, score_recipe, score_stages, score_subject
    from infra.report import print_summary
    from infra.store import read_json

    if (queries is None) == (directions is None):
        raise InputError("give either --queries FILE or --directions RUN")
    recipe = score_recipe(
        str(train),
        None if queries is None else str(queries),
        changes or (),
        seed=seed,
        method=method,
        data={"max_length": max_length, "on_error": on_error, **({"limit": limit} if limit else {})},
        model={"base": model, "device": device, "dtype": dtype},
        curvature={"tracked": tracked, "damping": damping},
        **({"warmup": {}} if warmup else {}),
        **({"targets": {"tokens": tokens}, "scores": {"tokens": tokens}} if tokens else {}),
    )
    if dry_run:
        subject = score_subject(recipe, out, directions, offline=offline, fetch=False)
        print_plan(subject, lambda: score_stages(recipe, directions, out, fetch=False))
        return
    with interruptible():
        report = run_score(recipe, out, directions, offline)
    if not this_rank().first:
        return
    print_summary(read_json(out / "summary.json"))
    print(f"report: {report}\nscores: {out / 'scores' / 'examples.parquet'}")
    print(f"next:   infra select {out} --keep 0.8 --control length")
