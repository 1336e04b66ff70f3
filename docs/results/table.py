"""Print a run's main results as Markdown: ``python docs/results/table.py runs/world-default/summary.json``."""

import json
import sys
from pathlib import Path


def points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}"


def main(path: str) -> None:
    summary = json.loads(Path(path).read_text())
    results, runtime = summary["results"], summary["runtime"]
    tables, last = results["tables"], runtime["last_command"]
    counts = ", ".join(f"{k} {v}" for k, v in results["counts"].items())
    print(f"# {results['name']}\n\nRecords: {counts}; dropped {results['dropped']}. Seeds {results['seeds']}.")
    if last:
        env = last["environment"]
        print(
            f"Wall time {last['seconds'] / 60:.1f} min for {last['stages']} stages, peak memory "
            f"{last['peak_memory_bytes'] / 2**30:.1f} GiB, {env['cores']} cores, torch {env['torch']}."
        )
    print("\n| arm | task | n | accuracy % (mean over seeds) | 95% interval |\n|---|---|---|---|---|")
    for r in tables["accuracy"]:
        if r["seed"] == "mean":
            low, high = (f"{100 * r[k]:.1f}" if r[k] is not None else "–" for k in ("low", "high"))
            print(f"| {r['arm']} | {r['task']} | {r['n']} | {100 * r['accuracy']:.1f} | [{low}, {high}] |")
    print("\n| contrast | task | role | points | 95% interval | p (Holm for primary) | smallest detectable |")
    print("|---|---|---|---|---|---|---|")
    for r in tables["contrasts"]:
        p = r["p_holm"] if r["p_holm"] is not None else r["p"]
        p = "–" if p is None else f"{p:.3g}"
        print(
            f"| {r['contrast']} | {r['task']} | {r['role']} | {points(r['difference'])} | [{points(r['low'])}, "
            f"{points(r['high'])}] | {p} | {points(r['mde'])} |"
        )
    if tables.get("strategies"):
        print("\n| strategy and control | task | points | 95% interval | p (Holm) | smallest detectable |")
        print("|---|---|---|---|---|---|")
        for r in tables["strategies"]:
            p = "–" if r["p_holm"] is None else f"{r['p_holm']:.3g}"
            print(
                f"| {r['contrast']} | {r['task']} | {points(r['difference'])} | [{points(r['low'])}, "
                f"{points(r['high'])}] | {p} | {points(r['mde'])} |"
            )
    print("\n| arm | target | predicted change of f | measured | 95% interval | accuracy, points |")
    print("|---|---|---|---|---|---|")
    for r in tables["arms"]:
        if ":" not in r["target"]:
            low, high = ("–" if r[k] is None else f"{r[k]:+.4f}" for k in ("f_low", "f_high"))
            print(
                f"| {r['arm']} | {r['target']} | {r['predicted']:+.3f} | {r['measured_f']:+.4f} | [{low}, {high}] | "
                f"{points(r['measured_accuracy'])} |"
            )
    print("\n| target | tried | solved | kept | source | status |\n|---|---|---|---|---|---|")
    for r in tables["targets"]:
        print(f"| {r['target']} | {r['tried']} | {r['solved']} | {r['kept']} | {r['source']} | {r['status']} |")
    print("\n| hypothesis of the paper | answer | interval | n |\n|---|---|---|---|")
    for r in tables["hypotheses"]:
        print(f"| {r['statement']} | {r['answer']} | {r['interval'] or '–'} | {r['n']} |")


main(sys.argv[1])
