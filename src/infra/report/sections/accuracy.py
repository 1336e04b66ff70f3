"""How accurate every model is on held-out problems, over all of them and by difficulty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from infra.report import plot
from infra.report.data import ReportData, table
from infra.report.plot import Mark, Panel, Row
from infra.report.section import Figure, Section, Sentence, Table
from infra.report.sections.contrasts import contrast_verdict, interval
from infra.report.wording import count_of, is_number, listing, number, percent, points, set_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEAN = "mean"
FEW_SEEDS = 3
_LINES = (("ink-3", "-", "o"), ("ink", "--", "s"), ("neg-strong", ":", "D"), ("pos-strong", "-.", "^"))
_MAIN_SETS = ("base", "sft", "flip", "same-difficulty-swap")


def single_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of single seeds (all rows where there is no column ``seed``)."""
    return frame[frame["seed"].astype(str) != MEAN] if "seed" in frame.columns else frame


def over_seeds(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row per ``keys``: the run's own row of seed 'mean', else the mean of the seeds.

    A mean made here has no interval unless there is one seed. Columns ``keys, n, accuracy, low, high``.
    """
    rows = []
    for key, mine in frame.groupby(keys, sort=False):
        given = mine[mine["seed"].astype(str) == MEAN] if "seed" in mine.columns else mine.iloc[:0]
        single = single_seeds(mine)
        alone = len(single) == 1 or len(given) > 0
        source = single.iloc[0] if len(single) == 1 else given.iloc[0] if len(given) else mine.iloc[0]
        row = dict(zip(keys, key if isinstance(key, tuple) else (key,)))
        row["n"] = source["n"]
        row["accuracy"] = source["accuracy"] if alone else mine["accuracy"].mean()
        for end in ("low", "high"):
            row[end] = source[end] if alone and end in mine.columns else None
        rows.append(row)
    return pd.DataFrame(rows, columns=[*keys, "n", "accuracy", "low", "high"])


def _figures(data: ReportData) -> Iterable[Figure]:
    found = table(data, "accuracy")
    if found is None:
        return
    panels = []
    for (task, split), rows in found.groupby(["task", "split"], sort=False):
        means = over_seeds(rows, ["arm"]).set_index("arm")
        lines = [_row(str(arm), means.loc[arm], rows[rows["arm"] == arm]) for arm in dict.fromkeys(rows["arm"])]
        heading = f"{task} · {split} · n = {int(rows['n'].iloc[0])} problems"
        said = f"Accuracy on {task}, {split}, by training set and seed"
        panels.append(plot.forest(heading, said, lines, "accuracy (%)", row=30, zero=False))
    yield Figure("accuracy", panels, "Large: the mean over seeds. Small: each seed. Lines are 95% intervals.")


def _row(arm: str, mean: pd.Series, rows: pd.DataFrame) -> Row:
    name, seeds = set_name(arm), single_seeds(rows)
    marks = [_mark(f"{name}, mean over seeds", mean)]
    if len(seeds) > 1:
        gap = min(0.22, 0.62 / len(seeds))
        for j, (_, row) in enumerate(seeds.iterrows()):
            marks.append(_mark(f"seed {row['seed']}", row, (j - (len(seeds) - 1) / 2) * gap, small=True))
    return Row(name, marks)


def _mark(name: str, row: pd.Series, shift: float = 0.0, small: bool = False) -> Mark:
    value, low, high = (100 * float(row[c]) if is_number(row[c]) else None for c in ("accuracy", "low", "high"))
    ends = "" if low is None or high is None else f" [{percent(row['low'])}, {percent(row['high'])}]"
    said = f"{name}: {percent(row['accuracy'])}{ends}, n = {int(row['n'])}"
    tint = "rule-2" if small else "accent"
    return Mark(float("nan") if value is None else value, low, high, said, tint, shift=shift, small=small)


def _answer(data: ReportData) -> Iterable[Sentence]:
    """Fine-tuned against base per task: by their paired contrast where there is one, else by their intervals."""
    accuracy, contrasts = table(data, "accuracy"), table(data, "contrasts")
    if accuracy is None:
        return
    shown = accuracy[accuracy["split"] == "held-out"] if (accuracy["split"] == "held-out").any() else accuracy
    for task, rows in shown.groupby("task", sort=False):
        base, sft = rows[rows["arm"] == "base"], rows[rows["arm"] == "sft"]
        if base.empty or sft.empty:
            continue
        before, after = over_seeds(base, ["task"]).iloc[0], over_seeds(sft, ["task"]).iloc[0]
        verdict, tone, how = _gain(task, contrasts, _ends(before, base), _ends(after, sft))
        seeds = count_of(single_seeds(sft)["seed"].nunique(), "seed")
        text = (
            f"Fine-tuning on the original data moves {task} from {percent(before['accuracy'])} to "
            f"{percent(after['accuracy'])}: {how} (n = {int(after['n'])}, {seeds})."
        )
        yield Sentence("Did training work?", text, verdict, tone)


def _gain(
    task: object, contrasts: pd.DataFrame | None, base: tuple[float, float], sft: tuple[float, float]
) -> tuple[str, str, str]:
    """(verdict, tone, words): the paired contrast if the run has it, else whether the two intervals meet."""
    if contrasts is not None:
        paired = contrasts[(contrasts["task"] == task) & (contrasts["contrast"] == "sft - base")]
        if len(paired):
            row = paired.iloc[0]
            verdict, tone = contrast_verdict(row)
            return verdict, tone, f"{points(row['difference'])} points {interval(row['low'], row['high'])}, {verdict}"
    if sft[0] > base[1]:
        return "higher", "up", "intervals apart"
    if sft[1] < base[0]:
        return "lower", "down", "intervals apart"
    return "undecided", "open", "the intervals overlap, undecided"


def _ends(mean: pd.Series, rows: pd.DataFrame) -> tuple[float, float]:
    """The mean's interval where it has one, else the widest reach of the seeds' intervals."""
    if is_number(mean["low"]) and is_number(mean["high"]):
        return float(mean["low"]), float(mean["high"])
    return float(rows["low"].min()), float(rows["high"].max())


def _caveats(data: ReportData) -> Iterable[str]:
    accuracy = table(data, "accuracy")
    if accuracy is None:
        return
    trained = single_seeds(accuracy[accuracy["arm"] != "base"])
    seeds = trained.groupby("arm", sort=False)["seed"].nunique()
    if len(seeds) and seeds.min() < FEW_SEEDS:
        few = listing(set_name(str(a)) for a in seeds[seeds < FEW_SEEDS].index)
        yield f"Only {count_of(int(seeds.min()), 'training seed')} for {few}."
    insample = accuracy[accuracy["split"].astype(str).str.contains("in-sample")]
    if len(insample):
        tasks = listing(dict.fromkeys(map(str, insample["task"])))
        yield f"Accuracy on {tasks} is in-sample: its problems also serve as targets."


def _slopes(data: ReportData) -> Iterable[Figure]:
    """Accuracy over difficulty per task: the base model, the original data and the main training sets."""
    found = table(data, "slope")
    if found is None:
        return
    order = [a for a in _MAIN_SETS if (found["arm"] == a).any()] or list(dict.fromkeys(found["arm"]))[:4]
    panels = [
        _slope(str(task), rows[rows["arm"].isin(order)], order) for task, rows in found.groupby("task", sort=False)
    ]
    words = ("solid, round", "dashed, square", "dotted, diamond", "dash-dotted, triangle")
    key = [(_LINES[k][0], f"{set_name(a)} ({words[k]})") for k, a in enumerate(order)]
    yield Figure("accuracy-by-difficulty", panels, "Mean over seeds; shaded: 95% intervals where known.", key=key)


def _slope(task: str, rows: pd.DataFrame, order: list[str]) -> Panel:
    levels = sorted(rows["difficulty"].unique())
    labels = [number(v) if is_number(v) else str(v) for v in levels]

    def paint(ax: Axes) -> None:
        for arm, (tint, line, marker) in zip(order, _LINES):
            mine = over_seeds(rows[rows["arm"] == arm], ["difficulty"]).set_index("difficulty").sort_index()
            x, y = [levels.index(d) for d in mine.index], [100 * float(v) for v in mine["accuracy"]]
            ax.plot(x, y, color=plot.colour(tint), ls=line, marker=marker, ms=5, lw=1.6)
            low, high = (100 * pd.to_numeric(mine[c], errors="coerce").to_numpy(dtype=float) for c in ("low", "high"))
            ax.fill_between(x, low, high, color=plot.colour(tint), alpha=0.1, lw=0)
            for at, (level, row) in zip(zip(x, y), mine.iterrows()):
                said = f"{set_name(arm)}, difficulty {level}: {percent(row['accuracy'])}, n = {int(row['n'])}"
                ax.plot(*[[v] for v in at], "o", ms=14, mfc="none", mec="none", gid=plot.tip(said))
        ax.set_ylim(0, max([10.0, *(100 * float(v) for v in rows["accuracy"])]) * 1.08)
        ax.set_xlim(-0.3, max(len(levels) - 0.7, 0.3))
        plot.finish(ax, "difficulty", "accuracy (%)", x_ticks=False)
        ax.set_xticks(range(len(levels)), labels)

    return Panel(task, f"Accuracy on {task} by difficulty", paint, 242, top=plot.TOP + 16)


SECTION = Section(
    "accuracy",
    "Accuracy",
    "Verified answers on problems that no target and no choice has seen: the base model before training, the model "
    "fine-tuned on the original data, and one model for every changed training set and seed.",
    (
        Table(
            "accuracy",
            "Accuracy",
            "arm seed task split n accuracy low high",
            filters="arm task split",
            percent="accuracy low high",
        ),
    ),
    _figures,
    _answer,
    caveats=_caveats,
)

SLOPE = Section(
    "slope",
    "Where it gets hard",
    "Accuracy over the difficulty fixed before any training.",
    (
        Table(
            "slope",
            "Accuracy by difficulty",
            "arm task difficulty n accuracy",
            filters="arm task",
            percent="accuracy low high",
        ),
    ),
    _slopes,
)
