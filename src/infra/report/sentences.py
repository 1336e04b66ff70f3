"""The answer in plain sentences, each built from the numbers of one table row or group; nothing is said
without one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from infra.data import is_whole
from infra.report.data import ReportData, table
from infra.report.seeds import over_seeds, single_seeds
from infra.report.wording import (
    arm_name,
    contrast_name,
    is_number,
    listing,
    number,
    percent,
    points,
    signed,
)

ALPHA = 0.05


@dataclass(frozen=True)
class Sentence:
    """One statement: ``verdict`` is what a chip beside it says, ``tone`` one of up, down, open and plain."""

    topic: str
    text: str
    verdict: str
    tone: str


def answer(data: ReportData) -> list[Sentence]:
    """All sentences, most important first: the primary contrasts, SFT's gain, influence, hypotheses."""
    parts: list[Iterable[Sentence]] = []
    contrasts, accuracy = table(data, "contrasts"), table(data, "accuracy")
    if contrasts is not None:
        parts.append(_contrast(row) for _, row in contrasts[contrasts["role"] == "primary"].iterrows())
    if accuracy is not None:
        parts.append(_gains(accuracy, contrasts))
    effects = table(data, "effects")
    if effects is not None:
        parts.append(_effects(effects))
    arms = table(data, "arms")
    if arms is not None:
        parts.append(_directions(arms))
    hypotheses = table(data, "hypotheses")
    if hypotheses is not None:
        parts.append(_hypotheses(hypotheses))
    return [sentence for part in parts for sentence in part]


def contrast_verdict(row: pd.Series) -> tuple[str, str]:
    """('higher' | 'lower' | 'undecided', tone): decided when the interval excludes zero and, if given, p_holm
    < 0.05.
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


def _contrast(row: pd.Series) -> Sentence:
    verdict, tone = contrast_verdict(row)
    mde = detectable(row)
    more = f"; smallest detectable effect {points(mde, sign=False)} points" if mde is not None else ""
    more += f" ({row['note']})" if row.get("note") else ""
    text = (
        f"{_capital(contrast_name(str(row['contrast'])))} on {row['task']}: {points(row['difference'])} points "
        f"{interval(row['low'], row['high'])}, {verdict}{more}."
    )
    return Sentence("Does changing the data pay?", text, verdict, tone)


def detectable(row: pd.Series) -> float | None:
    """The row's minimum detectable effect; None where the spread that it comes from is unknown."""
    known = is_number(row["mde"]) and float(row["mde"]) > 0 and is_number(row["low"])
    return float(row["mde"]) if known else None


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _gains(accuracy: pd.DataFrame, contrasts: pd.DataFrame | None) -> Iterable[Sentence]:
    """SFT against the base model per task: by their paired contrast where there is one, else decided when the
    intervals of the two means do not meet.
    """
    shown = accuracy[accuracy["split"] == "held-out"] if (accuracy["split"] == "held-out").any() else accuracy
    for task, rows in shown.groupby("task", sort=False):
        base, sft = rows[rows["arm"] == "base"], rows[rows["arm"] == "sft"]
        if base.empty or sft.empty:
            continue
        before, after = over_seeds(base, ["task"]).iloc[0], over_seeds(sft, ["task"]).iloc[0]
        seeds = single_seeds(sft)["seed"].nunique()
        paired = (
            None
            if contrasts is None
            else contrasts[(contrasts["task"] == task) & (contrasts["contrast"] == "sft - base")]
        )
        if paired is not None and len(paired):
            row = paired.iloc[0]
            verdict, tone = contrast_verdict(row)
            how = f"{points(row['difference'])} points {interval(row['low'], row['high'])}, {verdict}"
        else:
            base_ends, sft_ends = _ends(before, base), _ends(after, sft)
            up, down = sft_ends[0] > base_ends[1], sft_ends[1] < base_ends[0]
            verdict, tone = ("higher", "up") if up else ("lower", "down") if down else ("undecided", "open")
            how = "intervals apart" if up or down else "the intervals overlap, undecided"
        text = (
            f"SFT moves {task} from {percent(before['accuracy'])} to {percent(after['accuracy'])}: {how} "
            f"(n = {int(after['n'])}, {seeds} seed{'s' if seeds != 1 else ''})."
        )
        yield Sentence("Did training work?", text, verdict, tone)


def _ends(mean: pd.Series, rows: pd.DataFrame) -> tuple[float, float]:
    """The mean's interval where it has one, else the widest reach of the seeds' intervals."""
    if is_number(mean["low"]) and is_number(mean["high"]):
        return float(mean["low"]), float(mean["high"])
    return float(rows["low"].min()), float(rows["high"].max())


def _effects(effects: pd.DataFrame) -> Iterable[Sentence]:
    """Per target: the most helpful difficulty after length matching, and whether other forms agree."""
    cells = effects[effects["attribute"] == "difficulty"]
    whole = cells[cells["target"].astype(str).map(is_whole)]
    cells = whole if len(whole) else cells
    for target, rows in cells.groupby("target", sort=False):
        matched = rows[rows["form"] == "length_matched"]
        form = "length_matched" if len(matched) else "raw"
        pool = matched if len(matched) else rows[rows["form"] == "raw"]
        found = pool[(pool["status"] == "ok") & (pool["q"] < ALPHA) & (pool["effect"] > 0)]
        if found.empty:
            yield Sentence(
                "Which data helps?",
                f"For {target}, no difficulty level stands out as helpful ({form.replace('_', ' ')}, "
                f"{len(pool)} cells, false-discovery rate 5%).",
                "undecided",
                "open",
            )
            continue
        best = found.iloc[int(found["effect"].to_numpy(dtype=float).argmax())]
        same = rows[(rows["domain"] == best["domain"]) & (rows["value"] == best["value"])]
        others = same[same["form"] != form]
        against = [str(r["form"]).replace("_", " ") for _, r in others.iterrows() if r["effect"] * best["effect"] < 0]
        agree = f"; the sign turns in the {listing(against)} form" if against else ""
        yield Sentence(
            "Which data helps?",
            f"Influence suggests that {best['domain']} examples of difficulty {best['value']} help "
            f"{target} most "
            f"({form.replace('_', ' ')} effect {signed(best['effect'])} "
            f"[{number(best['low'])}, {number(best['high'])}], n = {int(best['n'])}{agree}).",
            "influence suggests",
            "plain",
        )


def _directions(arms: pd.DataFrame) -> Iterable[Sentence]:
    """In how many arms the sign of the predicted change of f is the measured one."""
    both = arms.dropna(subset=["predicted", "measured_f"])
    both = both[both["arm"] != "base"]
    if both.empty:
        return
    hits = int((both["predicted"] * both["measured_f"] > 0).sum())
    names = listing(arm_name(str(a)) for a in both["arm"].unique())
    yield Sentence(
        "Does influence predict retraining?",
        f"Influence predicted the sign of the measured change in f in {hits} of {len(both)} arm–target "
        f"pairs, where guessing gets half ({names}).",
        f"{hits} of {len(both)}",
        "plain",
    )


def _hypotheses(hypotheses: pd.DataFrame) -> Iterable[Sentence]:
    answers = hypotheses["answer"].astype(str)
    tally = listing(f"{n} {name}" for name, n in answers.value_counts().items())
    yield Sentence(
        "What of the paper's findings?",
        f"Of {len(hypotheses)} findings of the paper put to this run's data: {tally}.",
        f"{len(hypotheses)} tested",
        "plain",
    )
