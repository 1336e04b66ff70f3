"""What docs/results/effects-power.md shows: ``python -m tests.analysis.calibrate docs/figures`` (about two minutes).

``python -m tests.analysis.calibrate run RUN [SHUFFLES]``: the same on the scores of a run, with its own folds, targets
and attributes.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from infra.analysis import effects, with_bands
from infra.report.plot import COLOURS, MARKERS, finish
from infra.report.svg import to_svg
from infra.store import read_json
from tests.analysis.made import made
from tests.analysis.null_and_power import null_control, power_curve

ATTRIBUTES = ("difficulty", "style", "has_verification")


def main(folder: Path) -> None:
    """Print the tables as Markdown and write ``analysis-power.svg``."""
    print("| examples | query folds | noise between folds | shuffles | tables with a discovery | share |")
    print("|---|---|---|---|---|---|")
    for n, folds, noise in ((600, 10, 0.3), (600, 10, 2.0), (1000, 50, 0.5)):
        data = made(n=n, n_folds=folds, by_length=0.02, effect=1.0, fold_noise=noise)
        found = null_control(*data, attributes=ATTRIBUTES, n_shuffles=400)
        cells = (n, folds, noise, found.n_shuffles, found.n_discoveries, f"{found.share:.1%}")
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    sizes = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
    curves = {
        f"{n} examples": power_curve(
            *made(n=n, n_folds=10), attribute="difficulty", value="5", domain="math", sizes=sizes, n_shuffles=100
        )
        for n in (600, 1000, 3000)
    }
    print("\n| planted effect | " + " | ".join(curves) + " |\n|---|" + "---|" * len(curves))
    for i, size in enumerate(sizes):
        print(f"| {size} | " + " | ".join(f"{c.power.iloc[i]:.0%}" for c in curves.values()) + " |")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "analysis-power.svg").write_text(to_svg(power_by_size(curves)), encoding="utf-8")


def power_by_size(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Share of planted effects found against their size, with Wilson intervals; a line per entry of ``curves``.

    Tables as :func:`tests.analysis.null_and_power.power_curve` returns them.
    """
    figure = Figure(figsize=(4.8, 3.2), layout="constrained")
    ax = figure.add_subplot()
    ax.axhline(80, color=COLOURS["ink-3"], lw=0.8, ls=":")
    for k, (name, curve) in enumerate(curves.items()):
        tint, n = COLOURS[f"d{k}"], int(curve["n_shuffles"].max()) if len(curve) else 0
        ax.plot(curve["size"], 100 * curve["power"], MARKERS[k] + "-", color=tint, label=f"{name} ({n} each)")
        ax.fill_between(curve["size"], 100 * curve["low"], 100 * curve["high"], color=tint, alpha=0.15, lw=0)
    ax.set_ylim(0, 100)
    finish(ax, "planted effect, standard deviations of example influence", "found (q ≤ 0.05), %; dotted: 80%")
    ax.legend(frameon=False)
    return figure


def of_run(run: Path, n_shuffles: int = 200) -> None:
    """Null control and power on the real scores of a run's training examples."""
    examples = with_bands(pd.read_parquet(run / "scores" / "examples.parquet"))
    scores, folds = np.load(run / "scores" / "folds.npy"), pd.read_parquet(run / "directions" / "folds.parquet")
    weights = read_json(run / "directions" / "targets.json")
    targets = {t: {f: x for f, x in zip(folds.fold, w) if x > 0} for t, w in weights.items()}
    attributes = [a for a in ("difficulty", "difficulty_band", "style") if a in examples]
    found = effects(examples, scores, folds, targets, attributes, n_boot=200)
    n = int((examples["set"] == "train").sum())
    print(f"{n} examples, {len(folds)} folds, {len(targets)} targets, {len(found)} rows", flush=True)
    decided = int((found.status == "ok").sum())
    print(f"labels as they are: {int((found.q <= 0.05).sum())} of {decided} decided rows found")
    null = null_control(examples, scores, folds, targets, attributes, n_shuffles=n_shuffles)
    print(
        f"null: {null.n_discoveries} of {null.n_shuffles} tables ({null.share:.1%}); passes: {null.passes}", flush=True
    )
    whole = {t: w for t, w in targets.items() if ":" not in t}
    for domain in sorted(set(examples["domain"])):
        curve = power_curve(
            examples,
            scores,
            folds,
            whole,
            attribute="difficulty",
            value="5",
            domain=domain,
            sizes=(0.25, 0.5, 1.0, 2.0),
            n_shuffles=50,
        )
        found_at = ", ".join(f"{s} -> {p:.0%}" for s, p in zip(curve["size"], curve.power))
        print(f"planted in {domain}, level 5: {found_at}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        of_run(Path(sys.argv[2]), *map(int, sys.argv[3:]))
        raise SystemExit
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
