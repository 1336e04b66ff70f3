"""Figures for the page and for a paper: matplotlib, colour-blind safe, labelled, with n.

Each function returns a ``Figure`` that belongs to no window; :func:`to_svg` writes it as text, the same
bytes for the same data.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from infra.data import is_whole

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Okabe and Ito's colours, told apart with every common form of colour blindness."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"

STYLE: Mapping[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.hashsalt": "infra",
    "svg.fonttype": "none",
    "axes.axisbelow": True,
}

FORM_UNITS = {
    "raw": "influence per example",
    "per_token": "influence per response token",
    "length_matched": "influence per example,\nat equal length",
}

FACES = ((GREY, "q at most 0.05"), ("#cccccc", "q above 0.05"), ("white", "too few to judge"))


def _style() -> AbstractContextManager[None]:
    settings: Any = dict(STYLE)
    return matplotlib.rc_context(settings)


def to_svg(figure: Figure) -> str:
    """The figure as SVG text without date or random ids."""
    out = io.StringIO()
    with _style():
        figure.savefig(out, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return out.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix, without dates or random ids: the same bytes each time."""
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None, "ModDate": None}}
    with _style():
        figure.savefig(path, metadata=dates.get(path.suffix), bbox_inches="tight")


def run_figures(tables: Mapping[str, pd.DataFrame], examples: pd.DataFrame | None = None) -> dict[str, Figure]:
    """Every figure that a run's tables (and its scored examples) can fill, by name."""

    def has(name: str) -> bool:
        return name in tables and len(tables[name]) > 0

    made: dict[str, Figure] = {}
    if has("accuracy"):
        made["accuracy"] = accuracy_by_arm(tables["accuracy"])
    if has("slope"):
        made["accuracy-by-difficulty"] = accuracy_slope(tables["slope"])
    if has("effects"):
        whole = tables["effects"][tables["effects"]["target"].astype(str).map(is_whole)]
        for attribute in dict.fromkeys(whole["attribute"]):
            made[f"effects-{attribute}"] = effects_by_value(whole, attribute=str(attribute))
    for name in ("behaviours", "token_classes", "parts"):
        if has(name):
            form = "per_token" if name == "token_classes" else "length_matched"
            made[name] = effects_by_label(tables[name], form=form)
    if has("contrasts"):
        made["contrasts"] = contrast_forest(tables["contrasts"])
    if has("arms"):
        whole = tables["arms"][tables["arms"]["target"].astype(str).map(is_whole)]
        made["predicted-and-measured"] = predicted_against_measured(whole)
    if has("agreement") and examples is not None:
        train = examples[examples["set"] == "train"] if "set" in examples else examples
        for _, pair in tables["agreement"].iterrows():
            a, b = str(pair["a"]), str(pair["b"])
            made[f"targets-{a}-{b}"] = target_scatter(
                train, train[f"score_{a}"].to_numpy(), train[f"score_{b}"].to_numpy(), (a, b)
            )
    return made


def effects_by_label(
    table: pd.DataFrame, *, form: str = "length_matched", targets: Sequence[str] | None = None
) -> Figure:
    """Effects with 95% intervals by label (behaviours, token classes, parts): a panel per target, labels downward.

    Markers as in :func:`effects_by_value`; n (spans, or examples that have the class) stands beside the label.
    """
    mine = table[table["form"] == form]
    names = list(dict.fromkeys(mine["target"])) if targets is None else list(targets)
    labels, domains = list(dict.fromkeys(mine["value"])), list(dict.fromkeys(mine["domain"]))
    counts: Mapping[Any, int] = dict(mine[mine["target"] == names[0]].groupby("value")["n"].sum()) if names else {}
    with _style():
        figure = Figure(figsize=(2.2 + 2.4 * max(len(names), 1), 1.2 + 0.3 * max(len(labels), 1)), layout="constrained")
        axes = figure.subplots(1, max(len(names), 1), squeeze=False, sharey=True)[0]
        for ax, target in zip(axes, names):
            ax.axvline(0, color=GREY, lw=0.8)
            for d, domain in enumerate(domains):
                colour, marker = PALETTE[d % 7], MARKERS[d % 7]
                ax.plot([], [], marker, color=colour, label=f"{domain} examples", ls="")
                for _, row in mine[(mine["target"] == target) & (mine["domain"] == domain)].iterrows():
                    y = labels.index(row["value"]) + 0.2 * (d - (len(domains) - 1) / 2)
                    if np.isfinite(row["low"]) and np.isfinite(row["high"]):
                        ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.4, solid_capstyle="butt")
                    ax.plot([row["effect"]], [y], marker, ms=5, mfc=_face(row, colour), mec=colour)
            ax.set_title(f"target: {target}")
            ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
        axes[0].set_yticks(range(len(labels)), [f"{str(v).replace('_', ' ')} (n {int(counts[v])})" for v in labels])
        axes[0].invert_yaxis()
        unit = FORM_UNITS[form].replace("example", "span") if form != "per_token" else "influence per token"
        figure.supxlabel(f"{unit} (label minus rest)".replace("\n", " "), fontsize=9)
        for face, words in FACES:
            axes[0].plot([], [], "o", mfc=face, mec=GREY, color=GREY, ls="", label=words)
        _legend(axes[0])
        return figure


