"""What is in a data file: counts, lengths, attributes, duplicates, leaks into benchmarks; as a table and as a
figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infra.data.overlap import Duplicate, Overlap, duplicates, overlaps
from infra.data.reading import BadRow, read_records
from infra.data.schema import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

_LEVELS = 12
_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#999999"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Quantiles of a length over records, in ``unit`` (characters, or tokens where a tokenizer was given)."""

    n: int
    low: float
    median: float
    p90: float
    high: float
    total: int
    unit: str


@dataclass(frozen=True, slots=True)
class AttributeSummary:
    """One attribute: how many records have it, and its values (the most frequent ones, or the range of a
    number)."""

    name: str
    present: int
    distinct: int
    values: tuple[tuple[str, int], ...]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class DataSummary:
    """Everything that ``infra data FILE`` shows.

    ``difficulty`` counts records per (domain, native level); the level is None where there is no label.
    """

    path: str
    schema: str
    n: int
    domains: dict[str, int]
    sources: dict[str, int]
    with_response: int
    with_answer: int
    with_tests: int
    weighted: int
    question: Lengths
    response: Lengths
    response_lengths: dict[str, tuple[int, ...]]
    difficulty: dict[tuple[str, int | None], int]
    attributes: tuple[AttributeSummary, ...]
    duplicates: tuple[Duplicate, ...]
    leaks: dict[str, tuple[Overlap, ...]]
    skipped: tuple[BadRow, ...]
    unread: tuple[str, ...] = ()
    turns_without_loss: int = 0
    with_tools: int = 0


def describe(
    path_or_id: str | Path,
    *,
    schema: str = "auto",
    domain: str | None = None,
    limit: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    split: str = "train",
    benchmarks: Mapping[str, Sequence[Record]] | None = None,
    n: int = 13,
    tokenizer: Any = None,
) -> DataSummary:
    """Read a file or hub data set, and summarise it.

    Args:
        path_or_id: as in :func:`read_records`, and so are the options that are not named here.
        benchmarks: name to problems, to look for leaks into them (:func:`infra.data.overlaps`).
        n: words in a row that make a leak.
        tokenizer: lengths are in its tokens; None counts characters.

    Raises:
        InputError: what :func:`read_records` raises.
    """
    result = read_records(path_or_id, schema=schema, domain=domain, limit=limit, on_error=on_error, split=split)
    return summarise(
        result.records,
        path=str(path_or_id),
        schema=result.schema,
        skipped=result.skipped,
        unread=result.unread,
        benchmarks=benchmarks,
        n=n,
        tokenizer=tokenizer,
    )


def summarise(
    records: Sequence[Record],
    *,
    path: str = "",
    schema: str = "",
    skipped: Sequence[BadRow] = (),
    unread: Sequence[str] = (),
    benchmarks: Mapping[str, Sequence[Record]] | None = None,
    n: int = 13,
    tokenizer: Any = None,
) -> DataSummary:
    """Summarise records that were read already.

    Args:
        records: to count.
        path: where they came from, to be shown.
        schema: the adapter's name, to be shown.
        skipped: rows that were not used.
        unread: columns that are not in the records.
        benchmarks: as in :func:`describe`, and so are ``n`` and ``tokenizer``.
    """
    unit = "tokens" if tokenizer is not None else "characters"
    questions = _measure([r.question for r in records], tokenizer)
    answered = [r for r in records if r.response is not None]
    responses = _measure([r.response or "" for r in answered], tokenizer)
    by_domain: dict[str, list[int]] = {}
    for record, length in zip(answered, responses):
        by_domain.setdefault(record.domain, []).append(length)
    return DataSummary(
        path=path,
        schema=schema,
        n=len(records),
        domains=_counts(r.domain for r in records),
        sources=_counts(r.source for r in records),
        with_response=len(answered),
        with_answer=sum(r.answer is not None for r in records),
        with_tests=sum(r.tests is not None for r in records),
        weighted=sum(r.weight != 1.0 for r in records),
        question=_lengths(questions, unit),
        response=_lengths(responses, unit),
        response_lengths={d: tuple(v) for d, v in sorted(by_domain.items())},
        difficulty=_difficulty(records),
        attributes=_attributes(records),
        duplicates=tuple(duplicates(records)),
        leaks={name: tuple(overlaps(records, problems, n)) for name, problems in (benchmarks or {}).items()},
        skipped=tuple(skipped),
        unread=tuple(unread),
        turns_without_loss=sum(not m.loss for r in records for m in r.messages),
        with_tools=sum(bool(r.tools) or any(m.tool_calls for m in r.messages) for r in records),
    )


def summary_table(summary: DataSummary) -> Table:
    """The summary as a rich table.

    Args:
        summary: from :func:`describe`.
    """
    from rich.table import Table

    table = Table(title=f"{summary.path}: {summary.n} records, schema {summary.schema}", title_justify="left")
    table.add_column("what")
    table.add_column("value", overflow="fold")
    for what, value in _rows(summary):
        table.add_row(what, value)
    return table


