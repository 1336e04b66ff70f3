"""Checks of benchmarks: they exist, their problems can be read, their answers fit, their code can be run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from infra.data import Message, Record
from infra.data.rows import is_hub_data
from infra.errors import InfraError, InputError
from infra.evals import get_task
from infra.evals.sandbox import choose
from infra.pipeline.checks.subject import Subject
from infra.pipeline.data import task_problems
from infra.pipeline.settings import TaskSettings


def _is_here(subject: Subject, settings: TaskSettings) -> bool:
    """Whether a task's problems are looked at: embedded ones have nothing to mend, others may have to be fetched."""
    where = settings.path or get_task(settings.name).source
    if where.startswith("infra.") or "records" in subject.done:
        return False
    return settings.path is not None or Path(where).exists() or (is_hub_data(where) and subject.fetch)


def problems_by_task(subject: Subject) -> dict[str, list[Record]]:
    """The problems of every benchmark that is here; one that cannot be read is left to :func:`tasks`."""
    found = subject.__dict__.setdefault("_problems", {})
    if not found:
        for settings in subject.recipe.tasks:
            try:
                if _is_here(subject, settings):
                    found[settings.label] = task_problems(subject.recipe, settings)
            except InfraError:
                continue
    return dict(found)


def tasks(subject: Subject) -> Iterator[InfraError]:
    """Every benchmark is known and has problems, those of targets some of the target part."""
    known = problems_by_task(subject)
    for i, settings in enumerate(subject.recipe.tasks):
        try:
            if settings.label not in known and _is_here(subject, settings):
                task_problems(subject.recipe, settings)
        except InfraError as error:
            yield type(error)(f"tasks.{i} ({settings.name}): {error}")
            continue
        splits = {p.attributes["split"] for p in known.get(settings.label, ())}
        if settings.target is not None and splits and "target" not in splits:
            yield InputError(
                f"tasks.{i} ({settings.name}) makes target '{settings.target}', and all its problems are held out; "
                f"give more problems, or leave its target out"
            )


def answers(subject: Subject) -> Iterator[InfraError]:
    """A target's answer fits in ``data.max_length`` behind its problem: it is tokenised like a training record."""
    recipe = subject.recipe
    if subject.tokenizer is None or recipe.data.on_error != "raise" or "targets" in subject.done or recipe.data.queries:
        return
    room = recipe.eval.max_new_tokens
    for settings in recipe.tasks:
        asked = [p for p in problems_by_task(subject).get(settings.label, ()) if p.attributes["split"] == "target"]
        if settings.target is None or not asked:
            continue
        opened = [_answered(p) for p in asked]
        longest = max((len(e) for e in subject.tokens(opened)), default=0)
        if longest + room > recipe.data.max_length:
            yield InputError(
                f"task {settings.name}: its longest target problem has {longest:,} tokens, and an answer up to "
                f"{room:,} (eval.max_new_tokens); together they exceed data.max_length {recipe.data.max_length:,}, so "
                f"target '{settings.target}' could fail after all answers are made: give "
                f"{subject.option('data.max_length', longest + room)}, or fewer eval.max_new_tokens"
            )


def _answered(problem: Record) -> Record:
    from dataclasses import replace

    return replace(problem, messages=(*problem.prompt, Message("assistant", "?")))


def _domain(name: str) -> str | None:
    """A task's domain; None for an unknown one, which :func:`tasks` names."""
    try:
        return get_task(name).domain
    except InfraError:
        return None


def sandbox(subject: Subject) -> None:
    """Where code will be graded, a sandbox works or was waived."""
    if any(_domain(t.name) == "code" for t in subject.recipe.tasks):
        choose(subject.recipe.eval.unsafe_execution)
