"""The math exam: our grader, math-verify alone and string matching against labelled answer pairs.

    python -m tests.evals.exam first|second [--misses]

Prints accuracies per half, agreement of the two labellers (Cohen's kappa), classes and misses.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from infra.evals.mathcheck import MathPool, final_answer, last_boxed
from infra.spans.agreement import cohen_kappa

DATA = Path(__file__).parent / "data"
FILES = {
    "first": ("math_pairs.jsonl", "math_pairs_labels_b.jsonl"),
    "second": ("math_pairs_second.jsonl", "math_pairs_second_labels_b.jsonl"),
}
Row = dict[str, str]


def load(name: str) -> tuple[list[Row], list[bool]]:
    """The pairs of an exam and the second labeller's labels, in the same order."""
    pairs, labels = (
        [json.loads(line) for line in (DATA / f).read_text(encoding="utf-8").splitlines()] for f in FILES[name]
    )
    second = {row["id"]: bool(row["equal"]) for row in labels}
    return pairs, [second[identity(row)] for row in pairs]


def identity(row: Row) -> str:
    """A pair's name: its own, else by hash of reference and response."""
    text = f"{row['gold']}\0{row['response']}"
    return row.get("id") or "old-" + hashlib.sha256(text.encode()).hexdigest()[:10]


def ours(rows: list[Row]) -> list[bool]:
    """Verdicts of this package."""
    answers = [final_answer(row["response"]) for row in rows]
    with MathPool(timeout_s=20) as pool:
        outcomes = pool.grade([(row["gold"], a or "") for row, a in zip(rows, answers)])
    return [a is not None and o == "correct" for a, o in zip(answers, outcomes)]


def raw_math_verify(rows: list[Row]) -> list[bool]:
    """math-verify as its documentation shows it, the reference wrapped in dollar signs."""
    from math_verify import parse, verify

    def one(row: Row) -> bool:
        try:
            return bool(verify(parse(f"${row['gold']}$"), parse(row["response"])))
        except Exception:  # it raises whatever sympy raises
            return False

    return [one(row) for row in rows]


def string_match(rows: list[Row]) -> list[bool]:
    """The last boxed text equals the reference, spaces at the ends aside."""
    return [(last_boxed(row["response"]) or "").strip() == row["gold"].strip() for row in rows]


GRADERS: dict[str, Callable[[list[Row]], list[bool]]] = {
    "ours": ours,
    "math-verify": raw_math_verify,
    "string match": string_match,
}


def main() -> None:
    """Grade and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exam", choices=sorted(FILES))
    parser.add_argument("--misses", action="store_true")
    options = parser.parse_args()
    rows, second = load(options.exam)
    first = [row["label"] == "correct" for row in rows]
    print(f"{len(rows)} pairs, {sum(first)} right by the first labeller")
    print("classes:", dict(Counter(r["class"] for r in rows)))
    print(f"labellers agree on {sum(a == b for a, b in zip(first, second))}, kappa {cohen_kappa(first, second):.3f}")
    verdicts = {name: grader(rows) for name, grader in GRADERS.items()}
    agreed = [a == b for a, b in zip(first, second)]
    groups = {half: [r["half"] == half for r in rows] for half in sorted({r["half"] for r in rows})}
    for where, inside in {**groups, "all": [True] * len(rows), "both labellers agree": agreed}.items():
        n = sum(inside)
        for name, found in verdicts.items():
            hits = sum(f == label for f, label, i in zip(found, first, inside) if i)
            print(f"{where:22} {name:14} {hits} of {n} = {hits / n:.2%}")
    if options.misses:
        for row, found, label, other in zip(rows, verdicts["ours"], first, second):
            if found != label:
                print(
                    json.dumps([row["half"], row["class"], row["gold"], row["response"]], ensure_ascii=False),
                    f"first labeller {label}, second {other}, we {found}",
                )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
