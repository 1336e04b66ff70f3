"""The command line: nothing but parsing and printing.

Exit codes: 0 done; 1 an error of the environment; 2 bad input or recipe (also wrong usage); 3 a damaged or foreign
artifact; 4 a model that cannot be used as asked; 5 out of memory, disk or time; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra import __version__
from infra.errors import InfraError, InputError
from infra.parallel.world import world

if TYPE_CHECKING:
    from infra.pipeline.recipe import Recipe

app = typer.Typer(
    name="infra",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Which training data makes a language model reason better at math and code, down to the step and the token.",
)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the block with one sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nstopped; nothing finished is lost, and the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None


def print_plan(settings: Recipe, folder: Path) -> None:
    """The dry run: what is needed, and every stage with its state. Raises InputError when a file is missing."""
    from rich.console import Console
    from rich.table import Table

    from infra.pipeline import plan_table, stages_of
    from infra.pipeline.needs import MISSING, needs_table
    from infra.store import RunFolder

    needs, plan = Table("needed", title=settings.name), Table("stage", "state", "reads")
    needs.add_column("where", overflow="fold")
    needs.add_column("state")
    found = needs_table(settings)
    for row in found:
        needs.add_row(*row)
    for row in plan_table(stages_of(settings, folder, fetch=False), RunFolder(folder)):
        plan.add_row(*row)
    plan.title = f"{plan.row_count} stages -> {folder}"
    console = Console()
    console.print(needs)
    console.print(plan)
    if missing := [where for _, where, state in found if state == MISSING]:
        raise InputError(f"{', '.join(missing)}: no such file; give it with --set data.sources.0.path=FILE or the like")
    print("the recipe is valid; nothing was run")


DEFAULT_RECIPE = Path(__file__).parents[1] / "world" / "default.yaml"
QUICK_RECIPE = Path(__file__).parents[1] / "world" / "quick.yaml"


@app.command()
def run(
    recipe: Annotated[
        Path | None, typer.Argument(help="A YAML recipe; without one, the embedded world.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder. Default: runs/<recipe's name>.", show_default=False)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smoke test of under two minutes: too small to conclude from.")
    ] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help="SFT seeds per arm, 0..n-1.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything else.", show_default=False)] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="First N training and pool records per domain.", show_default=False)
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: sft.epochs=1, data.sources.0.path=mine.jsonl. Repeatable."),
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Also measure by retraining how well the scores predict it (LDS).")
    ] = False,
    validate_minutes: Annotated[
        float, typer.Option(min=0.1, help="Time of its own for --validate; what does not fit is left out or refused.")
    ] = 30.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, what it needs and what is already done; run nothing.")
    ] = False,
) -> None:
    """The whole job: evaluate, fine-tune, attribute, reweight with controls, retrain, report.

    Finished stages are skipped, so the same command goes on after Ctrl-C, a crash or a kill.
    """
    from infra.pipeline.recipe import load_recipe, validation_settings

    if quick and recipe is not None:
        raise InputError("--quick is the embedded smoke test; with a recipe of your own use --limit and --seeds")
    path = recipe or (QUICK_RECIPE if quick else DEFAULT_RECIPE)
    settings = load_recipe(
        path, changes=changes or (), seeds=seeds, seed=seed, data=None if limit is None else {"limit": limit}
    )
    if validate:
        own = settings.validation or validation_settings()
        settings = settings.model_copy(update={"validation": own.model_copy(update={"minutes": validate_minutes})})
    folder = out or Path("runs") / settings.name
    from infra.pipeline import run_recipe

    if dry_run:
        print_plan(settings, folder)
        return
    with interruptible():
        report = run_recipe(settings, folder)
    if not world().first:
        return
    from infra.report import print_summary
    from infra.store import read_json

    print_summary(read_json(folder / "summary.json"))
    print(f"report: {report}\nsummary: {folder / 'summary.json'}")


@app.command()
def score(
    model: Annotated[str, typer.Option(help="Fine-tuned causal language model: folder or Hugging Face id.")],
    train: Annotated[Path, typer.Option(help="Training data to score: JSONL, JSON or Parquet.")],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    queries: Annotated[
        Path | None,
        typer.Option(help="Correct responses the targets are made of; one target a domain.", show_default=False),
    ] = None,
    directions: Annotated[
        Path | None, typer.Option(help="Use the directions of this earlier run instead of queries.", show_default=False)
    ] = None,
    tracked: Annotated[
        str, typer.Option(help="Weights that count: mlp, attention, all, or a pattern over names.")
    ] = "mlp",
    damping: Annotated[float, typer.Option(min=1e-12, help="Damping, times the mean corrected eigenvalue.")] = 0.1,
    max_length: Annotated[int, typer.Option(min=8, help="Longest example in tokens.")] = 4096,
    on_error: Annotated[str, typer.Option(help="raise, or skip: pass over bad rows and list them.")] = "raise",
    limit: Annotated[
        int | None, typer.Option(min=1, help="First N training records per domain.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float64.")] = "float32",
    seed: Annotated[int, typer.Option(help="Seed of sampled labels and bootstraps.")] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change any setting of a recipe: scale.fsdp=true, threads=1. Repeatable."),
    ] = None,
) -> None:
    """Attribute an existing model: the influence of every training example, step and token. Trains nothing."""
    from infra.pipeline.score import run_score, score_recipe

    if (queries is None) == (directions is None):
        raise InputError("give either --queries FILE or --directions RUN")
    recipe = score_recipe(
        str(train),
        None if queries is None else str(queries),
        changes or (),
        seed=seed,
        data={"max_length": max_length, "on_error": on_error, **({"limit": limit} if limit else {})},
        model={"base": model, "device": device, "dtype": dtype},
        curvature={"tracked": tracked, "damping": damping},
    )
    with interruptible():
        report = run_score(recipe, out, directions)
    if not world().first:
        return
    print(f"report: {report}\nscores: {out / 'scores' / 'examples.parquet'}")


@app.command()
def work(
    run: Annotated[Path, typer.Argument(help="Folder of a run that is under way.")],
    threads: Annotated[int | None, typer.Option(min=1, help="As in the run, for the same bytes.")] = None,
) -> None:
    """Help a run that is under way, from this machine or another that sees its folder. May come and go at any time."""
    from infra.parallel.launch import work_beside
    from infra.parallel.settings import Runtime

    with interruptible():
        print(f"{work_beside(run, Runtime(threads=threads))} tasks done here")


@app.command("eval")
def evaluate_model(
    model: Annotated[
        str, typer.Option(help="Model folder or Hugging Face id; with --server, the served model's name.")
    ],
    tasks: Annotated[str, typer.Option(help="Comma-separated names, each with an optional file: gsm8k,math500=FILE.")],
    out: Annotated[Path, typer.Option(help="Folder for rows.parquet, accuracy.json and the resumable cache.")],
    limit: Annotated[int | None, typer.Option(min=1, help="First N problems of each task.", show_default=False)] = None,
    n: Annotated[int, typer.Option(min=1, help="Samples per problem.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0)] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 2048,
    seed: Annotated[int, typer.Option()] = 0,
    system: Annotated[str | None, typer.Option(help="System prompt.", show_default=False)] = None,
    thinking_prefix: Annotated[str, typer.Option(help="Text every response is made to begin with.")] = "",
    mode: Annotated[str, typer.Option(help="Code grader: strict, or compatible with LiveCodeBench's.")] = "strict",
    option: Annotated[
        list[str] | None,
        typer.Option(help="Of a task's loader: release=v4_v6, start=2024-08-01, part=test.", show_default=False),
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Base URL of an OpenAI-compatible server.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    unsafe_execution: Annotated[
        bool, typer.Option("--unsafe-execution", help="Run code with no sandbox at all.")
    ] = False,
) -> None:
    """Accuracy of a model on benchmarks: pass@k, avg@k and intervals; killed, it goes on from its cache."""
    from infra.evals import EvalSettings
    from infra.models.generation import Sampling
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
    with interruptible():
        summary = evaluate_tasks(model, out, settings, server=server, device=device)
    if summary:  # rank 0's
        print_accuracy(summary)


@app.command()
def data(
    file: Annotated[str, typer.Argument(help="File, folder or hub id.")],
    schema: Annotated[str, typer.Option(help="An adapter's name; auto detects it.")] = "auto",
    benchmarks: Annotated[str, typer.Option(help="Look for leaks into these: gsm8k=FILE,math500=FILE.")] = "",
    figure: Annotated[Path | None, typer.Option(help="Write a figure: .svg, .pdf or .png.", show_default=False)] = None,
    on_error: Annotated[str, typer.Option(help="raise, or skip: pass over bad rows and list them.")] = "raise",
    limit: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    ngram: Annotated[int, typer.Option(min=3, help="Words in a row that make a leak.")] = 13,
    drop_leaks: Annotated[bool, typer.Option("--drop-leaks", help="Leave leaking records out of --out.")] = False,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Leave whole copies out of --out (same question and response).")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the records: .parquet or .jsonl.", show_default=False)] = None,
) -> None:
    """Show a data set: counts, lengths, attributes, duplicates, and leaks into benchmarks; and clean it."""
    from infra.pipeline.standalone import describe_data, write_clean

    if (drop_leaks or drop_duplicates) and out is None:
        raise InputError("--drop-leaks and --drop-duplicates need --out FILE to write what is left")
    if drop_leaks and not benchmarks:
        raise InputError("--drop-leaks needs --benchmarks, such as gsm8k=FILE,math500=FILE")
    records, summary = describe_data(
        file, schema, [b for b in benchmarks.split(",") if b], figure, on_error, limit, ngram
    )
    if out is not None:
        write_clean(records, summary, out, leaks=drop_leaks, duplicates=drop_duplicates)


@app.command()
def validate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Time budget; the plan is sized to fit it.")] = 30.0,
    subsets: Annotated[int, typer.Option(min=2, help="Random subsets per protocol.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Fresh orders and seeds per subset for seed_mean.")] = 3,
    kinds: Annotated[
        str, typer.Option(help="What is removed: half,drop1,token,step_mask,step_delete. Default: what fits.")
    ] = "",
    methods: Annotated[
        str, typer.Option(help="Compared with the run's own scores; docs/validation.md lists them.")
    ] = "random,length,loss,gradient",
    accuracy: Annotated[
        int, typer.Option(min=0, help="Held-out problems a task answered after each half-subset retrain.")
    ] = 0,
    compile: Annotated[
        bool, typer.Option("--compile", help="Fuse the training passes: for hundreds of retrains; needs g++.")
    ] = False,
) -> None:
    """Check a run's scores by retraining on random subsets (LDS). Writes RUN/validation and the report again."""
    from rich.console import Console
    from rich.table import Table

    from infra.pipeline.recipe import validation_settings
    from infra.pipeline.validity import validate_finished

    settings = validation_settings(
        minutes=minutes,
        subsets=subsets,
        seeds=seeds,
        kinds=kinds.split(",") if kinds else None,
        methods=methods.split(","),
        accuracy_problems=accuracy,
        compile=compile,
        required=True,
    )
    with interruptible():
        found = validate_finished(run, settings)
    table = Table(*map(str, found.columns))
    for row in found.itertuples(index=False):
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row))
    Console().print(table)