def _face(row: pd.Series, colour: str) -> str:
    """White: undecided; the colour: q at most 5%; else grey."""
    found = row["status"] == "ok" and row["q"] <= 0.05
    return "white" if row["status"] != "ok" else colour if found else "#cccccc"


def effects_by_value(
    table: pd.DataFrame,
    *,
    attribute: str = "difficulty",
    form: str = "length_matched",
    targets: Sequence[str] | None = None,
    xlabel: str | None = None,
) -> Figure:
    """Effects with 95% intervals by value of an attribute: a panel per target, a colour and marker per
    domain.

    White markers are undecided (too few examples), coloured ones have q <= 0.05, grey ones have not.
    """
    mine = table[(table["attribute"] == attribute) & (table["form"] == form)]
    names = list(dict.fromkeys(mine["target"])) if targets is None else list(targets)
    values, domains = _natural(mine["value"]), list(dict.fromkeys(mine["domain"]))
    with _style():
        figure, axes = _panels(max(len(names), 1), width=3.4, height=2.7)
        for ax, target in zip(axes, names):
            ax.axhline(0, color=GREY, lw=0.8)
            for d, domain in enumerate(domains):
                rows = mine[(mine["target"] == target) & (mine["domain"] == domain)]
                shift = 0.16 * (d - (len(domains) - 1) / 2)
                colour, marker = PALETTE[d % 7], MARKERS[d % 7]
                ax.plot([], [], marker, color=colour, label=f"{domain} examples", ls="")
                for _, row in rows.iterrows():
                    x = values.index(row["value"]) + shift
                    _interval(ax, x, row["effect"], row["low"], row["high"], colour)
                    ax.plot([x], [row["effect"]], marker, ms=5, mfc=_face(row, colour), mec=colour)
            n = [int(mine[(mine["target"] == target) & (mine["value"] == v)]["n"].sum()) for v in values]
            ax.set_xticks(range(len(values)), [f"{v}\nn {k}" for v, k in zip(values, n)])
            ax.set_title(f"target: {target}")
            ax.set_xlabel(xlabel or attribute.replace("_", " "))
        axes[0].set_ylabel(FORM_UNITS[form] + "\n(cell minus rest)")
        for face, words in FACES:
            axes[0].plot([], [], "o", mfc=face, mec=GREY, color=GREY, ls="", label=words)
        _legend(axes[0])
        return figure


def contrast_forest(contrasts: pd.DataFrame) -> Figure:
    """Forest plot of arm contrasts in accuracy points: primary filled, exploratory hollow, grey bar = MDE."""
    rows = contrasts.reset_index(drop=True)
    with _style():
        figure = Figure(figsize=(6.4, 0.9 + 0.3 * max(len(rows), 1)), layout="constrained")
        ax = figure.add_subplot()
        ax.axvline(0, color=GREY, lw=0.8)
        for i, (_, row) in enumerate(rows.iterrows()):
            primary = row["role"] == "primary"
            colour = PALETTE[0] if primary else GREY
            ax.plot(
                [-100 * row["mde"], 100 * row["mde"]],
                [i, i],
                color="#e4e4e4",
                lw=7,
                solid_capstyle="butt",
                zorder=0,
            )
            ax.plot([100 * row["low"], 100 * row["high"]], [i, i], color=colour, lw=1.6)
            ax.plot([100 * row["difference"]], [i], "o", ms=6, mfc=colour if primary else "white", mec=colour)
        names = [f"{r['task']}: {r['contrast']}" for _, r in rows.iterrows()]
        sizes = [f"{r['n_problems']} problems, {r['n_seeds']} seeds" for _, r in rows.iterrows()]
        ax.set_yticks(range(len(rows)), [f"{name}\n{size}" for name, size in zip(names, sizes)])
        ax.invert_yaxis()
        ax.set_xlabel("difference in held-out accuracy, points\n(95% interval; grey: smallest detectable)")
        ax.plot([], [], "o", color=PALETTE[0], label="primary")
        ax.plot([], [], "o", mfc="white", mec=GREY, color=GREY, label="exploratory")
        _legend(ax)
        return figure


