"""The label exam: prints kappa, and the rule labeller's scores on the real steps and on the world's ground truth.

    python -m tests.spans.exam real DATA/math_cot.jsonl
    python -m tests.spans.exam world
    python -m tests.spans.exam judge DATA/math_cot.jsonl http://localhost:8000/v1 MODEL

Texts are joined to the stored labels by line and checked by hash. Labels a and b are two passes of the labeller that
wrote the rules, labels c those of another who had seen neither rules nor labels. What came out is in
docs/results/step-labels.md.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.spans import (
    LABELS,
    Judge,
    JudgeItem,
    behaviours,
    cohen_kappa,
    judge_behaviours,
    label_kappa,
)
from tests.spans.label_scores import LabelReport, score_labels

FOLDER = Path(__file__).parent / "labels"
HALVES = ("dev", "test", "test2")


@dataclass(frozen=True)
class Item:
    """One trace of the exam with its text."""

    sha256: str
    half: str
    stratum: str
    problem: str
    question: str
    answer: str
    text: str
    spans: list[tuple[int, int]]


def read_items(data: Path) -> list[Item]:
    """The drawn traces, each checked against its hash."""
    lines = data.read_text(encoding="utf-8").splitlines()
    items = []
    for raw in (FOLDER / "items.jsonl").read_text().splitlines():
        item = json.loads(raw)
        row = json.loads(lines[item["line"] - 1])
        text = row["response"]
        if hashlib.sha256(text.encode()).hexdigest() != item["sha256"]:
            raise SystemExit(f"{data}, line {item['line']}: another text than the one labelled")
        spans = [tuple(span) for span in item["spans"]]
        drawn = (item["sha256"], item["half"], item["stratum"], item["problem"])
        items.append(Item(*drawn, row["problem"], row["answer"], text, spans))
    return items


def read_labels(half: str, labeller: str) -> dict[str, list[list[str]]]:
    """Labels of every step of every trace of a half, by the trace's hash."""
    rows = (FOLDER / f"{half}_{labeller}.jsonl").read_text().splitlines()
    return {row["sha256"]: row["labels"] for row in map(json.loads, rows)}


def score_half(
    items: list[Item], half: str, labeller: str = "a", stratum: str = "", inputs: bool = True
) -> LabelReport:
    """The rule labeller against the labels of a half; ``inputs``: whether it is given question and answer."""
    reference = read_labels(half, labeller)
    truth, found, groups = [], [], []
    for item in items:
        if item.half == half and stratum in ("", item.stratum):
            truth += reference[item.sha256]
            more = (item.answer, item.question) if inputs else (None, "")
            found += behaviours(item.text, item.spans, *more)
            groups += [item.problem] * len(item.spans)
    return score_labels(truth, found, LABELS, groups)


def kappa_lines(items: list[Item], one: str, other: str) -> Iterator[str]:
    """Agreement of two labellers over the test halves."""
    first: list[list[str]] = []
    second: list[list[str]] = []
    for half in ("test", "test2"):
        a, b = read_labels(half, one), read_labels(half, other)
        for item in items:
            if item.half == half:
                first += a[item.sha256]
                second += b[item.sha256]
    exact = cohen_kappa([tuple(sorted(x)) for x in first], [tuple(sorted(x)) for x in second])
    yield f"labels {one} and {other} over {len(first)} steps: kappa of the whole label set {exact:.3f}"
    for label, kappa in label_kappa(first, second, LABELS).items():
        yield f"  {label:26s} {kappa:.3f}"


def report_lines(title: str, report: LabelReport) -> Iterator[str]:
    """A table that reads in a terminal and in Markdown."""
    yield f"\n{title}: {report.steps} steps in {report.groups} groups"
    yield "| behaviour | n | predicted | precision | recall | F1 |\n|---|---|---|---|---|---|"
    for s in report.scores:
        yield f"| {s.label} | {s.n} | {s.predicted} | {s.precision:.2f} | {s.recall:.2f} | {s.f1:.2f} |"
    yield (
        f"macro F1 over {len(report.counted)} classes with n >= {report.min_cases}: "
        f"{report.macro_f1:.3f} [{report.low:.3f}, {report.high:.3f}]"
    )


def score_world(name: str, seed: int, part: str, domain: str = "") -> LabelReport:
    """The rule labeller against the generator's own knowledge, on the generator's borders."""
    from infra.world import build_world

    truth, found, groups = [], [], []
    for record in getattr(build_world(name, seed), part):
        text = record.response
        if text is None or not record.spans or domain not in ("", record.domain):
            continue
        spans = [(s.start, s.end) for s in record.spans]
        truth += [s.labels for s in record.spans]
        found += behaviours(text, spans, record.answer, record.question)
        groups += [record.id] * len(spans)
    return score_labels(truth, found, LABELS, groups, resamples=500)


def judge_lines(items: list[Item], url: str, model: str) -> Iterator[str]:
    """A judge's labels of the second test set: kappa with the rules, and its scores against the labels a and c."""
    chosen = [item for item in items if item.half == "test2"]
    asked = [JudgeItem(item.sha256[:12], item.text, tuple(item.spans), item.question) for item in chosen]
    found = [row for labels in judge_behaviours(asked, Judge(url, model)) for row in labels]
    rules = [row for item in chosen for row in behaviours(item.text, item.spans, item.answer, item.question)]
    exact = cohen_kappa([tuple(sorted(x)) for x in found], [tuple(sorted(x)) for x in rules])
    yield f"judge {model} and rules over {len(found)} steps: kappa of the whole label set {exact:.3f}"
    for label, kappa in label_kappa(found, rules, LABELS).items():
        yield f"  {label:26s} {kappa:.3f}"
    groups = [item.problem for item in chosen for _ in item.spans]
    for labeller in "ac":
        reference = read_labels("test2", labeller)
        truth = [row for item in chosen for row in reference[item.sha256]]
        yield from report_lines(f"judge against labels {labeller}", score_labels(truth, found, LABELS, groups))


def main(arguments: list[str]) -> None:
    """Print the tables."""
    if arguments[:1] == ["real"] and len(arguments) == 2:
        items = read_items(Path(arguments[1]))
        for one, other in (("a", "c"), ("a", "b"), ("b", "c")):
            for line in kappa_lines(items, one, other):
                print(line)
        for half in ("test", "test2"):
            for line in report_lines(f"{half}, labels c", score_half(items, half, "c")):
                print(line)
        for half in HALVES:
            for line in report_lines(half, score_half(items, half)):
                print(line)
            for stratum in ("uniform", "cued"):
                report = score_half(items, half, stratum=stratum)
                print(f"{stratum}: {report.macro_f1:.3f} over {', '.join(report.counted)}")
            blind = score_half(items, half, inputs=False)
            print(f"without question and answer: {blind.macro_f1:.3f} [{blind.low:.3f}, {blind.high:.3f}]")
    elif arguments[:1] == ["judge"] and len(arguments) == 4:
        for line in judge_lines(read_items(Path(arguments[1])), *arguments[2:]):
            print(line)
    elif arguments[:1] == ["world"]:
        name, seed, part = (*arguments[1:], *("default", "0", "pool")[len(arguments) - 1 :])
        for domain in ("", "math", "code"):
            title = f"world {name}, seed {seed}, {part} {domain}"
            for line in report_lines(title, score_world(name, int(seed), part, domain)):
                print(line)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
