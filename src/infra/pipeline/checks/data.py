"""Checks of the data: rows, lengths, domains and attributes, with file and line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from infra.data import Record, overlaps
from infra.errors import InfraError, InputError
from infra.layout import EXPLAINED
from infra.models import Limits
from infra.pipeline.checks.subject import SourceRead, Subject
from infra.pipeline.data import under_system

LISTED = 20
"""Rows of one kind that a message names."""
COMPUTED = ("difficulty", "difficulty_band", "domain", "source", "n_tokens", "n_response_tokens")
"""Attributes that every example has without the data naming them."""


def listed(rows: Sequence[str], unit: str = "more") -> str:
    """The first rows, and how many there are besides."""
    rest = len(rows) - LISTED
    return "; ".join(rows[:LISTED]) + (f"; and {rest:,} {unit}" if rest > 0 else "")


def rows(subject: Subject) -> Iterator[InfraError]:
    """Every row can be read and ends in a response."""
    skip = subject.option("data.on_error", "skip")
    read = (*subject.sources, *subject.queries)
    yield from subject.unreadable
    for source in read:
        bad = [f"line {b.line}: {f'field {b.field!r}: ' if b.field else ''}{b.reason}" for b in source.result.skipped]
        if bad and subject.recipe.data.on_error == "raise":
            n = f"{len(bad):,} rows" if len(bad) > 1 else "a row"
            yield InputError(
                f"{source.settings.path}: {n} cannot be read: {listed(bad)}; mend them, or give {skip} to pass over "
                "them and list them"
            )
        mute = [source.where(r.id) for r in source.result.records if r.response is None]
        if mute:
            yield InputError(
                f"{source.settings.path}: {len(mute):,} records have no assistant turn: {listed(mute)}; give "
                f"{source.name} a file with responses"
            )


def lengths(subject: Subject) -> Iterator[InfraError]:
    """No record or query is longer than ``data.max_length``, or than the model can take."""
    if subject.tokenizer is None or not (subject.sources or subject.queries):
        return
    for source in (*subject.sources, *subject.queries):
        yield from _too_long(subject, source)
        yield from _beyond_context(subject, source)
    if subject.recipe.data.on_error == "skip":
        yield from _nothing_left(subject)


def _too_long(subject: Subject, source: SourceRead) -> Iterator[InfraError]:
    most, sizes = subject.recipe.data.max_length, subject.lengths[source.name]
    long = [r for r in source.result.records if sizes.get(r.id, 0) > most]
    if subject.recipe.data.on_error == "skip" or not long:
        return
    if source.name.startswith("data.sources"):  # a leaking record is left out before its length matters
        leaking = _leaking(subject, long)
        long = [r for r in long if r.id not in leaking]
    if long:
        longest = max(sizes[r.id] for r in long)
        remedy = f"{subject.option('data.max_length', longest)}, or {subject.option('data.on_error', 'skip')}"
        yield InputError(
            f"{len(long):,} of {len(sizes):,} records of {source.settings.path} are longer than {most:,} tokens "
            f"({subject.option('data.max_length', most)}): {_told(source, sizes, long)}; give {remedy} to pass "
            "over them"
        )


def _beyond_context(subject: Subject, source: SourceRead) -> Iterator[InfraError]:
    """Training refuses what is past the trained length of a model; a table of positions ends anyway."""
    assert subject.model is not None
    limits, most, sizes = Limits.of_folder(subject.model), subject.recipe.data.max_length, subject.lengths[source.name]
    context = limits.positions if EXPLAINED in subject.job.models else limits.trained
    beyond = [r for r in source.result.records if context is not None and context < sizes.get(r.id, 0) <= most]
    if beyond:
        remedy = f"{subject.option('data.max_length', context)} with {subject.option('data.on_error', 'skip')}"
        yield InputError(
            f"{len(beyond):,} records of {source.settings.path} exceed the model's context of {context:,} tokens: "
            f"{_told(source, sizes, beyond)}; give {remedy}"
        )


def _told(source: SourceRead, sizes: Mapping[str, int], records: Sequence[Record]) -> str:
    return listed([f"{source.where(r.id)} has {sizes[r.id]:,}" for r in records])


def _nothing_left(subject: Subject) -> Iterator[InfraError]:
    """Where long records are passed over, some must be left."""
    most = subject.recipe.data.max_length
    for what, kind in (("training record", "data.sources"), ("query", "data.queries")):
        sizes = subject.lengths_of(kind)
        if sizes and min(sizes) > most:
            yield InputError(
                f"every {what} is longer than {most:,} tokens, so none is left; give "
                f"{subject.option('data.max_length', max(sizes))}"
            )


def _leaking(subject: Subject, records: Sequence[Record]) -> set[str]:
    from infra.pipeline.checks.tasks import problems_by_task

    problems = [p for found in problems_by_task(subject).values() for p in found]
    return {leak.train_id for leak in overlaps(records, problems, n=subject.recipe.data.ngram)}


def domains(subject: Subject) -> Iterator[InfraError]:
    """Domains, targets and system prompt that the recipe names are in the data."""
    recipe = subject.recipe
    if subject.sources and subject.whole:
        for use in ("train", "pool"):
            needed = use == "train" or (subject.job.trains and bool(recipe.arms.names))
            if needed and not subject.sets[use]:
                yield InputError(f"no {use} records: give a source a share of '{use}' in data.sources")
        there = sorted({r.domain for use in ("train", "pool") for r in subject.sets[use]})
        for domain in recipe.data.difficulty:
            if there and domain not in there:
                yield InputError(
                    f"data.difficulty names domain '{domain}', and no record has it; the domains are "
                    f"{', '.join(there)}: name one of these, or give the source its domain (data.sources.0.domain)"
                )
        if subject.sets["train"]:
            under_system([], recipe.eval.system, subject.sets["train"])
    targets = {t.target for t in recipe.tasks if t.target} | {
        r.domain for s in subject.queries for r in s.result.records
    }
    named = recipe.scores.token_targets
    if "token_targets" in recipe.scores.model_fields_set and subject.job.makes("targets"):
        known = bool(subject.queries) or not recipe.data.queries
        if known and not targets.intersection(named):
            yield InputError(
                f"scores.token_targets names {', '.join(named)}, and no target is called so; the targets are "
                f"{', '.join(sorted(targets)) or 'none'}: give "
                f"{subject.option('scores.token_targets', sorted(targets))}"
            )


def attributes(subject: Subject) -> Iterator[InfraError]:
    """Attributes that the recipe slices or groups by are in the data."""
    recipe = subject.recipe
    if not (subject.sources and subject.whole):
        return
    there = {name for use in ("train", "pool") for r in subject.sets[use] for name in r.attributes} | set(COMPUTED)
    named = [("effects.attributes", a) for a in recipe.effects.attributes]
    named += [("strategies.group", recipe.strategies.group)] if recipe.strategies.group is not None else []
    for setting, name in named:
        if name not in there:
            yield InputError(
                f"{setting} names {name!r}, and no record has such an attribute; the records have "
                f"{', '.join(sorted(there))}"
            )


def arms(subject: Subject) -> None:
    """Training data and pool have the domains and levels that the arms swap."""
    from infra.experiments.selection.items import DIRECTIONS, ArmItem, check_items

    recipe = subject.recipe
    if not (subject.job.trains and recipe.arms.names and subject.sources and subject.whole):
        return
    labelled = set(recipe.data.difficulty)

    def items(records: Sequence[Record]) -> list[ArmItem]:
        levels = [(r, 1 if r.domain in labelled else r.attributes.get("difficulty")) for r in records]
        return [ArmItem(r.id, r.domain, int(n) if isinstance(n, int | float) else None, 1) for r, n in levels]

    if subject.sets["train"] and subject.sets["pool"]:
        check_items(items(subject.sets["train"]), items(subject.sets["pool"]), DIRECTIONS)
