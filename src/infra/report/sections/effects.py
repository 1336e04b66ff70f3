"""Which kinds of data, steps and tokens help which target: mean influence of a kind against the rest of its domain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import pandas as pd

from infra.data import is_whole
from infra.report import plot
from infra.report.data import ReportData, domains, table, whole
from infra.report.plot import Mark, Row
from infra.report.section import ALPHA, Figure, Section, Sentence, Table
from infra.report.wording import count, is_number, listing, number

FORMS = {"length_matched": "at equal length", "raw": "raw", "per_token": "per token"}
"""The forms of an effect in the order of preference: the first that a table has is quoted and shown first."""

LOW_RELIABILITY = 0.5
_COLUMNS = "target attribute value domain form effect low high n overlap_n p q status label reliability validity mde"


def main_form(rows: pd.DataFrame) -> str:
    """The form that the answer quotes and the figures open on."""
    return next((form for form in FORMS if (rows["form"] == form).any()), str(rows["form"].iloc[0]))


def found(row: pd.Series) -> bool:
    """Whether an effect stands out: judged at all, with a false-discovery rate under 5%."""
    return row["status"] == "ok" and is_number(row["q"]) and float(row["q"]) < ALPHA


def why_hollow(row: pd.Series) -> str:
    """In a few characters why an effect is undecided; '' for one that stands out."""
    if found(row):
        return ""
    if row["status"] == "ok":
        return f"q {number(row['q'], 2)}" if is_number(row["q"]) else "no p"
    note = str(row.get("note") or "")
    if "is under" in note:
        return note.removeprefix("overlap ").replace("is under", "<")
    return {"too": "few queries", "one": "one fold", "no": "no variation"}.get(note.split(" ")[0], "too few")


def draw(data: ReportData, name: str, unit: str) -> Iterable[Figure]:
    """A figure per form and attribute: a panel per target, a row per value, a mark per domain."""
    given = table(data, name)
    if given is None:
        return
    order = (~given["target"].astype(str).map(is_whole).to_numpy(dtype=bool)).argsort(kind="stable")
    given, all_domains = given.iloc[order], domains(data)
    attributes = list(dict.fromkeys(given["attribute"].astype(str)))
    for form in (f for f in FORMS if (given["form"] == f).any()):
        for attribute in attributes:
            rows = given[(given["form"] == form) & (given["attribute"].astype(str) == attribute)]
            if rows.empty:
                continue
            each = "influence per token" if form == "per_token" else f"influence per {unit}"
            panels = [
                plot.forest(
                    f"Target {target}",
                    f"{attribute.replace('_', ' ')}: effect on {target}, {FORMS[form]}",
                    _rows(mine, all_domains),
                    f"effect, {each}",
                    row=10 + 14 * mine.groupby("value", sort=False).size().max(),
                )
                for target, mine in rows.groupby("target", sort=False)
            ]
            shown = [d for d in all_domains if (rows["domain"].astype(str) == d).any()]
            yield Figure(
                f"{name}-{attribute}" if len(attributes) > 1 else name,
                panels,
                f"Effect {FORMS[form]}, with its 95% interval. Hollow: undecided, for the reason beside it (q is the "
                f"false-discovery rate, which must be under {ALPHA:.0%}; n counts the examples to compare).",
                f"By {attribute.replace('_', ' ')}" if len(attributes) > 1 else "",
                form,
                [(plot.domain_style(d, all_domains)[0], f"{d} data") for d in shown],
            )


def _rows(mine: pd.DataFrame, all_domains: list[str]) -> list[Row]:
    rows = []
    for value, cells in mine.groupby("value", sort=False):
        cells = cells.sort_values("domain", key=lambda d: d.astype(str), kind="stable")
        shifts = [(k - (len(cells) - 1) / 2) * 0.8 / len(cells) for k in range(len(cells))]
        marks = [_mark(cell, all_domains, shift) for (_, cell), shift in zip(cells.iterrows(), shifts)]
        level = cells["attribute"].iloc[0] == "difficulty"
        rows.append(Row(f"level {value}" if level else str(value).replace("_", " "), marks))
    return rows


def _mark(row: pd.Series, all_domains: list[str], shift: float) -> Mark:
    tint, marker = plot.domain_style(str(row["domain"]), all_domains)
    why = why_hollow(row)
    n = int(row["n"]) if is_number(row["n"]) else "–"
    tip = f"{row['value']}, {row['domain']} data: {quoted(row)}, n = {n}" + (f", undecided: {why}" if why else "")
    return Mark(row["effect"], row["low"], row["high"], tip, tint, marker, not why, why, shift)


def quoted(row: pd.Series) -> str:
    """An effect with its interval: the same text in the answer and in the figure."""
    return f"{number(row['effect'])} [{number(row['low'])}, {number(row['high'])}]"


def _answer(data: ReportData) -> Iterable[Sentence]:
    """Per target: the most helpful kind of data, by difficulty where the data have one, else by the first attribute."""
    effects = table(data, "effects")
    if effects is None:
        return
    graded = effects[effects["attribute"] == "difficulty"]
    cells = whole(graded if len(graded) else effects[effects["attribute"] == effects["attribute"].iloc[0]])
    form = main_form(effects)
    for target, rows in cells.groupby("target", sort=False):
        pool = rows[rows["form"] == form]
        helpful = pool[[found(r) and r["effect"] > 0 for _, r in pool.iterrows()]] if len(pool) else pool
        kind = str(rows["attribute"].iloc[0]).replace("_", " ")
        if helpful.empty:
            text = (
                f"For {target}, no {kind}{' level' if kind == 'difficulty' else ''} stands out as helpful "
                f"({FORMS[form]}, {len(pool)} cells, false-discovery rate 5%)."
            )
            yield Sentence("Which data helps?", text, "undecided", "open", str(target))
            continue
        best = helpful.iloc[int(helpful["effect"].to_numpy(dtype=float).argmax())]
        same = rows[(rows["domain"] == best["domain"]) & (rows["value"] == best["value"]) & (rows["form"] != form)]
        turned = [FORMS[r["form"]] for _, r in same.iterrows() if r["effect"] * best["effect"] < 0]
        turns = f"; the sign turns when read {listing(turned)}" if turned else ""
        text = (
            f"Influence suggests that {best['domain']} examples of {kind} {best['value']} help {target} most: compared "
            f"{FORMS[form]}, one raises f by {quoted(best)} more than the rest of its domain (n = {int(best['n'])}"
            f"{turns})."
        )
        yield Sentence("Which data helps?", text, "influence suggests", "plain", str(target))


def _judged(data: ReportData) -> pd.DataFrame | None:
    """The table whose validity and reliability speak for the run: effects, or where no attribute is known the means."""
    effects = table(data, "effects")
    return table(data, "domain_means") if effects is None else effects


def _trust(data: ReportData) -> Iterable[tuple[str, str]]:
    """Validity and reliability of the scores of whole examples, per target, in plain sight."""
    effects = _judged(data)
    if effects is None:
        yield "Validity", "Not validated: no retraining has measured how well this influence predicts its outcome."
        return
    mine = whole(effects)
    by_validity = mine.groupby(mine["validity"].astype(str), sort=False)["target"].unique()
    for validity, targets in by_validity.items():
        names = listing(map(str, targets))
        if validity == "not validated":
            yield "Validity", f"Not validated for {names}: no retraining has measured how well this influence predicts."
        else:
            yield "Validity", f"For {names}: {validity}. (LDS: rank correlation with retraining on random subsets.)"
    mine = mine.assign(_r=pd.to_numeric(mine["reliability"], errors="coerce"))
    medians = mine.groupby("target", sort=False)["_r"].median().dropna()
    if len(medians):
        said = listing(f"{target} {number(value, 2)}" for target, value in medians.items())
        yield (
            "Reliability",
            f"Two halves of the queries rank the examples alike with correlation {said} (1 is perfect).",
        )


def _caveats(data: ReportData) -> Iterable[str]:
    effects = _judged(data)
    if effects is None:
        return
    unvalidated = effects[effects["validity"].astype(str) == "not validated"]
    if len(unvalidated):
        scope = "" if len(unvalidated) == len(effects) else f" for {_names(unvalidated['target'])}"
        yield f"Influence is not validated in this run{scope}: no retraining measured how well it predicts."
    if (effects["label"].astype(str) == "associational").all():
        yield "Effects on influence are associational: only retraining on changed data speaks about causes."
    low = effects[pd.to_numeric(effects["reliability"], errors="coerce") < LOW_RELIABILITY]
    if len(low):
        yield (
            f"Low split-half reliability (under {LOW_RELIABILITY}) in {count(len(low))} of {count(len(effects))} "
            f"effect rows, targets {_names(low['target'])}."
        )
    undecided = int((effects["status"].astype(str) == "undecided").sum())
    if undecided:
        yield f"{count(undecided)} of {count(len(effects))} effect rows are undecided for want of overlap or data."


def _names(values: pd.Series) -> str:
    return listing(dict.fromkeys(map(str, values)))


def _figures(name: str, unit: str) -> Callable[[ReportData], Iterable[Figure]]:
    return partial(draw, name=name, unit=unit)


def _table(name: str, title: str, by: str = "value") -> Table:
    return Table(name, title, _COLUMNS, filters=f"target {by} domain form status".replace("  ", " "))


SECTION = Section(
    "effects",
    "Which data helps which skill",
    "The effect of a kind of data: how much more (or less) one of its examples raises f than the other examples of "
    "its domain. Harder problems have longer solutions and losses are summed over tokens, so the same effect is shown "
    "at equal length, raw and per token.",
    (_table("effects", "Effects", "attribute"),),
    _figures("effects", "example"),
    _answer,
    _trust,
    _caveats,
)

DOMAIN_MEANS = Section(
    "domain_means",
    "Does a domain help at all",
    "Mean influence of a domain's examples on each target, against zero: what more data of this kind would do, not "
    "what kind of it would do best.",
    (_table("domain_means", "Mean influence of domains", ""),),
    _figures("domain_means", "example"),
)

BEHAVIOURS = Section(
    "behaviours",
    "Steps: which behaviours help",
    "Influence summed over the tokens of a step, against the other steps of the domain; ‘at equal length’ compares "
    "steps of equal length.",
    (
        _table("behaviours", "Effects of behaviours"),
        Table("judge_agreement", "Behaviours by rules and by a judge", "label kappa n_rules n_judge n_steps"),
    ),
    _figures("behaviours", "step"),
)

TOKEN_CLASSES = Section(
    "token_classes",
    "Tokens: which classes matter",
    "Influence summed over the tokens of one class in a response, against responses with less of it.",
    (_table("token_classes", "Effects of token classes"),),
    _figures("token_classes", "response"),
)

PARTS = Section(
    "parts",
    "Thinking and solution",
    "Influence summed over the tokens of a part of the response.",
    (_table("parts", "Effects of parts"),),
    _figures("parts", "response"),
)
