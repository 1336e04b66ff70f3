"""Whether influence predicts what retraining does: on the run's own changed training sets, and on random subsets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from infra.analysis import MIN_SWAPS, swap_correlation
from infra.report import plot
from infra.report.data import ReportData, table
from infra.report.plot import Mark, Panel, Row
from infra.report.section import Figure, Section, Sentence, Table
from infra.report.wording import count_of, is_number, listing, number, points, set_name, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_GAP = 13.0
_MARGIN = 132.0


def _figures(data: ReportData) -> Iterable[Figure]:
    """Predicted against measured change of f, a panel per target, training sets named in the margin."""
    found = table(data, "arms")
    if found is None:
        return
    known = found.dropna(subset=["predicted", "measured_f"])
    panels = [_panel(str(target), rows) for target, rows in known.groupby("target", sort=False)]
    if panels:
        yield Figure(
            "predicted-and-measured",
            panels,
            "A point per training set, with the 95% interval of the measured change. Hollow: the measured change went "
            "the other way than predicted.",
        )


def _panel(target: str, rows: pd.DataFrame) -> Panel:
    height = max(276.0, plot.TOP + plot.BOTTOM + 24 + _LABEL_GAP * len(rows))

    def paint(ax: Axes) -> None:
        ends = [v for c in ("measured_f", "f_low", "f_high") for v in rows[c] if is_number(v)]
        plot.limits(ax.set_xlim, [*rows["predicted"], 0.0])
        plot.limits(ax.set_ylim, [*ends, 0.0])
        plot.finish(ax, "predicted: influence put in − taken out", "measured change of f")
        ax.axhline(0, color=plot.colour("ink-3"), lw=1, zorder=1)
        ax.axvline(0, color=plot.colour("ink-3"), lw=1, zorder=1)
        ink = plot.colour("ink-2")
        for _, row in rows.iterrows():
            x, y = float(row["predicted"]), float(row["measured_f"])
            if is_number(row["f_low"]) and is_number(row["f_high"]):
                ax.plot([x, x], [row["f_low"], row["f_high"]], color=ink, lw=1.6)
            face = ink if x * y > 0 else plot.colour("bg")
            ax.plot([x], [y], "o", ms=7, mfc=face, mec=ink, mew=1.3, zorder=3)
            ax.plot([x], [y], "o", ms=16, mfc="none", mec="none", zorder=4, gid=plot.tip(_tip(row)))
        _labels(ax, rows, height - plot.BOTTOM - plot.TOP - 16)

    return Panel(
        f"Target {target} · {count_of(len(rows), 'training set')}",
        f"Predicted and measured change of f for {target}",
        paint,
        height,
        52,
        _MARGIN,
        top=plot.TOP + 16,
    )


def _labels(ax: Axes, rows: pd.DataFrame, height: float) -> None:
    """Names in the right margin, apart from each other, each with a thin line to its point."""
    low, high = ax.get_ylim()
    at = [height * (float(y) - low) / (high - low) for y in rows["measured_f"]]
    edge = ax.get_xlim()[1]
    for (_, row), place in zip(rows.iterrows(), plot.spread(at, _LABEL_GAP, 4.0, height - 4.0)):
        y = low + place / height * (high - low)
        ax.annotate(
            set_name(str(row["arm"])),
            (edge, y),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=plot.colour("ink-2"),
            fontsize=plot.SIZE - 0.5,
        )
        ax.plot([row["predicted"], edge], [row["measured_f"], y], color=plot.colour("rule-2"), lw=0.7, zorder=0)


def _tip(row: pd.Series) -> str:
    return (
        f"{set_name(str(row['arm']))}: predicted {signed(row['predicted'])}, measured {signed(row['measured_f'])} "
        f"[{number(row['f_low'])}, {number(row['f_high'])}]; accuracy {points(row['measured_accuracy'])} points"
    )


def _answer(data: ReportData) -> Iterable[Sentence]:
    """For how many training sets the sign of the predicted change of f is the measured one."""
    found = table(data, "arms")
    if found is None:
        return
    both = found.dropna(subset=["predicted", "measured_f"])
    both = both[both["arm"] != "base"]
    if both.empty:
        return
    hits = int((both["predicted"] * both["measured_f"] > 0).sum())
    names = listing(set_name(str(a)) for a in both["arm"].unique())
    yield Sentence(
        "Does influence predict retraining?",
        f"Influence predicted the sign of the measured change in f in {hits} of {len(both)} pairs of a training set "
        f"and a target, where guessing gets half ({names}).",
        f"{hits} of {len(both)}",
        "plain",
    )
    for _, row in swap_correlation(both).iterrows():
        if is_number(row["rho"]):
            interval = f"[{number(row['low'])}, {number(row['high'])}]"
            yield Sentence(
                f"Does influence rank training sets by {row['target']}?",
                f"Over {row['n']} training sets, the predicted and the measured change in f of {row['target']} have a "
                f"rank correlation of {number(row['rho'])} {interval}.",
                f"{number(row['rho'])} {interval}",
                "plain",
            )


def _caveats(data: ReportData) -> Iterable[str]:
    found = table(data, "arms")
    if found is not None and found["arm"].nunique() < MIN_SWAPS:
        yield (
            f"Predicted against measured rests on {found['arm'].nunique()} training sets, under {MIN_SWAPS}: no "
            "correlation is given."
        )


SECTION = Section(
    "predicted",
    "Predicted and measured",
    "The sum of the influence of what goes into a training set, minus that of what comes out, beside what retraining "
    "on it did to f.",
    (
        Table(
            "arms",
            "Training sets: predicted and measured",
            "arm target predicted measured_f f_low f_high measured_accuracy acc_low acc_high",
            filters="arm target",
            points="measured_accuracy acc_low acc_high",
        ),
    ),
    _figures,
    _answer,
    caveats=_caveats,
)


def _lds_figures(data: ReportData) -> Iterable[Figure]:
    """LDS of every method, best first, a panel per target, kind of removal and protocol."""
    found = table(data, "validation_lds")
    if found is None:
        return
    panels = []
    for (target, kind, protocol), rows in found.groupby(["target", "kind", "protocol"], sort=False):
        ceiling = rows["ceiling"].max()
        top = f" · ceiling {number(ceiling, 2)}" if is_number(ceiling) and protocol != "same_seed" else ""
        lines = [
            Row(str(r["method"]).replace("_", " "), [Mark(r["value"], r["low"], r["high"], _lds_tip(r), "accent")])
            for _, r in rows.sort_values("value", ascending=False, kind="stable").iterrows()
        ]
        heading = f"{target} · {str(kind).replace('_', ' ')}, {str(protocol).replace('_', ' ')}{top}"
        panels.append(plot.forest(heading, f"LDS of every method for {target}", lines, "LDS (rank correlation)"))
    yield Figure("lds", panels, "LDS with its 95% interval: 1 ranks every subset as retraining does.")


def _lds_tip(row: pd.Series) -> str:
    return f"{row['method']}: {number(row['value'], 2)} [{number(row['low'], 2)}, {number(row['high'], 2)}]"


_LDS = "value low high"
VALIDATION = Section(
    "validation",
    "Do the scores predict retraining",
    "LDS: over random subsets of the training data, the rank correlation of a method's summed scores with f after "
    "training again. ‘same_seed’ repeats the recorded data order; ‘seed_mean’ averages fresh orders, and its ceiling "
    "is what noise leaves possible.",
    (
        Table(
            "validation_lds",
            "LDS of the run's scores and of simpler ones",
            f"target method protocol kind {_LDS} ceiling ratio n_subsets n_seeds",
            filters="target method protocol kind",
        ),
        Table(
            "validation_differences",
            "Differences between methods on the same retrains",
            "target protocol kind better than difference low high excludes_zero",
            filters="target protocol kind",
        ),
        Table(
            "validation_removal",
            "Loss of the queries without the top and bottom of the ranking",
            "method target unit side fraction query_loss_change low high",
            filters="target unit side",
        ),
        Table(
            "validation_accuracy",
            "LDS against held-out accuracy",
            f"target protocol kind method {_LDS} n_subsets n_seeds",
        ),
        Table(
            "validation_tracking",
            "How well f follows held-out accuracy over retrains",
            f"target {_LDS} n_runs",
        ),
    ),
    _lds_figures,
)
