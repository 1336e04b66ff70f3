"""What retraining on changed data did to accuracy, against controls: the only causal evidence of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd

from infra.report import plot
from infra.report.data import ReportData, table
from infra.report.plot import Mark, Row
from infra.report.section import ALPHA, Figure, Section, Sentence, Table
from infra.report.wording import contrast_name, count_of, is_number, number, points


def contrast_verdict(row: pd.Series) -> tuple[str, str]:
    """('higher' | 'lower' | 'undecided', tone).

    Decided when the interval excludes zero and, where it is given, the corrected p is under 0.05.
    """
    known = is_number(row["low"]) and is_number(row["high"])
    if not known or str(row.get("status", "ok")) == "undecided":
        return "undecided", "open"
    corrected = not is_number(row["p_holm"]) or float(row["p_holm"]) < ALPHA
    if float(row["low"]) > 0 and corrected:
        return "higher", "up"
    if float(row["high"]) < 0 and corrected:
        return "lower", "down"
    return "undecided", "open"


def interval(low: object, high: object) -> str:
    """'[−0.8, 3.1]' in points; 'without an interval' where there is none."""
    if not (is_number(low) and is_number(high)):
        return "without an interval"
    return f"[{points(low, sign=False)}, {points(high, sign=False)}]"


def detectable(row: pd.Series) -> float | None:
    """The row's minimum detectable effect; None where the spread that it comes from is unknown."""
    known = is_number(row["mde"]) and float(row["mde"]) > 0 and is_number(row["low"])
    return float(row["mde"]) if known else None


def why_undecided(row: pd.Series) -> str:
    """In a few characters why a contrast is undecided."""
    if not (is_number(row["low"]) and is_number(row["high"])):
        return "no interval"
    if float(row["low"]) <= 0 <= float(row["high"]):
        return "reaches zero"
    return f"p {number(row['p_holm'], 2)}" if is_number(row["p_holm"]) else "too few"


def _figures(name: str) -> Callable[[ReportData], Iterable[Figure]]:
    def draw(data: ReportData) -> Iterable[Figure]:
        found = table(data, name)
        if found is None:
            return
        panels = []
        for task, rows in found.groupby("task", sort=False):
            rows = rows.assign(_first=(rows["role"] != "primary").astype(int)).sort_values("_first", kind="stable")
            lines = [_row(row) for _, row in rows.iterrows()]
            said = f"Differences in accuracy on {task} between training sets"
            sizes = (
                f"{count_of(int(rows['n_problems'].max()), 'problem')}, {count_of(int(rows['n_seeds'].max()), 'seed')}"
            )
            heading = f"{task} · {sizes}"
            panels.append(plot.forest(heading, said, lines, "difference in accuracy (points)", row=34))
        bold = " Bold: the primary comparison." if (found["role"] == "primary").any() else ""
        yield Figure(
            name,
            panels,
            "Held-out accuracy, paired by seed and problem, with 95% intervals. Grey band: too small to be detected. "
            f"Hollow: undecided, for the reason beside it.{bold}",
            key=(("pos-strong", "higher"), ("neg-strong", "lower"), ("open", "undecided")),
        )

    return draw


def _row(row: pd.Series) -> Row:
    verdict, tone = contrast_verdict(row)
    name = contrast_name(str(row["contrast"]))
    tint = {"up": "pos-strong", "down": "neg-strong"}.get(tone, "ink-3")
    value, low, high = (100 * float(row[c]) for c in ("difference", "low", "high"))
    tip = f"{name}: {points(row['difference'])} {interval(row['low'], row['high'])}, {verdict}"
    note = why_undecided(row) if verdict == "undecided" else ""
    mde = detectable(row)
    mark = Mark(value, low, high, tip, tint, filled=not note, note=note)
    return Row(name, [mark], row["role"] == "primary", None if mde is None else 100 * mde)


def _answer(data: ReportData) -> Iterable[Sentence]:
    found = table(data, "contrasts")
    if found is None:
        return
    for _, row in found[found["role"] == "primary"].iterrows():
        verdict, tone = contrast_verdict(row)
        mde = detectable(row)
        more = f"; smallest detectable effect {points(mde, sign=False)} points" if mde is not None else ""
        more += f" ({row['note']})" if row.get("note") else ""
        name = contrast_name(str(row["contrast"]))
        text = (
            f"{name[:1].upper()}{name[1:]} on {row['task']}: {points(row['difference'])} points "
            f"{interval(row['low'], row['high'])}, {verdict}{more}."
        )
        yield Sentence("Does changing the data pay?", text, verdict, tone, first=True)


def _caveats(data: ReportData) -> Iterable[str]:
    found = table(data, "contrasts")
    if found is None:
        return
    primary = found[found["role"] == "primary"]
    mde = [v for _, row in primary.iterrows() if (v := detectable(row)) is not None]
    if mde:
        low, high = points(min(mde), sign=False), points(max(mde), sign=False)
        reach = low if low == high else f"{low} to {high}"
        yield f"The primary comparisons could only have detected differences of {reach} points or more."
    others = len(found) - len(primary)
    if others:
        verb = "is" if others == 1 else "are"
        yield f"{count_of(others, 'further comparison')} {verb} exploratory: not among the corrected tests."


_COLUMNS = "task contrast role difference low high p p_holm n_problems n_seeds mde label"
_POINTS = "difference low high mde"
SECTION = Section(
    "arms",
    "Changing the data and training again",
    "The only causal evidence: models trained on a changed training set, against models trained on an equally changed "
    "one that differs in nothing but difficulty. ‘Flip’ replaces easy math by harder math and hard code by easier "
    "code; ‘same-difficulty swap’ replaces the same examples by new ones of their own difficulty.",
    (Table("contrasts", "Differences between training sets", _COLUMNS, filters="task role", points=_POINTS),),
    _figures("contrasts"),
    _answer,
    caveats=_caveats,
)

STRATEGIES = Section(
    "strategies",
    "Using influence to make better data",
    "Training sets selected, pruned, weighted or cut by influence, each against a control that does as much at "
    "random. Exploratory comparisons; p is corrected over this table.",
    (Table("strategies", "Strategies against their matched controls", _COLUMNS, filters="task", points=_POINTS),),
    _figures("strategies"),
)
