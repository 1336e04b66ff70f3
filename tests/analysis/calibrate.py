"""Numbers and figure of docs/analysis.md: ``python -m tests.analysis.calibrate docs/figures`` (about two
minutes)."""

import sys
from pathlib import Path

from infra.analysis import null_control, power_curve
from infra.analysis.figures import power_by_size, to_svg
from tests.analysis.made import made

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


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
