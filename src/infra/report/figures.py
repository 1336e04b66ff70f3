"""The report's figures as grids of SVG panels, made from its tables and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from infra.data import is_whole
from infra.report.data import FORMS, ReportData, table
from infra.report.seeds import over_seeds, single_seeds
from infra.report.sentences import ALPHA, contrast_verdict, interval
from infra.report.svg import Axis, Panel, axis
from infra.report.wording import (
    arm_name,
    contrast_name,
    count,
    is_number,
    listing,
    number,
    percent,
    points,
    short_contrast,
    signed,
)

WIDTH = 360.0
ROW = 24.0
MOST_POINTS = 3000
SHAPES = ("blue round", "grey square", "dark round", "light square")
UNITS = {
    "behaviours": "influence per step",
    "token_classes": "influence per response",
    "parts": "influence per response",
}
FORM_TITLES = {"raw": "Raw", "per_token": "Per token", "length_matched": "Length-matched"}


@dataclass(frozen=True)
class Figure:
    """Panels ``(heading, svg)`` under one caption; ``variants`` names the switch they belong to (the effect's
    form).
    """

    panels: Sequence[tuple[str, str]]
    caption: str
    variant: str = ""


@dataclass(frozen=True)
class ForestRow:
    """One line of a forest plot: a point with an interval. ``tone`` is up, down, open or plain."""

    label: str
    value: float
    low: float
    high: float
    tone: str
    title: str
    strong: bool = False


def forest(rows: Sequence[ForestRow], title: str, label: str, gutter: float = 130.0) -> str:
    """Points with intervals, one row each, around a zero line."""
    height = ROW * len(rows) + 46
    panel = Panel(WIDTH, height, label)
    ends = [v for r in rows for v in (r.low, r.high, r.value) if is_number(v)]
    scale = axis(ends, gutter, WIDTH - 12, zero=True)
    bottom = ROW * len(rows) + 6
    panel.x_axis(scale, bottom, title, 2)
    for i, row in enumerate(rows):
        y = ROW * i + ROW / 2 + 4
        panel.text(
            gutter - 8,
            y + 4,
            row.label,
            "rowlabel strong" if row.strong else "rowlabel",
            "end",
            int(gutter / 6.3),
        )
        if not is_number(row.value):
            panel.text(scale(0) + 6, y + 4, "no data", "tick")
            continue
        with panel.titled(row.title):
            panel.hit(gutter, y - ROW / 2, WIDTH - gutter, ROW)
            if is_number(row.low) and is_number(row.high):
                panel.line(scale(row.low), y, scale(row.high), y, f"bar {row.tone}")
            panel.dot(scale(row.value), y, 4.5, f"pt {row.tone}")
    return panel.render()


def accuracy_figure(data: ReportData) -> Figure | None:
    """Held-out accuracy of every arm per task: a dot and interval per seed, a bar at the mean."""
    found = table(data, "accuracy")
    if found is None:
        return None
    panels = []
    for (task, split), rows in found.groupby(["task", "split"], sort=False):
        arms = list(dict.fromkeys(rows["arm"]))
        gutter, height = 138.0, 30.0 * len(arms) + 46
        panel = Panel(WIDTH, height, f"Accuracy on {task}, {split}, by arm and seed")
        values = [100 * float(v) for c in ("accuracy", "low", "high") for v in rows[c] if is_number(v)]
        scale = axis(values, gutter, WIDTH - 14)
        panel.x_axis(scale, 30.0 * len(arms) + 6, "accuracy (%)", 2)
        means = over_seeds(rows, ["arm"]).set_index("arm")
        for i, arm in enumerate(arms):
            y = 30.0 * i + 20
            name = arm_name(str(arm))
            panel.text(gutter - 8, y + 4, name, "rowlabel", "end", 21)
            mean = means.loc[arm]
            _accuracy_mark(panel, scale, mean, y, 24, f"{name}, mean over seeds", 4.5)
            seeds = single_seeds(rows[rows["arm"] == arm])
            gap = min(6.0, 18.0 / max(1, len(seeds)))
            for j, (_, r) in enumerate(seeds.iterrows() if len(seeds) > 1 else ()):
                dy = (j - (len(seeds) - 1) / 2) * gap
                _accuracy_mark(panel, scale, r, y + dy, gap, f"{name}, seed {r['seed']}", 2.2)
        n = int(rows["n"].iloc[0])
        panels.append((f"{task} · {split} · n = {n}", panel.render()))
    return Figure(panels, "Large: the mean over seeds; small: each seed. 95% intervals.")


def _accuracy_mark(
    panel: Panel, scale: Axis, row: pd.Series, y: float, height: float, name: str, radius: float
) -> None:
    """A dot with its interval; small dots (single seeds) have a faint one."""
    low, high = row["low"], row["high"]
    known = is_number(low) and is_number(high)
    ends = f" [{percent(low)}, {percent(high)}]" if known else ""
    big = radius > 3
    with panel.titled(f"{name}: {percent(row['accuracy'])}{ends}, n = {int(row['n'])}"):
        panel.hit(scale.start, y - height / 2, scale.end - scale.start, height)
        if known:
            panel.line(scale(100 * low), y, scale(100 * high), y, "bar accent" if big else "bar thin")
        panel.dot(scale(100 * row["accuracy"]), y, radius, "pt accent" if big else "pt plain")


def slope_figure(data: ReportData) -> Figure | None:
    """Accuracy over difficulty per task, base, SFT and the main arms."""
    found = table(data, "slope")
    if found is None:
        return None
    order = [a for a in ("base", "sft", "flip", "same-difficulty-swap") if (found["arm"] == a).any()]
    order = order or list(dict.fromkeys(found["arm"]))[:4]
    panels = []
    for task, rows in found.groupby("task", sort=False):
        rows = rows[rows["arm"].isin(order)]
        levels = sorted(rows["difficulty"].unique())
        panel = Panel(WIDTH, 226, f"Accuracy on {task} by difficulty")
        left, right, top, bottom = 44.0, WIDTH - 14, 26.0, 184.0
        y = axis([100 * float(v) for v in rows["accuracy"]] + [0.0, 10.0], bottom, top)
        x = axis([float(i) for i in range(len(levels))] or [0.0], left + 8, right - 8)
        panel.y_axis(y, left, "accuracy (%)", right)
        for i, level in enumerate(levels):
            panel.text(x(i), bottom + 15, number(level) if is_number(level) else level, "tick", "middle")
        panel.text((left + right) / 2, bottom + 31, "difficulty", "axis", "middle")
        for k, arm in enumerate(order):
            mine = over_seeds(rows[rows["arm"] == arm], ["difficulty"]).set_index("difficulty").sort_index()
            if mine.empty:
                continue
            places = [(x(levels.index(d)), y(100 * float(r["accuracy"]))) for d, r in mine.iterrows()]
            panel.path(places, f"series s{k}")
            for (px, py), (d, r) in zip(places, mine.iterrows()):
                with panel.titled(f"{arm_name(arm)}, difficulty {d}: {percent(r['accuracy'])}, n = {int(r['n'])}"):
                    panel.hit(px - 10, py - 10, 20, 20)
                    panel.dot(px, py, 3.4, f"pt s{k}")
        panels.append((str(task), panel.render()))
    keys = ", ".join(f"{arm_name(a)} {('solid', 'dashed', 'dotted', 'dash-dotted')[k]}" for k, a in enumerate(order))
    return Figure(panels, f"Lines: {keys}. Mean over seeds.")


def effect_figures(data: ReportData, name: str, attribute: str | None = None) -> list[Figure]:
    """One figure per form: a forest panel per target and domain, rows the attribute's values."""
    found = table(data, name)
    if found is None:
        return []
    if attribute is not None:
        found = found[found["attribute"] == attribute]
    found = whole_targets_first(found)
    figures = []
    for form in FORMS:
        panels = []
        for (target, domain), rows in found[found["form"] == form].groupby(["target", "domain"], sort=False):
            unit = "influence per token" if form == "per_token" else UNITS.get(name, "influence per example")
            lines = [_effect_row(r) for _, r in rows.iterrows()]
            longest = max(len(line.label) for line in lines)
            svg = forest(
                lines,
                f"effect, {unit}",
                f"{name}: effect on {target} of {domain} data, {FORM_TITLES[form]}",
                104 if longest <= 15 else 158,
            )
            panels.append((f"target {target} ← {domain} data", svg))
        if panels:
            caption = (
                "Effect of a cell: its mean influence minus that of the other cells of its domain, with "
                "the 95% interval. "
                f"Filled: false-discovery rate under {ALPHA:.0%}, blue helps, orange hurts; hollow: "
                f"undecided."
            )
            figures.append(Figure(panels, caption, form))
    return figures


