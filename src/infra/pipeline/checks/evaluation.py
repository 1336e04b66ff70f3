"""Checks of `infra eval`, before a model is loaded or a server asked for answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from infra.data import Message, Record, iter_tokenize
from infra.errors import InfraError, InputError, ResourceError
from infra.evals import EvalSettings, get_task
from infra.evals.sandbox import choose
from infra.models import Limits, load_tokenizer, model_folder
from infra.models.device import check_device
from infra.models.generation import answers_at
from infra.models.skeleton import check_files, skeleton
from infra.pipeline.checks.place import folder_problems
from infra.pipeline.checks.room import memory_on
from infra.pipeline.checks.run import Check, problems, refuse

WRITTEN = ("summary.json", "generations.jsonl")
"""Files by which a folder is known as an earlier evaluation's."""


@dataclass
class Evaluation:
    """What `infra eval` is about to do. ``asked``: the problems of each task, as :func:`tasks` found them."""

    model: str
    out: Path
    settings: EvalSettings
    server: str | None = None
    device: str = "cpu"
    offline: bool = False
    asked: dict[str, list[Record]] = field(default_factory=dict)


def output_folder(e: Evaluation) -> Iterator[InfraError]:
    """Results can be written, and the folder is nobody else's."""
    yield from folder_problems(e.out, lambda folder: any((folder / name).exists() for name in WRITTEN))


def tasks(e: Evaluation) -> Iterator[InfraError]:
    """Every task is known and its problems can be read."""
    for name in e.settings.tasks:
        try:
            task = get_task(name, e.settings.paths.get(name))
            options = {k: v for k, v in e.settings.options.items() if k in task.options}
            e.asked[name] = task.load(limit=e.settings.limit, **options)
        except InfraError as error:
            yield error


def sandbox(e: Evaluation) -> None:
    """Where code will be graded, a sandbox works or was waived."""
    if any(p.tests is not None for found in e.asked.values() for p in found):
        choose(e.settings.unsafe_execution)


def server(e: Evaluation) -> None:
    """The server that answers can be reached."""
    if e.server is not None and not e.offline:
        answers_at(e.server)


def device(e: Evaluation) -> None:
    """The device is here."""
    if e.server is None:
        check_device(e.device)


def model(e: Evaluation) -> Iterator[InfraError]:
    """The model is there whole, fits in memory, and has room for the prompts and their answers."""
    folder = None if e.server is not None else model_folder(e.model, fetch=not e.offline)
    if folder is None:
        return
    check_files(folder)
    size = sum(p.numel() * p.element_size() for p in skeleton(folder).parameters())
    free = memory_on(e.device)
    if free is not None and size > free:
        yield ResourceError(f"the model takes {size / 1e9:.1f} GB on {e.device}, and {free / 1e9:.1f} GB are free")
    positions, room = Limits.of_folder(folder).positions, e.settings.sampling.max_new_tokens
    if positions is None:
        return
    tokenizer = load_tokenizer(folder)
    for name, found in e.asked.items():
        asked = [replace(p, messages=(*p.prompt, Message("assistant", "?"))) for p in found]
        lengths = {x.id: len(x) for x in iter_tokenize(asked, tokenizer, max_length=None, on_error="skip")}
        longest = max(lengths, key=lengths.__getitem__, default=None)
        if longest is not None and lengths[longest] + room > positions:
            yield InputError(
                f"task {name}: problem {longest} has {lengths[longest]:,} tokens and an answer up to {room:,}, more "
                f"than the model's {positions:,} positions; give --max-new-tokens "
                f"{max(1, positions - lengths[longest])}"
            )


EVAL_CHECKS: tuple[Check[Evaluation], ...] = (output_folder, tasks, sandbox, server, device, model)


def check_evaluation(evaluation: Evaluation) -> None:
    """Raise one error that lists every problem of an evaluation that is about to run; nothing is written."""
    refuse(problems(evaluation, EVAL_CHECKS))
