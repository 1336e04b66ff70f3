"""What a benchmark is: where its problems come from and how they are put to a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.data.schema import Message, Record
from infra.errors import InputError
from infra.evals._types import Verdict
from infra.evals._verify import verify

Loader = Callable[[str | Path | None, dict[str, Any]], list[Record]]


@dataclass(frozen=True, slots=True)
class Task:
    """One benchmark.

    ``loader`` reads a local file in the public schema or, given None, the task's own ``source``.
    ``instruction`` is what a general chat model is told beyond the problem itself; it is used when a task
    is run by ``infra eval``, and not where a run trains on the plain questions. ``revision`` names the
    data's version in every result. ``options`` are the settings the loader accepts, with their defaults.
    """

    name: str
    domain: str
    loader: Loader
    source: str
    revision: str
    instruction: str = ""
    path: str | Path | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def load(self, path: str | Path | None = None, limit: int | None = None, **options: Any) -> list[Record]:
        """The problems, in the file's order; the first ``limit``. A reference solution stays as assistant
        turn.

        Raises ``InputError`` for an unknown option, a file that cannot be read or one without problems.
        """
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            known = ", ".join(sorted(self.options)) or "none"
            raise InputError(f"task {self.name} has no option {', '.join(unknown)}; its options: {known}")
        where = path if path is not None else self.path
        records = self.loader(where, {**self.options, **options})
        if not records:
            raise InputError(f"task {self.name}: no problems in {where or self.source} with these options")
        return records[:limit]

    def prompt(self, record: Record) -> tuple[Message, ...]:
        """The problem's messages with the task's instruction at the end of the question."""
        messages = record.prompt
        if not self.instruction or not messages:
            return messages
        last = messages[-1]
        return (*messages[:-1], replace(last, content=f"{last.content}\n\n{self.instruction}"))

    def verify(self, record: Record, response: str) -> Verdict:
        """Check one response (many at once: :func:`infra.evals.verify_many`)."""
        return verify(record, response)


def from_records(path: str | Path | None, hub: str, schema: str, source: str, split: str = "test") -> list[Record]:
    """Problems read by the records room, from a local file or the hub, with ``source`` set."""
    from infra.data import read_records

    where = hub if path is None else path
    return read_records(where, schema=schema, source=source, split=split).records


def from_list(name: str, records: Sequence[Record]) -> Task:
    """A task over any records that carry an answer or tests."""
    kept = list(records)
    domain = kept[0].domain if kept else "math"
    return Task(name, domain, lambda path, options: kept, "memory", "memory")
