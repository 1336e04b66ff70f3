"""Markdown of a result of bench.accuracy, for docs/results.

python -m bench.accuracy_table OUT/accuracy.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

KEYS = {
    "lds_half": "half",
    "lds_drop1": "drop1",
    "token_lds": "token",
    "step_lds": "step_mask",
    "step_lds_delete": "step_delete",
}
HYPOTHESIS = ("random", "gradient", "ekfac", "ekfac_cg", "ekfac_cg_ensemble", "unrolled")
UNROLLED = (
    ("unrolled_middle", "unrolled"),
    ("unrolled_seeds", "unrolled"),
    ("unrolled_middle_seeds", "unrolled"),
    ("unrolled_middle_seeds", "unrolled_seeds"),
    ("unrolled_seeds", "ekfac"),
    ("unrolled_seeds", "gradient"),
    ("unrolled_middle_seeds", "ekfac"),
    ("unrolled_middle_seeds", "gradient"),
)


def cell(e: Mapping[str, Any] | None) -> str:
    """``0.45 [0.30, 0.58]``, or a dash where there is no number."""
    if e is None or e["value"] is None:
        return "–"
    return f"{e['value']:.2f} [{e['low']:.2f}, {e['high']:.2f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def lds(result: Mapping[str, Any]) -> Iterator[str]:
    """Every method under every kind of removal and protocol, mean over targets; and as a share of the ceiling."""
    blocks = [(k, p, result[k][p]) for k in KEYS if result.get(k) for p in result[k]]
    methods = [m for m in blocks[0][2] if m not in ("ceiling", "ratio", "n_subsets", "n_seeds")]
    for key in dict.fromkeys(k for k, _, _ in blocks):
        mine = [(p, e) for k, p, e in blocks if k == key]
        head = ["method"]
        for protocol, e in mine:
            orders = "recorded seed" if protocol == "same_seed" else f"{e['n_seeds']} seeds"
            head.append(f"{protocol} ({e['n_subsets']} subsets, {orders})")
        shares = [p for p, _ in mine if p == "seed_mean"]
        rows = [
            [m, *(cell(e[m]) for _, e in mine), *(cell(e["ratio"][m]) for p, e in mine if p in shares)] for m in methods
        ]
        rows.append(["ceiling", *(cell(e["ceiling"]) for _, e in mine), *("" for _ in shares)])
        yield f"### {key}"
        yield ""
        yield from table([*head, *("share of the ceiling" for _ in shares)], rows)


def pairs(result: Mapping[str, Any]) -> Iterator[str]:
    """The order hypothesis, neighbour by neighbour; EK-FAC against random and length; kinds of unrolled scores."""
    found = {(p["kind"], p["protocol"], p["method"], p["minus"]): p for p in result["pairs"]}
    asked = [*zip(HYPOTHESIS[1:], HYPOTHESIS), ("ekfac", "random"), ("ekfac", "length"), *UNROLLED]
    blocks = list(dict.fromkeys((p["kind"], p["protocol"]) for p in result["pairs"]))
    rows = []
    for a, b in asked:
        if not any((kind, protocol, a, b) in found for kind, protocol in blocks):
            continue
        cells = []
        for kind, protocol in blocks:
            e = found.get((kind, protocol, a, b))
            sign = "" if e is None or e["low"] is None else "**" if e["low"] > 0 or e["high"] < 0 else ""
            cells.append(f"{sign}{cell(e)}{sign}")
        rows.append([f"{a} − {b}", *cells])
    yield from table(["difference", *(f"{k}, {p}" for k, p in blocks)], rows)
    yield "Bold: the paired interval excludes 0."
    yield ""


def sweep(result: Mapping[str, Any]) -> Iterator[str]:
    """Damping and solver steps on the tuning retrains, mean over targets."""
    rows = [r for r in result.get("sweep") or [] if r["target"] == "mean"]
    if rows:
        yield "### Sweep of damping and steps (other subsets, other queries)"
        yield ""
        yield from table(
            ["method", "damping", "steps", "LDS"],
            [[r["method"], _damping(r), str(r.get("steps", "")), cell(r)] for r in rows],
        )


def _damping(row: Mapping[str, Any]) -> str:
    return "" if row["damping"] is None else f"{row['damping']:g}"


def removed(result: Mapping[str, Any]) -> Iterator[str]:
    """Change of the queries' loss without the top and the bottom of each ranking."""
    rows = result.get("query_loss_change") or []
    if rows:
        yield "### Change of the queries' loss (nats a token) without the extremes of each ranking"
        yield ""
        yield from table(
            ["unit", "method", "target", "share", "without the top", "without the bottom"],
            [
                [r["unit"], r["method"], r["target"], f"{r['fraction']:.0%}", change(r), change(other(rows, r))]
                for r in rows
                if r["side"] == "top"
            ],
        )


def other(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Mapping[str, Any]:
    same = ("unit", "method", "target", "fraction")
    return next(r for r in rows if r["side"] == "bottom" and all(r[k] == row[k] for k in same))


def change(row: Mapping[str, Any]) -> str:
    return f"{row['query_loss_change']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


def main(path: Path) -> str:
    result = json.loads(path.read_text(encoding="utf-8"))
    s, cost = result["settings"], result["cost"]
    lines = [
        f"Plan `{s['plan'][:8]}`; {s['data']}; {s['examples']} examples, {s['steps']} steps, {s['queries']} queries a "
        f"target ({s['responses']}); peak learning rate {s['learning_rate']:g}, eps_root {s['eps_root']:g}. "
        f"{cost['retrains']} retrains, {cost['retrains_per_minute']:.1f} a minute while they ran.",
        "",
        f"Metasmoothness: {', '.join(f'{x:.3f}' for x in result['metasmoothness'])}. "
        f"Gates: {json.dumps(result['gates'])}.",
        *([f"Unfinished: {s['unfinished_blocks']}."] if s["unfinished_blocks"] else []),
        "",
        *lds(result),
        *pairs(result),
        *sweep(result),
        *removed(result),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
