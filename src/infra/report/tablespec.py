"""How each table is shown: titles, column labels, the kind of number in a column, what can be filtered."""

from __future__ import annotations

from typing import Any

import pandas as pd

from infra.report.data import TABLE_COLUMNS
from infra.report.encode import plain

TITLES = {
    "accuracy": "Accuracy",
    "slope": "Accuracy by difficulty",
    "effects": "Effects",
    "contrasts": "Contrasts between arms",
    "strategies": "Strategies against their matched controls",
    "arms": "Arms: predicted and measured",
    "targets": "Targets",
    "hypotheses": "Hypotheses",
    "top": "Most helpful and most harmful examples",
    "top_steps": "Most helpful and most harmful steps",
    "top_tokens": "Most helpful and most harmful tokens",
    "judge_agreement": "Behaviours by rules and by a judge",
    "agreement": "Agreement between targets",
    "permutation": "Permutation tests",
    "step_definitions": "Agreement of the two definitions of a step's influence",
    "domain_means": "Mean influence of domains",
    "parts": "Effects of parts",
    "skipped": "Rows that were skipped on request",
    "behaviours": "Effects of behaviours",
    "token_classes": "Effects of token classes",
    "validation_lds": "LDS of the run's scores and of simpler ones",
    "validation_differences": "Differences between methods on the same retrains",
    "validation_removal": "Loss of the queries without the top and bottom of the ranking",
    "validation_accuracy": "LDS against held-out accuracy",
    "validation_tracking": "How well f follows held-out accuracy over retrains",
    "leaks": "Training and pool records dropped for overlap with an evaluation",
}

_LABELS = {
    "p_holm": "p (Holm)",
    "n_problems": "problems",
    "n_seeds": "seeds",
    "mde": "min. detectable",
    "measured_f": "measured Δf",
    "f_low": "low",
    "f_high": "high",
    "measured_accuracy": "Δ accuracy (points)",
    "acc_low": "low (points)",
    "acc_high": "high (points)",
    "predicted": "predicted Δf",
    "overlap_n": "overlap n",
    "id": "example",
    "rho": "Spearman ρ",
    "rho_within": "ρ within examples",
    "rho_per_token": "ρ per token",
    "n_steps": "steps",
    "n_rules": "by rules",
    "n_judge": "by judge",
    "n_examples": "examples",
    "n_permutations": "shuffles",
    "statistic": "largest |t|",
    "same_sign": "same sign",
}
_POINTS = {
    "difference": "difference (points)",
    "low": "low (points)",
    "high": "high (points)",
    "mde": "min. detectable (points)",
}
_IN_POINTS = ("contrasts", "strategies")
_INTEGERS = {
    "n",
    "seed",
    "overlap_n",
    "n_rest",
    "tried",
    "solved",
    "kept",
    "rank",
    "n_problems",
    "n_seeds",
    "step",
    "position",
}
_INTEGERS |= {"n_steps", "n_examples", "n_permutations", "n_rules", "n_judge"}
_LONG = {"preview", "statement", "evidence", "text", "question"}
_FILTERS = {
    "accuracy": ("arm", "task", "split"),
    "slope": ("arm", "task"),
    "effects": ("target", "attribute", "domain", "form", "status"),
    "behaviours": ("target", "value", "domain", "form", "status"),
    "token_classes": ("target", "value", "domain", "form", "status"),
    "parts": ("target", "value", "domain", "form", "status"),
    "domain_means": ("target", "domain", "form", "status"),
    "contrasts": ("task", "role"),
    "strategies": ("task",),
    "arms": ("arm", "target"),
    "top": ("target", "side", "domain"),
    "top_steps": ("target", "side", "domain"),
    "top_tokens": ("target", "side", "domain"),
    "permutation": ("table", "target", "attribute", "domain"),
    "step_definitions": ("target", "domain"),
    "validation_lds": ("target", "method", "protocol", "kind"),
    "validation_differences": ("target", "protocol", "kind"),
    "validation_removal": ("target", "unit", "side"),
}
_TINTED = {"effect", "influence", "difference", "predicted", "measured_f"}


def title(name: str) -> str:
    """The heading of a table."""
    return TITLES.get(name, name.replace("_", " ").capitalize())


def kind(table: str, column: str) -> str:
    """How a column's values are printed: one of text, long, code, int, number, effect, percent, points."""
    if column in _INTEGERS:
        return "int"
    if column in _LONG:
        return "long"
    if column == "id":
        return "code"
    if table in ("accuracy", "slope") and column in ("accuracy", "low", "high"):
        return "percent"
    if (table in _IN_POINTS and column in _POINTS) or column in ("measured_accuracy", "acc_low", "acc_high"):
        return "points"
    return "effect" if column in _TINTED or column.startswith("score_") else "number"


def table_spec(name: str, frame: pd.DataFrame, limit: int = 6) -> dict[str, Any]:
    """What the page's script draws a table from; ``rows`` hold the exact values, for the CSV."""
    known = [c for c in TABLE_COLUMNS.get(name, ()) if c in frame.columns]
    columns = known + [str(c) for c in frame.columns if c not in known]
    specs = []
    for column in columns:
        label = _POINTS[column] if name in _IN_POINTS and column in _POINTS else _LABELS.get(column)
        how = kind(name, column)
        if how == "number" and not pd.api.types.is_numeric_dtype(frame[column]):
            how = "text"
        specs.append(
            {
                "key": column,
                "label": label or column.replace("_", " "),
                "kind": how,
                "tinted": column in _TINTED or column.startswith("score_"),
            }
        )
    values = [[plain(v) for v in frame[c].tolist()] for c in columns]
    rows = [list(row) for row in zip(*values)] if len(frame) else []
    return {
        "name": name,
        "title": title(name),
        "columns": specs,
        "rows": rows,
        "filters": list(_FILTERS.get(name, ())),
        "limit": limit,
    }
