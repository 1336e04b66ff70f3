"""`infra eval`: the accuracy of a model on benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli._common import ADVANCED, OFFLINE, interruptible
from infra.errors import InputError


def evaluate(
    model: Annotated[
        str, typer.Option(help="Model folder or Hugging Face id; with --server, the served model's name.")
    ],
    tasks: Annotated[str, typer.Option(help="Comma-separated names, each with an optional file: gsm8k,math500=FILE.")],
    out: Annotated[Path, typer.Option(help="Folder for rows.parquet, accuracy.json and the resumable cache.")],
    limit: Annotated[int | None, typer.Option(min=1, help="First N problems of each task.", show_default=False)] = None,
    n: Annotated[int, typer.Option(min=1, help="Samples per problem.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, rich_help_panel=ADVANCED, help="0 is greedy.")] = 0.0,
    top_p: Annotated[
        float,
        typer.Option(
            min=0.01, max=1.0, rich_help_panel=ADVANCED, help="Sample from the likeliest tokens of this share."
        ),
    ] = 1.0,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, rich_help_panel=ADVANCED, help="Tokens at which an answer is cut.")
    ] = 2048,
    seed: Annotated[int, typer.Option(rich_help_panel=ADVANCED, help="Seed of sampling.")] = 0,
    system: Annotated[
        str | None, typer.Option(rich_help_panel=ADVANCED, help="System prompt.", show_default=False)
    ] = None,
    thinking_prefix: Annotated[
        str, typer.Option(rich_help_panel=ADVANCED, help="Text every response is made to begin with.")
    ] = "",
    mode: Annotated[
        str, typer.Option(rich_help_panel=ADVANCED, help="Code grader: strict, or compatible with LiveCodeBench's.")
    ] = "strict",
    option: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=ADVANCED,
            help="Of a task's loader: release=v4_v6, start=2024-08-01, part=test.",
            show_default=False,
        ),
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Base URL of an OpenAI-compatible server.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    unsafe_execution: Annotated[
        bool, typer.Option("--unsafe-execution", rich_help_panel=ADVANCED, help="Run code with no sandbox at all.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything; ask the model nothing.")] = False,
    offline: Annotated[bool, typer.Option("--offline", rich_help_panel=ADVANCED, help=OFFLINE)] = False,
) -> None:
    """Accuracy of a model on benchmarks: pass@k, avg@k and intervals; killed, it goes on from its cache."""
    from infra.evals import EvalSettings
    from infra.models.generation import Sampling
    from infra.pipeline.checks import Evaluation, check_evaluation
    from infra.pipeline.standalone import evaluate_tasks, print_accuracy, split_options, split_paths

    if mode not in ("strict", "compatible"):
        raise InputError(f"--mode is {mode!r}; use strict or compatible")
    paths = split_paths(tasks.split(","))
    settings = EvalSettings(
        tasks=tuple(paths),
        sampling=Sampling(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, n=n),
        seed=seed,
        limit=limit,
        mode=mode,
        system=system,
        thinking_prefix=thinking_prefix,
        unsafe_execution=unsafe_execution,
        paths={name: path for name, path in paths.items() if path},
        options=split_options(option or [], list(paths)),
    )
    if dry_run:
        check_evaluation(Evaluation(model, out, settings, server, device, offline))
        print("everything that can be checked beforehand is in order; the model was asked nothing")
        return
    with interruptible():
        summary = evaluate_tasks(model, out, settings, server=server, device=device, offline=offline)
    if summary:  # rank 0's
        print_accuracy(summary)