@app.command()
def plan(
    recipe: Annotated[
        Path | None, typer.Argument(help="A YAML recipe; without one, the embedded world.", show_default=False)
    ] = None,
    device: Annotated[
        str, typer.Option(help="h100, h200, a100, l40s, cpu (calibrated now), or memory=80e9,flops=400e12,...")
    ] = "cpu",
    devices: Annotated[int, typer.Option(min=1, help="Devices that share each stage.")] = 1,
    model: Annotated[
        str | None,
        typer.Option(help="In place of the recipe's: a folder, a known name, or 7.6e9 parameters.", show_default=False),
    ] = None,
    examples: Annotated[int | None, typer.Option(min=1, help="Training examples.", show_default=False)] = None,
    pool: Annotated[int | None, typer.Option(min=0, help="Pool examples.", show_default=False)] = None,
    length: Annotated[float | None, typer.Option(min=1, help="Tokens of an example.", show_default=False)] = None,
    queries: Annotated[int | None, typer.Option(min=1, help="Target responses.", show_default=False)] = None,
    folds: Annotated[
        int | None, typer.Option(min=1, help="Query folds, where their number is known.", show_default=False)
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Compare the plan with this finished run instead.", show_default=False)
    ] = None,
) -> None:
    """Memory, disk, operations and hours of each stage, and settings that fit: before anything is loaded."""
    from infra import plan as planning
    from infra.pipeline.recipe import load_recipe
    from infra.plan import show

    if check is not None:
        show.checked(*planning.check(check, None if device == "cpu" else planning.device_of(device)))
        return
    settings = load_recipe(recipe or DEFAULT_RECIPE)
    shape = planning.shape_of_recipe(settings, model)
    amounts = planning.amounts_of(settings, examples, pool, length, queries, folds)
    chosen = planning.device_named(device, planning.Costs(settings, shape, amounts))
    show.planned(planning.plan(settings, shape, amounts, chosen, devices))


@app.command()
def view(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    compare: Annotated[Path | None, typer.Option(help="A second run to compare with.", show_default=False)] = None,
    host: Annotated[
        str, typer.Option(help="Address to bind; anything but localhost is open to the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
) -> None:
    """Explore a run of any size in the browser: filter, search, sort, coloured tokens."""
    from infra.report import serve

    serve(run, host, port, compare)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Entry point: errors a user can act on are one sentence and an exit code, never a traceback."""
    try:
        app(standalone_mode=True)
    except InfraError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
