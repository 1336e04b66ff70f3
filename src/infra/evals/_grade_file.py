"""A file of responses graded into a file of verdicts, in order, resumable, whatever single rows hold."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from infra.data.rows import Row, iter_rows, whole_text
from infra.errors import InputError
from infra.evals._grade_rows import Graded, GradeSettings, grade_rows, with_verdict
from infra.evals._verify import MODES
from infra.evals.sandbox import choose

BATCH = 128
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
NAMED = 10  # rows without a verdict that are named at the end


@dataclass
class GradeSummary:
    """What came of a file.

    ``ungradable`` names the first such rows with file and line, ``sandbox`` is the one that code ran in, None
    without code, and ``resumed`` counts rows that an earlier call had graded.
    """

    rows: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ungradable: list[str] = field(default_factory=list)
    sandbox: str | None = None
    mode: str = "strict"
    resumed: int = 0

    def add(self, row: Mapping[str, Any], where: str) -> None:
        """Count one graded row."""
        self.rows += 1
        self.outcomes[row["outcome"]] += 1
        if row["outcome"] == "ungradable" and len(self.ungradable) < NAMED:
            self.ungradable.append(row["why"] if row["why"].startswith(where) else f"{where}: {row['why']}")


def grade_file(
    path: Path | str,
    out: Path | str,
    settings: GradeSettings | None = None,
    *,
    limit: int | None = None,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> GradeSummary:
    """Grade every row of a JSONL, JSON, Parquet or CSV file (also gzipped) into ``out`` (.jsonl, .jsonl.gz, .parquet).

    ``out`` holds the rows in order with the columns ``correct``, ``outcome``, ``extracted`` and ``why``; a row that
    cannot be read has these four alone. Until it is whole, rows are kept in ``<out>.part``, and the same call goes on
    from there: whatever ends it, at most one batch of 128 rows is graded again. ``progress`` is told how many rows are
    done. Raises ``InputError`` when the file cannot be read or none of its first rows can be graded, ``ResourceError``
    when it holds code and no sandbox works here.
    """
    chosen, source, target = settings or GradeSettings(), Path(path), Path(out)
    _check(target, chosen, source)
    part = target.with_name(target.name + ".part")
    head = {"graded": _digest(source), "settings": asdict(chosen), "limit": limit}
    summary = GradeSummary(mode=chosen.mode)
    rows = islice(iter_rows(source), limit)
    with _resumed(part, head) as kept:
        for line in _kept_lines(kept):
            row = next(rows)
            summary.add(line, _where(row))
            summary.resumed += 1
        if progress is not None and summary.resumed:
            progress(summary.resumed)
        while batch := list(islice(rows, BATCH)):
            graded = _grade_batch(batch, chosen, workers, progress)
            if not summary.rows and all(g.outcome == "ungradable" for g in graded):
                raise InputError(f"{source}: no row can be graded: {graded[0].why}; {_columns(batch)}")
            for row, verdict in zip(batch, graded):
                line = with_verdict(_value(row) or {}, verdict)
                kept.write(json.dumps(whole_text(line), ensure_ascii=False, default=str).encode() + b"\n")
                summary.add(line, _where(row))
                if summary.sandbox is None and _is_code(verdict, row):
                    summary.sandbox = choose(chosen.unsafe_execution)
            kept.flush()
        if not summary.rows:
            raise InputError(f"{source}: no rows to grade")
        _finish(kept, target)
    part.unlink()
    return summary


def _check(target: Path, settings: GradeSettings, source: Path) -> None:
    if not target.name.endswith(SUFFIXES):
        raise InputError(f"{target}: verdicts are written as {', '.join(SUFFIXES)}; give a name that ends so")
    if settings.mode not in MODES:
        raise InputError(f"mode {settings.mode!r} is unknown; use one of {', '.join(MODES)}")
    if not source.is_file():
        raise InputError(f"{source}: no such file; give a JSONL, JSON, Parquet or CSV file of rows with responses")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: verdicts would replace the rows they are about; give another --out")


def _grade_batch(
    batch: Sequence[Row], settings: GradeSettings, workers: int | None, progress: Callable[[int], object] | None
) -> list[Graded]:
    read = [row for row in batch if _value(row) is not None]
    verdicts = iter(grade_rows([_value(row) or {} for row in read], settings, workers=workers, progress=progress))
    if progress is not None and len(read) < len(batch):
        progress(len(batch) - len(read))
    bad = {id(row) for row in batch} - {id(row) for row in read}
    return [
        Graded(False, "ungradable", None, f"{_where(row)}: {row.problem}") if id(row) in bad else next(verdicts)
        for row in batch
    ]


def _value(row: Row) -> dict[str, Any] | None:
    return row.value if row.value is not None else row.repaired


def _where(row: Row) -> str:
    return f"{row.file}, line {row.line}"


def _columns(batch: Sequence[Row]) -> str:
    names = next((sorted(value) for row in batch if (value := _value(row)) is not None), None)
    return "no line holds a row" if names is None else f"its columns are {', '.join(map(str, names))}"


def _is_code(verdict: Graded, row: Row) -> bool:
    value = _value(row) or {}
    return verdict.outcome not in ("ungradable", "no_answer") and any(
        value.get(name) for name in ("tests", "test_list", "test", "input_output", "public_test_cases")
    )


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _resumed(part: Path, head: dict[str, Any]) -> IO[bytes]:
    """The part file, its torn last line cut off; a new one where there is none or it belongs to other work."""
    first = json.dumps(head, sort_keys=True).encode() + b"\n"
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        handle = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        if handle.readline() != first:
            handle.seek(0)
            handle.truncate()
            handle.write(first)
            handle.flush()
    except OSError as error:
        raise InputError(f"{part}: verdicts cannot be written there ({error.strerror}); give another --out") from error
    return handle


def _kept_lines(handle: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Rows graded before; the file is then ready for the next one."""
    whole = handle.tell()
    while (line := handle.readline()).endswith(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            break  # damaged: graded again from here
        whole = handle.tell()
        yield row
    handle.seek(whole)
    handle.truncate()


def _finish(handle: IO[bytes], target: Path) -> None:
    handle.seek(0)
    handle.readline()
    partial = target.with_name(target.name + ".writing")
    if target.name.endswith(".parquet"):
        _write_parquet([json.loads(line) for line in handle], partial)
    else:
        with gzip.open(partial, "wb") if target.name.endswith(".gz") else partial.open("wb") as file:
            file.writelines(handle)
    partial.replace(target)


def _write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Columns in the order in which they appear; one whose values have no common type is written as JSON text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            columns[name] = pa.array(
                [None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values]
            )
    pq.write_table(pa.table(columns), path, compression="zstd")
