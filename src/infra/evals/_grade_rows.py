"""Rows with responses in, the same rows with verdicts out: from Python, and from file to file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.data.fields import RowProblem
from infra.data.rows import whole_text
from infra.data.schema import Record
from infra.evals._row_tests import record_of
from infra.evals._types import Verdict
from infra.evals._verify import verify_many


@dataclass(frozen=True, slots=True)
class GradeSettings:
    """How rows are graded.

    ``response`` and ``answer`` name columns (``answer`` None: the usual names, see ``_row_tests.ANSWERS``). ``mode``,
    ``timeout_s`` and ``unsafe_execution`` are those of :func:`infra.evals.verify_many`.
    """

    response: str = "response"
    answer: str | None = None
    mode: str = "strict"
    timeout_s: float | None = None
    unsafe_execution: bool = False


@dataclass(frozen=True, slots=True)
class Graded:
    """The verdict on a row: ``extracted`` is the answer or program that was checked, ``why`` a sentence."""

    correct: bool
    outcome: str
    extracted: str | None
    why: str


def grade_rows(
    rows: Iterable[Mapping[str, Any]],
    settings: GradeSettings | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Graded]:
    """The verdict on each row, in order.

    A row has a ``response`` and either an answer or tests, in this product's form or a public schema's. One that has
    not is ``ungradable``, and ``why`` names its field: it never ends the work on the others. Raises ``ResourceError``
    when there is code among the rows and no sandbox works here.
    """
    chosen = settings or GradeSettings()
    read = [_read(row, chosen) for row in rows]
    asked = [(i, *found) for i, found in enumerate(read) if isinstance(found, tuple)]
    if progress is not None and len(asked) < len(read):
        progress(len(read) - len(asked))
    verdicts = verify_many(
        [record for _, record, _ in asked],
        [response for _, _, response in asked],
        mode=chosen.mode,
        timeout_s=chosen.timeout_s,
        workers=workers,
        unsafe_execution=chosen.unsafe_execution,
        progress=progress,
    )
    by_row = {i: verdict for (i, _, _), verdict in zip(asked, verdicts)}
    return [
        _graded(by_row[i]) if i in by_row else Graded(False, "ungradable", None, str(read[i])) for i in range(len(read))
    ]


def with_verdict(row: Mapping[str, Any], graded: Graded) -> dict[str, Any]:
    """The row with the verdict's columns; its own columns of these names are kept as ``<name>_before``."""
    found = asdict(graded)
    return {f"{name}_before" if name in found else name: value for name, value in row.items()} | found


def _read(row: Mapping[str, Any], settings: GradeSettings) -> tuple[Record, str] | RowProblem:
    try:
        response = row.get(settings.response)
        if not isinstance(response, str):
            found = "missing" if response is None else f"a text is expected, found {type(response).__name__}"
            raise RowProblem(settings.response, f"{found}; every row needs the text to grade")
        return record_of(whole_text(dict(row)), settings.answer), response
    except RowProblem as problem:
        return problem
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return RowProblem("tests", f"cannot be read ({type(error).__name__}: {error})")


def _graded(verdict: Verdict) -> Graded:
    why = verdict.detail or ("every test passes" if verdict.correct else "no program in the response")
    return Graded(verdict.correct, verdict.outcome, whole_text(verdict.answer), whole_text(why))