def accuracy_by_arm(accuracy: pd.DataFrame, *, arms: Sequence[str] | None = None) -> Figure:
    """Held-out accuracy from base over SFT to the arms: mean with interval, every seed a small dot; a panel
    per task.
    """
    tasks = list(dict.fromkeys(accuracy["task"]))
    order = list(dict.fromkeys(accuracy["arm"])) if arms is None else list(arms)
    with _style():
        figure, axes = _panels(max(len(tasks), 1), width=3.4, height=2.7)
        for t, (ax, task) in enumerate(zip(axes, tasks)):
            for x, arm in enumerate(order):
                rows = accuracy[(accuracy["task"] == task) & (accuracy["arm"] == arm)]
                seeds, mean = rows[rows["seed"] != "mean"], rows[rows["seed"] == "mean"]
                spread = np.linspace(-0.12, 0.12, max(len(seeds), 1))[: len(seeds)]
                ax.plot(x + spread, 100 * seeds["accuracy"], ".", color=GREY, ms=4, alpha=0.7)
                for _, row in mean.iterrows():
                    _interval(ax, x, 100 * row["accuracy"], 100 * row["low"], 100 * row["high"], PALETTE[t % 7])
                    ax.plot([x], [100 * row["accuracy"]], MARKERS[t % 7], color=PALETTE[t % 7], ms=6)
            n = accuracy[accuracy["task"] == task]["n"]
            ax.set_title(f"{task} (n = {int(n.max()) if len(n) else 0} problems)")
            ax.set_xticks(range(len(order)), order, rotation=35, ha="right")
            ax.set_ylim(bottom=0)
        axes[0].set_ylabel("held-out accuracy, %\n(95% interval; dots: seeds)")
        return figure


def predicted_against_measured(table: pd.DataFrame, *, measured: str = "measured_f") -> Figure:
    """Predicted effect of each swap against the measured change, with its interval; a panel per target."""
    low, high = ("f_low", "f_high") if measured == "measured_f" else ("acc_low", "acc_high")
    rows = table.dropna(subset=[measured])
    targets = list(dict.fromkeys(rows["target"]))
    arms = list(dict.fromkeys(rows["arm"]))
    with _style():
        figure, axes = _panels(max(len(targets), 1), width=3.2, height=2.8)
        for ax, target in zip(axes, targets):
            ax.axhline(0, color=GREY, lw=0.8)
            ax.axvline(0, color=GREY, lw=0.8)
            for _, row in rows[rows["target"] == target].iterrows():
                a = arms.index(row["arm"])
                _interval(ax, row["predicted"], row[measured], row[low], row[high], PALETTE[a % 7])
                ax.plot([row["predicted"]], [row[measured]], MARKERS[a % 7], color=PALETTE[a % 7], ms=6)
            ax.set_title(f"target: {target} (n = {len(rows[rows['target'] == target])} swaps)")
            ax.set_xlabel("predicted: sum I(in) - sum I(out)")
        for a, arm in enumerate(arms):
            axes[0].plot([], [], MARKERS[a % 7], color=PALETTE[a % 7], label=arm)
        axes[0].set_ylabel(
            "measured change in " + ("f" if measured == "measured_f" else "accuracy") + "\n(95% interval)"
        )
        _legend(axes[0])
        return figure