def whole_targets_first(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of whole targets (``math``) before those of their parts (``math:3``), else in order."""
    return frame.iloc[(~frame["target"].astype(str).map(is_whole)).to_numpy().argsort(kind="stable")]


def _effect_row(row: pd.Series) -> ForestRow:
    decided = row["status"] == "ok" and is_number(row["q"]) and float(row["q"]) < ALPHA
    tone = "open" if not decided else "up" if float(row["effect"]) > 0 else "down"
    q = f", q = {number(row['q'], 2)}" if is_number(row["q"]) else ""
    title = (
        f"{row['value']}: {signed(row['effect'])} [{number(row['low'])}, {number(row['high'])}], "
        f"n = {int(row['n']) if is_number(row['n']) else '–'}{q}"
    )
    label = f"level {row['value']}" if row["attribute"] == "difficulty" else str(row["value"]).replace("_", " ")
    return ForestRow(label, row["effect"], row["low"], row["high"], tone, title)


def contrast_figure(data: ReportData, name: str = "contrasts") -> Figure | None:
    """Forest plot of a table of retraining contrasts per task, the primary one (if any) on top."""
    found = table(data, name)
    if found is None:
        return None
    panels = []
    for task, rows in found.groupby("task", sort=False):
        rows = rows.assign(_first=(rows["role"] != "primary").astype(int)).sort_values("_first", kind="stable")
        lines = []
        for _, r in rows.iterrows():
            verdict, tone = contrast_verdict(r)
            name, reach = contrast_name(str(r["contrast"])), interval(r["low"], r["high"])
            title = f"{name}: {points(r['difference'])} {reach}, {verdict}"
            lines.append(
                ForestRow(
                    short_contrast(str(r["contrast"])),
                    100 * r["difference"],
                    100 * r["low"],
                    100 * r["high"],
                    tone,
                    title,
                    r["role"] == "primary",
                )
            )
        panels.append((str(task), forest(lines, "difference in accuracy (points)", f"Contrasts on {task}", 168)))
    bold = " Bold: the primary comparison." if (found["role"] == "primary").any() else ""
    return Figure(panels, f"Held-out accuracy, paired by seed and problem, 95% intervals.{bold}")


def arms_figure(data: ReportData) -> Figure | None:
    """Predicted against measured change of f, a panel per target, arms as labelled points."""
    found = table(data, "arms")
    if found is None:
        return None
    panels = []
    for target, rows in found.groupby("target", sort=False):
        rows = rows.dropna(subset=["predicted", "measured_f"])
        if rows.empty:
            continue
        panel = Panel(WIDTH, 276, f"Predicted and measured change of f for {target}")
        left, right, top, bottom = 52.0, WIDTH - 14, 26.0, 232.0
        x = axis(list(rows["predicted"]), left, right, zero=True)
        y = axis(
            [v for c in ("measured_f", "f_low", "f_high") for v in rows[c] if is_number(v)],
            bottom,
            top,
            zero=True,
        )
        panel.y_axis(y, left, "measured change of f", right)
        panel.x_axis(x, bottom, "predicted, sum of influence in − out", top)
        placed: list[tuple[bool, float]] = []
        for _, r in rows.sort_values("measured_f").iterrows():
            px, py = x(r["predicted"]), y(r["measured_f"])
            hit = r["predicted"] * r["measured_f"] > 0
            title = (
                f"{arm_name(str(r['arm']))}: predicted {signed(r['predicted'])}, measured "
                f"{signed(r['measured_f'])} "
                f"[{number(r['f_low'])}, {number(r['f_high'])}]; accuracy {points(r['measured_accuracy'])} "
                f"points"
            )
            with panel.titled(title):
                panel.hit(px - 9, py - 12, 18, 24)
                if is_number(r["f_low"]) and is_number(r["f_high"]):
                    panel.line(px, y(r["f_low"]), px, y(r["f_high"]), "bar plain")
                panel.dot(px, py, 4.5, "pt plain" if hit else "pt open")
            near_right = px > (left + right) / 2
            label_y = min([py, *(v - 13 for side, v in placed if side == near_right and v - 13 < py)])
            placed.append((near_right, label_y))
            panel.text(
                px + (-8 if near_right else 8),
                label_y + 4,
                arm_name(str(r["arm"])),
                "rowlabel",
                "end" if near_right else "start",
            )
        panels.append((f"target {target}", panel.render()))
    return (
        Figure(panels, "An arm per point. Filled: influence predicted the sign of the measured change.")
        if panels
        else None
    )


def scatter_figure(data: ReportData) -> Figure | None:
    """Influence of each training example on one target against another, a panel per pair of whole targets."""
    scores, pairs = data.scores, table(data, "agreement")
    if scores is None or pairs is None:
        return None
    panels = []
    domains = list(dict.fromkeys(scores["domain"].astype(str)))
    shown = scores if len(scores) <= MOST_POINTS else scores.sample(MOST_POINTS, random_state=0)
    for _, pair in pairs.iterrows():
        columns = [f"score_{pair[side]}" for side in "ab"]
        if any(c not in scores.columns for c in columns):
            continue
        panel = Panel(WIDTH, 290, f"Influence of each example on {pair['a']} and on {pair['b']}")
        left, right, top, bottom = 56.0, WIDTH - 14, 26.0, 246.0
        x, y = (
            axis(list(shown[c].quantile([0.002, 0.998])), *ends, zero=True)
            for c, ends in zip(columns, ((left, right), (bottom, top)))
        )
        panel.y_axis(y, left, f"influence on {pair['b']}", right)
        panel.x_axis(x, bottom, f"influence on {pair['a']}", top)
        for k, domain in enumerate(domains):
            mine = shown[shown["domain"].astype(str) == domain][columns].to_numpy(dtype=float)
            places = [(min(max(x(a), left), right), min(max(y(b), top), bottom)) for a, b in mine if is_number(a + b)]
            n = int((scores["domain"].astype(str) == domain).sum())
            with panel.titled(f"{domain}: {n} examples"):
                panel.cloud(places, f"cloud c{k % 4}")
        rho = f"ρ = {number(pair['rho'], 2)} [{number(pair['low'], 2)}, {number(pair['high'], 2)}]"
        panels.append((f"{pair['a']} and {pair['b']} · {rho} · n = {count(pair['n'])}", panel.render()))
    if not panels:
        return None
    shapes = listing(f"{d} {SHAPES[k % 4]}" for k, d in enumerate(domains))
    drawn = "" if len(shown) == len(scores) else f" {count(len(shown))} of {count(len(scores))} examples are drawn."
    return Figure(
        panels,
        f"A mark per training example: {shapes}. Spearman's ρ with its 95% interval over examples; marks beyond the "
        f"99.6% range lie on the edge.{drawn}",
    )
