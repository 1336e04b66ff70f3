"""What `infra eval` and `infra data` do: single rooms used by themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.data import DataSummary, Record, drop, read_records, summarise, write_records
from infra.data.summary import summary_figure, summary_table
from infra.errors import InputError
from infra.evals import EvalSettings, get_task, run_eval
from infra.models import load_model, model_hash
from infra.models.generation import Generator, InProcess, OpenAIServer
from infra.parallel.generation import DistributedGenerator, generate_for_rank_0
from infra.parallel.process_group import init_process_group, this_rank
from infra.pipeline.checks import Evaluation, check_evaluation
from infra.progress import progress
from infra.store import write_json


def split_paths(names: Sequence[str]) -> dict[str, str]:
    """``name`` or ``name=FILE`` -> name and file ('' for none)."""
    pairs = (text.strip().partition("=") for text in names)
    return {name: path for name, _, path in pairs}


def split_options(texts: Sequence[str], tasks: Sequence[str]) -> dict[str, str]:
    """``name=value`` -> name and value. Raises ``InputError`` for a name that none of the tasks' loaders has."""
    if not texts:
        return {}
    known = sorted({name for task in tasks for name in get_task(task).options})
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise InputError(f"--option {text!r}: write name=value with one of {', '.join(known) or 'none'}")
        found[name] = value
    return found


def named_tasks(names: Sequence[str]) -> dict[str, list[Record]]:
    """The problems of each ``name`` or ``name=FILE``."""
    return {name: get_task(name, path=path or None).load() for name, path in split_paths(names).items()}


def evaluate_tasks(
    model: str,
    out: Path,
    settings: EvalSettings,
    *,
    server: str | None = None,
    device: str = "cpu",
    offline: bool = False,
) -> dict[str, Any]:
    """Evaluate a model in this process or behind a server. Returns the summary also written to ``out``.

    Everything cheap is checked first; ``offline`` asks nothing over the network for that.

    Under torchrun every process generates its share; the summary is rank 0's, and empty elsewhere.
    """
    if this_rank().first:
        check_evaluation(Evaluation(model, out, settings, server, device, offline))
    with init_process_group(device) as here:
        if server is not None:
            generator, identity = OpenAIServer(server, model), f"{server} {model}"
            return _evaluated(generator, identity, out, settings) if here.first else {}
        loaded, tokenizer = load_model(model, device=here.device(device))
        identity = model_hash(model)
        own = InProcess(loaded, tokenizer, identity=identity)
        if here.size == 1:
            return _evaluated(own, identity, out, settings)
        if not here.first:
            generate_for_rank_0(own)
            return {}
        shared = DistributedGenerator(own)
        summary = _evaluated(shared, identity, out, settings)
        shared.close()
        return summary


def _evaluated(generator: Generator, identity: str, out: Path, settings: EvalSettings) -> dict[str, Any]:
    with progress(None, "evaluating", "response") as bar:
        return run_eval(generator, settings, out, model_hash=identity, progress=bar.advance)


def print_accuracy(summary: Mapping[str, Any]) -> None:
    """A table of accuracies on the terminal, and what contained the programs."""
    from rich.console import Console
    from rich.table import Table

    from infra.evals.sandbox import describe

    shown = Table("task", "problems", "samples", "avg@k", "95% interval", "pass@k")
    for name, row in summary["tasks"].items():
        interval = f"[{row['accuracy']['low']:.3f}, {row['accuracy']['high']:.3f}]"
        best = row["pass_at_k"][max(row["pass_at_k"])]
        shown.add_row(name, str(row["n"]), str(row["k"]), f"{row['avg_at_k']:.3f}", interval, f"{best:.3f}")
    Console().print(shown)
    for sandbox in sorted({row["sandbox"] for row in summary["tasks"].values() if row["sandbox"]}):
        Console().print(f"code was run in: {describe(sandbox)}")


def describe_data(
    file: str,
    schema: str,
    benchmarks: Sequence[str],
    figure: Path | None,
    on_error: str,
    limit: int | None,
    ngram: int = 13,
) -> tuple[list[Record], DataSummary]:
    """Print a data set's summary and, where asked, write its figure. Returns the records and the summary."""
    from rich.console import Console

    if figure is not None:
        _check_figure(figure)
    if on_error not in ("raise", "skip"):
        raise InputError(f"--on-error is {on_error!r}; use raise or skip")
    result = read_records(file, schema=schema, limit=limit, on_error="skip" if on_error == "skip" else "raise")
    summary = summarise(
        result.records,
        path=file,
        schema=result.schema,
        skipped=result.skipped,
        unread=result.unread,
        benchmarks=named_tasks(benchmarks),
        n=ngram,
    )
    Console().print(summary_table(summary))
    if figure is not None:
        summary_figure(summary).savefig(figure, bbox_inches="tight")
        print(f"figure: {figure}")
    return result.records, summary


def _check_figure(figure: Path) -> None:
    """Raise InputError, before anything is read, where the figure could not be written in the end."""
    if figure.suffix.lower() not in (".svg", ".pdf", ".png"):
        raise InputError(f"--figure {figure}: a figure is written as .svg, .pdf or .png; change the file's ending")
    if not figure.parent.is_dir() or figure.is_dir() or not os.access(figure.parent, os.W_OK):
        raise InputError(f"--figure {figure} cannot be written: it needs a folder that is there and may be written to")


def write_clean(records: Sequence[Record], summary: DataSummary, out: Path, *, leaks: bool, duplicates: bool) -> None:
    """Write the records but those that leak into a benchmark or repeat another whole, and beside them the list.

    ``<out>.dropped.json`` holds for each record left out its id, why, and of what.
    """
    dropped: list[dict[str, str]] = []
    if duplicates:
        dropped += [{"id": d.id, "why": "duplicate", "of": d.of} for d in summary.duplicates if d.kind == "record"]
    if leaks:
        dropped += [
            {"id": leak.train_id, "why": f"{leak.kind} leak", "of": f"{name} {leak.eval_id}"}
            for name, found in summary.leaks.items()
            for leak in found
        ]
    kept = drop(records, [d["id"] for d in dropped])
    if not kept:
        raise InputError(f"{summary.path}: every record was dropped, so {out} is not written; raise --ngram")
    write_records(kept, out)
    listed = out.with_name(out.name + ".dropped.json")
    write_json(listed, dropped)
    print(f"written: {out} ({len(kept)} of {len(records)} records); left out: {listed}")