def target_scatter(
    examples: pd.DataFrame, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]], names: tuple[str, str]
) -> Figure:
    """Influence of each example on one target against another, coloured by domain, with Spearman's rho in
    the title.
    """
    from scipy.stats import spearmanr

    rho = float(spearmanr(x, y).statistic) if len(x) > 2 else float("nan")
    with _style():
        figure = Figure(figsize=(3.8, 3.4), layout="constrained")
        ax = figure.add_subplot()
        ax.axhline(0, color=GREY, lw=0.8)
        ax.axvline(0, color=GREY, lw=0.8)
        for d, domain in enumerate(dict.fromkeys(examples["domain"])):
            mine = (examples["domain"] == domain).to_numpy()
            ax.scatter(
                np.asarray(x)[mine],
                np.asarray(y)[mine],
                s=8,
                alpha=0.5,
                color=PALETTE[d % 7],
                marker=MARKERS[d % 7],
                linewidths=0,
                label=f"{domain} (n = {int(mine.sum())})",
                rasterized=len(x) > 5000,
            )
        ax.set_xlabel(f"influence on {names[0]}")
        ax.set_ylabel(f"influence on {names[1]}")
        ax.set_title(f"Spearman rho = {rho:.2f}")
        _legend(ax)
        return figure


def accuracy_slope(slope: pd.DataFrame, *, arms: Sequence[str] = ("base", "sft")) -> Figure:
    """Held-out accuracy by difficulty with intervals (rows of seed 'mean' where there are seeds); a panel
    per task.
    """
    rows = slope[slope["seed"] == "mean"] if "seed" in slope.columns else slope
    tasks, levels = list(dict.fromkeys(rows["task"])), _natural(rows["difficulty"].astype(str))
    with _style():
        figure, axes = _panels(max(len(tasks), 1), width=3.0, height=2.6)
        for ax, task in zip(axes, tasks):
            for a, arm in enumerate(arms):
                mine = rows[(rows["task"] == task) & (rows["arm"] == arm)]
                x = [levels.index(str(v)) for v in mine["difficulty"]]
                ax.plot(x, 100 * mine["accuracy"], marker=MARKERS[a % 7], color=PALETTE[a % 7], label=arm, lw=1.2)
                if {"low", "high"} <= set(mine.columns):
                    ax.fill_between(x, 100 * mine["low"], 100 * mine["high"], color=PALETTE[a % 7], alpha=0.15, lw=0)
            ax.set_xticks(range(len(levels)), levels)
            ax.set_title(task)
            ax.set_xlabel("difficulty level")
            ax.set_ylim(0, 100)
        axes[0].set_ylabel("held-out accuracy, %")
        _legend(axes[0])
        return figure


def _panels(n: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(n, 3)
    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax in grid.flat[n:]:
        ax.set_visible(False)
    return figure, list(grid.flat[:n])


def _interval(ax: Axes, x: float, y: float, low: float, high: float, colour: str) -> None:
    if np.isfinite(low) and np.isfinite(high):
        ax.plot([x, x], [low, high], color=colour, lw=1.4, solid_capstyle="butt")
    elif np.isfinite(y):
        ax.plot([x], [y], "_", color=colour)


def _legend(ax: Axes) -> None:
    """The entries of one panel, above all panels."""
    handles, labels = ax.get_legend_handles_labels()
    figure = ax.get_figure()
    if handles and isinstance(figure, Figure):
        figure.legend(handles, labels, loc="outside upper left", ncols=min(len(labels), 3))


def _natural(values: pd.Series) -> list[str]:
    """Distinct values, numbers in order of size first."""

    def key(v: str) -> tuple[int, float, str]:
        try:
            return (0, float(v), v)
        except ValueError:
            return (1, 0.0, v)

    return sorted(dict.fromkeys(values.astype(str)), key=key)


def power_by_size(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Share of planted effects found against their size, with Wilson intervals; a line per entry of
    ``curves``.

    Tables as :func:`infra.analysis.power_curve` returns them.
    """
    with _style():
        figure = Figure(figsize=(4.4, 3.2), layout="constrained")
        ax = figure.add_subplot()
        ax.axhline(80, color=GREY, lw=0.8, ls=":")
        for c, (name, curve) in enumerate(curves.items()):
            colour = PALETTE[c % 7]
            n = int(curve["n_shuffles"].max()) if len(curve) else 0
            ax.plot(
                curve["size"], 100 * curve["power"], marker=MARKERS[c % 7], color=colour, label=f"{name} ({n} each)"
            )
            ax.fill_between(curve["size"], 100 * curve["low"], 100 * curve["high"], color=colour, alpha=0.15, lw=0)
        ax.set_xlabel("planted effect, standard deviations of example influence")
        ax.set_ylabel("found (q at most 0.05), %\n(95% interval; dotted: 80%)")
        ax.set_ylim(0, 100)
        _legend(ax)
        return figure
