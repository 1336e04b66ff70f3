"""What a run says of itself: the question, its facts and next steps, settings, versions and dropped records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from infra.report.data import ReportData, table
from infra.report.section import Table
from infra.report.wording import count, listing

LISTS = {
    "leaks": Table("leaks", "Training and pool records dropped for overlap with an evaluation"),
    "skipped": Table("skipped", "Rows that were skipped on request"),
}
_FIRST = ("settings", "model", "model_hash", "versions")
_NOT_SHOWN = ("question", "tables", *LISTS)
_MOST_ROWS = 400


def listed_tables(data: ReportData) -> dict[str, pd.DataFrame]:
    """``leaks`` and ``skipped`` from the results or their settings, where the tables do not hold them."""
    tables = {}
    settings = data.results.get("settings")
    for name in LISTS:
        rows = data.results.get(name)
        if rows is None and isinstance(settings, Mapping):
            rows = settings.get(name)
        if table(data, name) is None and isinstance(rows, (list, tuple)) and rows:
            tables[name] = pd.DataFrame([r if isinstance(r, Mapping) else {name: str(r)} for r in rows])
    return tables


def run_facts(data: ReportData) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of (key, value) texts: settings, model and versions first, loose values last."""
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    loose: list[tuple[str, str]] = []
    hidden = {*_NOT_SHOWN, *data.tables}
    names = [*(n for n in _FIRST if n in data.results), *(k for k in data.results if k not in _FIRST)]
    for name in names:
        value = data.results[name]
        if name in hidden or value is None:
            continue
        if isinstance(value, Mapping):
            rows = flat({k: v for k, v in value.items() if k not in LISTS})
            groups += [(name.replace("_", " ").capitalize(), rows[:_MOST_ROWS])] if rows else []
        else:
            loose += flat(value, name)
    groups += [("Further", loose[:_MOST_ROWS])] if loose else []
    return groups or [("Settings", [("settings", "none were given")])]


def question(data: ReportData) -> str:
    """What was asked: ``results['question']``, or a sentence from counts, tasks and training sets."""
    given = data.results.get("question")
    if isinstance(given, str) and given.strip():
        return given
    n = _sizes(data).get("train")
    accuracy, targets = table(data, "accuracy"), table(data, "targets")
    skills = list(dict.fromkeys(map(str, accuracy["task"]))) if accuracy is not None else []
    if not skills and targets is not None:
        skills = list(dict.fromkeys(map(str, targets["domain"])))
    which = f"Which of {count(n)} training examples" if n is not None else "Which training examples"
    asked = (
        f"{which}, which steps in them and which tokens made the model better at {listing(skills) or 'its targets'}?"
    )
    if accuracy is not None and {"flip", "same-difficulty-swap"} <= set(map(str, accuracy["arm"])):
        asked += (
            " And does replacing easy math by harder math, and hard code by easier code, beat replacing the same "
            "examples by new ones of the same difficulty?"
        )
    return asked


def facts(data: ReportData) -> list[tuple[str, str]]:
    """A line of key facts under the title, from ``results``."""
    model = data.results.get("model")
    out: list[tuple[str, str]] = []
    if isinstance(model, Mapping):
        out.append(("Model", str(model.get("name", model.get("path", "–")))))
        if model.get("parameters") is not None:
            out.append(("Parameters", count(model["parameters"])))
    elif model:
        out.append(("Model", str(model)))
    out += [(k.replace("_", " ").capitalize(), count(n)) for k, n in list(_sizes(data).items())[:4] if n]
    seeds = data.results.get("seeds")
    if seeds is not None:
        out.append(("Seeds", str(len(seeds)) if isinstance(seeds, (list, tuple)) else str(seeds)))
    return out


def _sizes(data: ReportData) -> dict[str, Any]:
    counts = data.results.get("counts")
    given = counts if isinstance(counts, Mapping) else {}
    return {str(k): v.get("n") if isinstance(v, Mapping) else v for k, v in given.items()}


def next_steps(data: ReportData) -> list[tuple[str, str]]:
    """(what it gives, command) pairs: what to do with this run next, typed in the folder of the page."""
    steps = []
    if data.quick:
        steps.append(("The whole job instead of the smoke test", "infra run"))
    trained, effects = table(data, "accuracy") is not None, table(data, "effects")
    if trained and (effects is None or (effects["validity"].astype(str) == "not validated").any()):
        steps.append(("Measure by retraining how well these scores predict", "infra validate . --minutes 20"))
    if not trained and table(data, "top") is not None:
        keep = "Write the training file without the least helpful fifth, and a control of the same length"
        steps.append((keep, "infra select . --keep 0.8 --control length"))
    return [*steps, ("Search, filter and open every example", "infra view .")]


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as dotted keys and short texts, in order."""
    if isinstance(value, Mapping):
        return [row for k, v in value.items() for row in flat(v, f"{prefix}.{k}" if prefix else str(k))]
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(v, Mapping) for v in value):
            return [row for i, v in enumerate(value[:12]) for row in flat(v, f"{prefix}[{i}]")]
        shown = ", ".join(map(str, value[:12]))
        return [(prefix, shown + (f", … ({len(value)} in all)" if len(value) > 12 else ""))]
    return [(prefix, "–" if value is None else str(value))]
