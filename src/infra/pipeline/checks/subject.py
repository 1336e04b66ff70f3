"""What a command is about to do, as the checks see it: the job, the folder, and readings that several checks share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from infra.data import (
    ReadResult,
    Record,
    TokenizedExample,
    duplicates,
    is_named_data,
    iter_tokenize,
    normalise,
    read_records,
)
from infra.data.reading import Place
from infra.data.rows import is_hub_data
from infra.errors import InfraError
from infra.layout import BASE
from infra.models import load_tokenizer, model_folder
from infra.models.skeleton import skeleton, skeleton_of
from infra.pipeline.data import USES, first_per_domain, share_of, with_level
from infra.pipeline.origins import Origins, labels_of
from infra.pipeline.recipe import Recipe
from infra.pipeline.settings import SourceSettings
from infra.pipeline.step import Job
from infra.store import RunFolder

SCORE_OPTIONS = {
    "data.max_length": "--max-length",
    "data.on_error": "--on-error",
    "data.limit": "--limit",
    "model.base": "--model",
    "model.device": "--device",
    "model.dtype": "--dtype",
    "curvature.tracked": "--tracked",
    "method": "--method",
}
"""Settings that have an option of their own in `infra score`; every other setting goes through ``--set``."""


@dataclass(frozen=True)
class SourceRead:
    """One source with what was read of it. ``name``: its place in the recipe, such as ``data.sources.0``."""

    name: str
    settings: SourceSettings
    result: ReadResult

    @cached_property
    def places(self) -> dict[str, Place]:
        """Where each record comes from, by its id."""
        return {r.id: place for r, place in zip(self.result.records, self.result.places)}

    def where(self, record_id: str) -> str:
        """Where a record lies, for a message that names the source: its line, in a folder its file too."""
        place = self.places.get(record_id)
        if place is None:
            return f"record {record_id}"
        return f"line {place.line}" if place.file == self.settings.path else str(place)


class Subject:
    """A job that is about to run in ``folder``.

    ``offline``: nothing is asked over the network before the start. ``fetch``: a model or a benchmark that is not here
    may be downloaded to be looked at.
    """

    def __init__(self, job: Job, folder: Path, offline: bool = False) -> None:
        self.job, self.folder, self.offline = job, folder, offline
        self.fetch = job.fetch and not offline
        self.unreadable: list[InfraError] = []
        """What was found wrong with whole files while :attr:`sources` and :attr:`queries` were read."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the job."""
        return self.job.recipe

    def option(self, setting: str, value: object) -> str:
        """What to type to change a setting of this command."""
        own = SCORE_OPTIONS.get(setting) if not self.job.trains else None
        return f"{own} {value}" if own else f"--set {setting}={value}"

    @cached_property
    def done(self) -> frozenset[str]:
        """The stages that are finished for this very recipe; none where that cannot be said."""
        from infra.pipeline.graph import stages_for
        from infra.pipeline.runner import plan_table

        if not self.folder.is_dir():
            return frozenset()
        try:
            rows = plan_table(stages_for(self.job), RunFolder(self.folder))
        except InfraError:
            return frozenset()
        return frozenset(name for name, state, _ in rows if state == "done")

    # the model

    @cached_property
    def model(self) -> Path | None:
        """The base model's folder; None where the run trains it, or where it is not here and may not be fetched."""
        if self.recipe.model.pretrain is not None:
            return None
        return model_folder(self.job.models[BASE], fetch=self.fetch)

    @cached_property
    def skeleton(self) -> Any | None:
        """The model without weights (torch's device "meta"), or None where there is no configuration to look at."""
        pretrain = self.recipe.model.pretrain
        if pretrain is not None:
            from infra.models.small import small_config

            return skeleton_of(
                small_config(
                    pretrain.vocab_size,
                    pretrain.hidden_size,
                    pretrain.intermediate_size,
                    pretrain.layers,
                    pretrain.heads,
                    pretrain.kv_heads,
                    4 * self.recipe.data.max_length,
                )
            )
        return None if self.model is None else skeleton(self.model)

    @cached_property
    def tokenizer(self) -> Any | None:
        """The model's tokenizer, where there is one to look at."""
        return None if self.model is None else load_tokenizer(self.model)

    # the data

    def readable(self, source: SourceSettings) -> bool:
        """Whether a source is looked at: the embedded world has nothing to mend, and the hub may have to be asked."""
        if is_named_data(source.path):
            return False
        return Path(source.path).exists() or not is_hub_data(source.path) or self.fetch

    def _read(self, name: str, sources: tuple[SourceSettings, ...], labels: Sequence[str | None]) -> list[SourceRead]:
        found = []
        for i, (source, label) in enumerate(zip(sources, labels)):
            try:
                if self.readable(source):
                    found.append(SourceRead(f"{name}.{i}", source, _rows_of(source, label)))
            except InfraError as error:
                self.unreadable.append(error)
        return found

    @cached_property
    def sources(self) -> list[SourceRead]:
        """The training data; nothing where the stages that read it are done."""
        if {"records", "tokenized"} <= self.done:
            return []
        origins = self.recipe.data.origins
        return self._read("data.sources", origins, labels_of(origins))

    @cached_property
    def queries(self) -> list[SourceRead]:
        """The files of correct responses; nothing where targets are made of something else, or are done."""
        if not self.job.makes("targets") or "targets" in self.done:
            return []
        queries = self.recipe.data.queries
        return self._read("data.queries", queries, [None] * len(queries))

    @cached_property
    def whole(self) -> bool:
        """Whether every source was looked at, so that what is not in them is nowhere."""
        return len(self.sources) == len(self.recipe.data.origins)

    @cached_property
    def sets(self) -> dict[str, list[Record]]:
        """The records of each use, as the run will have them but for leaks.

        Raises :class:`~infra.errors.InputError` where two records that differ have one id.
        """
        found: dict[str, list[Record]] = {use: [] for use in USES}
        origins = Origins()
        for number, source in enumerate(self.sources):
            records = with_level(source.result.records, source.settings.level)
            for record, place in zip_longest(records, source.result.places):
                use = share_of(record, source.settings.shares)
                if record.response is not None and origins.add(record, number, source.settings, place, use):
                    found[str(use)].append(record)
        copies = {use: {d.id for d in duplicates(rs) if d.kind == "record"} for use, rs in found.items()}
        sets = {use: [r for r in rs if r.id not in copies[use]] for use, rs in found.items()}
        asked = {normalise(r.question) for r in sets["train"]}
        sets["pool"] = [r for r in sets["pool"] if normalise(r.question) not in asked]
        return sets | {use: first_per_domain(sets[use], self.recipe.data.limit) for use in ("train", "pool")}

    def tokens(self, records: list[Record]) -> Iterator[TokenizedExample]:
        """The records' tokens, whatever their length; those that cannot be rendered are left out."""
        assert self.tokenizer is not None
        return iter_tokenize(records, self.tokenizer, max_length=None, on_error="skip")

    @cached_property
    def lengths(self) -> dict[str, dict[str, int]]:
        """Tokens of every record that training data, pool or queries hold: by the source's name, then by id, which two
        sources may share. Empty without a tokenizer."""
        if self.tokenizer is None:
            return {}
        used = {r.id for use in ("train", "pool") for r in self.sets[use]}
        chosen = {s.name: [r for r in s.result.records if r.id in used] for s in self.sources}
        chosen |= {s.name: [r for r in s.result.records if r.response is not None] for s in self.queries}
        return {name: {e.id: len(e) for e in self.tokens(records)} for name, records in chosen.items()}

    def lengths_of(self, kind: str) -> list[int]:
        """Tokens of every record of ``data.sources``, or of ``data.queries``."""
        return [n for name, found in self.lengths.items() if name.startswith(kind) for n in found.values()]


def _rows_of(source: SourceSettings, label: str | None) -> ReadResult:
    return read_records(
        source.path,
        schema=source.schema_,
        domain=source.domain,
        source=source.source,
        limit=source.limit,
        on_error="skip",
        ids=source.ids,
        label=label,
    )
