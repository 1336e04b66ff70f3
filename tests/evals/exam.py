"""The math exam: our grader, math-verify alone and string matching against labelled answer pairs.

    python -m tests.evals.exam [first|second|kinds ...] [--misses]

Prints accuracies per half, agreement of the two labellers (Cohen's kappa), classes and misses, and one table of all.
``kinds`` are the faults that users met in graders, with siblings of each; one labeller.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from infra.data.fields import boxed
from infra.evals.mathcheck import grade_many
from infra.spans.agreement import cohen_kappa

DATA = Path(__file__).parent / "data"
FILES = {
    "first": ("math_pairs.jsonl", "math_pairs_labels_b.jsonl"),
    "second": ("math_pairs_second.jsonl", "math_pairs_second_labels_b.jsonl"),
    "kinds": ("math_kinds.jsonl", None),
}
Row = dict[str, str]

# math-verify as its documentation shows it, the reference wrapped in dollar signs; it raises whatever sympy raises
_RAW = """
import json, logging, sys
logging.disable(logging.CRITICAL)
from math_verify import parse, verify
for line in sys.stdin:
    gold, response = json.loads(line)
    try:
        found = bool(verify(parse(f"${gold}$"), parse(response)))
    except Exception:
        found = False
    print(json.dumps(found), flush=True)
"""


def load(name: str) -> tuple[list[Row], list[bool]]:
    """The pairs of an exam and the second labeller's labels (the first's, where there is one), in the same order."""
    pairs_file, labels_file = FILES[name]
    pairs = [json.loads(line) for line in (DATA / pairs_file).read_text(encoding="utf-8").splitlines()]
    if labels_file is None:
        return pairs, [row["label"] == "correct" for row in pairs]
    labels = [json.loads(line) for line in (DATA / labels_file).read_text(encoding="utf-8").splitlines()]
    second = {row["id"]: bool(row["equal"]) for row in labels}
    return pairs, [second[identity(row)] for row in pairs]


def identity(row: Row) -> str:
    """A pair's name: its own, else by hash of reference and response."""
    text = f"{row['gold']}\0{row['response']}"
    return row.get("id") or "old-" + hashlib.sha256(text.encode()).hexdigest()[:10]


def ours(rows: list[Row]) -> list[bool]:
    """Verdicts of this package."""
    return [v.correct for v in grade_many([(row["gold"], row["response"]) for row in rows], timeout_s=20)]


def raw_math_verify(rows: list[Row]) -> list[bool]:
    """Verdicts of math-verify alone, in a process of its own."""
    asked = "".join(json.dumps([row["gold"], row["response"]]) + "\n" for row in rows)
    done = subprocess.run([sys.executable, "-c", _RAW], input=asked, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def string_match(rows: list[Row]) -> list[bool]:
    """The last boxed text equals the reference, spaces at the ends aside."""
    return [(boxed(row["response"]) or "").strip() == row["gold"].strip() for row in rows]


GRADERS: dict[str, Callable[[list[Row]], list[bool]]] = {
    "ours": ours,
    "math-verify": raw_math_verify,
    "string match": string_match,
}


def examine(name: str, misses: bool) -> dict[str, int]:
    """Grade one exam and print what came of it. Returns the number of hits of each grader, and ``n``."""
    rows, second = load(name)
    first = [row["label"] == "correct" for row in rows]
    print(f"{name}: {len(rows)} pairs, {sum(first)} right by the first labeller")
    print("classes:", dict(Counter(r["class"] for r in rows)))
    if FILES[name][1] is not None:
        agreed = sum(a == b for a, b in zip(first, second))
        print(f"labellers agree on {agreed}, kappa {cohen_kappa(first, second):.3f}")
    verdicts = {grader: function(rows) for grader, function in GRADERS.items()}
    halves = sorted({r["half"] for r in rows if "half" in r})
    groups = {half: [r["half"] == half for r in rows] for half in halves} | {"all": [True] * len(rows)}
    for where, inside in groups.items():
        for grader, found in verdicts.items():
            hits = sum(f == label for f, label, i in zip(found, first, inside) if i)
            print(f"{where:22} {grader:14} {hits} of {sum(inside)} = {hits / sum(inside):.2%}")
    for row, found, raw, label in zip(rows, verdicts["ours"], verdicts["math-verify"], first):
        if misses and found != label:
            said = json.dumps([row["class"], row["gold"], row["response"]], ensure_ascii=False)
            print(f"{said} label {label}, we {found}, math-verify {raw}")
    hits = {g: sum(f == label for f, label in zip(found, first)) for g, found in verdicts.items()}
    return {"n": len(rows), **hits}


def main() -> None:
    """Grade and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exams", nargs="*", metavar="exam", help=", ".join(FILES))
    parser.add_argument("--misses", action="store_true")
    options = parser.parse_args()
    totals: Counter[str] = Counter()
    table = ["| exam | pairs | ours | math-verify | string match |", "|---|---|---|---|---|"]
    for name in options.exams or FILES:
        found = examine(name, options.misses)
        totals.update(found)
        table.append(_line(name, found))
    print("\n".join([*table, _line("all", totals)]))


def _line(name: str, found: dict[str, int] | Counter[str]) -> str:
    cells = [f"{found[g]} ({found[g] / found['n']:.1%})" for g in GRADERS]
    return f"| {name} | {found['n']} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