def _rows(s: DataSummary) -> Iterable[tuple[str, str]]:
    yield "domains", _share(s.domains, s.n)
    yield "sources", _share(s.sources, s.n)
    yield "with response / answer / tests", f"{s.with_response} / {s.with_answer} / {s.with_tests}"
    for name, lengths in (("question", s.question), ("response", s.response)):
        if lengths.n:
            yield (
                f"{name} length ({lengths.unit})",
                f"min {lengths.low:.0f}, median {lengths.median:.0f}, 90% {lengths.p90:.0f}, max {lengths.high:.0f}, "
                f"total {lengths.total}",
            )
    for domain in s.domains:
        levels = {str(level): c for (d, level), c in s.difficulty.items() if d == domain and level is not None}
        missing = s.difficulty.get((domain, None), 0)
        yield f"difficulty ({domain})", _share(levels, s.n) + (f"; {missing} without" if missing else "")
    for a in s.attributes:
        span = f" in [{a.low:g}, {a.high:g}]" if a.low is not None and a.high is not None else ""
        shown = ", ".join(f"{v} ({c})" for v, c in a.values)
        yield f"attribute {a.name}", f"{a.present} records, {a.distinct} values{span}" + (f": {shown}" if shown else "")
    if s.weighted:
        yield "weights other than 1", str(s.weighted)
    if s.turns_without_loss:
        yield "assistant turns without loss", str(s.turns_without_loss)
    if s.with_tools:
        yield "records with tools or calls", str(s.with_tools)
    if s.unread:
        yield "not read (no known meaning)", ", ".join(s.unread)
    kinds = Counter(d.kind for d in s.duplicates)
    yield "duplicates", f"{kinds['record']} whole records, {kinds['question']} questions with another response"
    for name, leaks in s.leaks.items():
        found = Counter(leak.kind for leak in leaks)
        examples = ", ".join(f"{leak.train_id} = {leak.eval_id}" for leak in leaks[:3])
        yield (
            f"leaks into {name}",
            f"{found['exact']} exact, {found['ngram']} by n-gram" + (f": {examples}" if leaks else ""),
        )
    if s.skipped:
        yield "rows skipped", f"{len(s.skipped)}; the first: {s.skipped[0]}"


def summary_figure(summary: DataSummary) -> Figure:
    """Records per domain and level, and the distribution of response lengths, as a figure that is colour-blind safe.

    Args:
        summary: from :func:`describe`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    domains = list(summary.domains)
    colours = {d: (_BLUE, _ORANGE, "#009E73", "#CC79A7", _GREY)[i % 5] for i, d in enumerate(domains)}
    levels = sorted({level for _, level in summary.difficulty if level is not None})
    names = [str(level) for level in levels] + (["none"] if any(v is None for _, v in summary.difficulty) else [])
    width = 0.8 / max(len(domains), 1)
    for i, domain in enumerate(domains):
        counts = [summary.difficulty.get((domain, level), 0) for level in [*levels, None]][: len(names)]
        left.bar(np.arange(len(names)) + i * width, counts, width, label=domain, color=colours[domain])
    left.set_xticks(np.arange(len(names)) + width * (len(domains) - 1) / 2, names)
    left.set(xlabel="native difficulty level", ylabel="records", title=f"{summary.n} records")
    left.legend(frameon=False)
    top = max((max(v) for v in summary.response_lengths.values()), default=1)
    edges = np.geomspace(1, max(top, 2), 30)
    for domain, values in summary.response_lengths.items():
        right.hist(
            values,
            bins=list(edges),
            histtype="step",
            linewidth=1.6,
            color=colours[domain],
            label=f"{domain} (n = {len(values)})",
        )
    right.set(xscale="log", xlabel=f"response length in {summary.response.unit}", ylabel="records")
    if summary.response_lengths:
        right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _measure(texts: Sequence[str], tokenizer: Any) -> list[int]:
    if tokenizer is None or not texts:
        return [len(t) for t in texts]
    return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def _lengths(values: Sequence[int], unit: str) -> Lengths:
    if not values:
        return Lengths(0, 0, 0, 0, 0, 0, unit)
    low, median, p90, high = (float(q) for q in np.quantile(values, [0, 0.5, 0.9, 1]))
    return Lengths(len(values), low, median, p90, high, int(sum(values)), unit)


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _share(counts: Mapping[str, int], n: int) -> str:
    shown = [f"{name} {count} ({count / max(n, 1):.0%})" for name, count in list(counts.items())[:_LEVELS]]
    return ", ".join(shown) + (f", and {len(counts) - _LEVELS} more" if len(counts) > _LEVELS else "")


def _difficulty(records: Sequence[Record]) -> dict[tuple[str, int | None], int]:
    counts: Counter[tuple[str, int | None]] = Counter()
    for record in records:
        level = record.attributes.get("difficulty")
        counts[record.domain, int(level) if isinstance(level, int | float) else None] += 1
    return dict(sorted(counts.items(), key=lambda item: (item[0][0], item[0][1] is None, item[0][1] or 0)))


def _attributes(records: Sequence[Record]) -> tuple[AttributeSummary, ...]:
    found: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.attributes.items():
            if value is not None:
                found.setdefault(name, []).append(value)
    summaries = []
    for name, values in sorted(found.items()):
        counts = Counter(str(v) for v in values)
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        few = counts.most_common(6) if len(counts) <= _LEVELS else []
        summaries.append(
            AttributeSummary(
                name,
                len(values),
                len(counts),
                tuple(few),
                float(min(values)) if numeric else None,
                float(max(values)) if numeric else None,
            )
        )
    return tuple(summaries)
