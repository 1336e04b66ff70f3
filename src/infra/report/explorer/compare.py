"""Two runs side by side: how each example's rank moved, which effects differ, what the recipes say differently."""

from __future__ import annotations

from typing import Any

import pandas as pd

from infra.errors import InfraError, InputError
from infra.report.explorer.index import RunIndex
from infra.report.runinfo import flat
from infra.store import read_json

EFFECT_KEYS = ("target", "attribute", "value", "domain", "form")


def rank_changes(
    a: RunIndex, b: RunIndex, target: str, against: str = "", which: str = "all", limit: int = 200
) -> dict[str, Any]:
    """Ranks by ``target`` in ``a`` and by ``against`` (the same target by default) in ``b``, of what both scored.

    Rank 1 is the most helpful. ``a`` and ``b`` may be one run, for two targets side by side; ``which`` names a set.
    ``{"n", "spearman", "table"}`` with ``table`` columns id, rank_a, rank_b, change (up is positive), score_a, score_b,
    largest moves first. Raises :class:`InputError` when a run does not have its target.
    """
    frames = [_scores(run, name, which) for run, name in ((a, target), (b, against or target))]
    both = frames[0].merge(frames[1].drop(columns="preview"), on="id", suffixes=("_a", "_b"))
    for side in "ab":
        both[f"rank_{side}"] = both[f"score_{side}"].rank(ascending=False)
    both["change"] = both["rank_a"] - both["rank_b"]
    rho = both["rank_a"].corr(both["rank_b"]) if len(both) > 2 else None
    order = both["change"].abs().sort_values(ascending=False, kind="stable").index[:limit]
    table = both.loc[order, ["id", "rank_a", "rank_b", "change", "score_a", "score_b", "preview"]]
    return {"n": len(both), "spearman": rho, "table": table.reset_index(drop=True)}


def _scores(run: RunIndex, target: str, which: str) -> pd.DataFrame:
    """id, preview and score of a target, of one set or of all."""
    if target not in run.targets:
        raise InputError(f"there is no target '{target}' in {run.root.name}; it has {', '.join(run.targets)}")
    column = '"score_' + target.replace('"', '""') + '"'
    chosen = "AND set = ?" if which != "all" and "set" in run.columns else ""
    return (
        run.cursor()
        .execute(
            f"SELECT id, any_value(preview) AS preview, any_value({column}) AS score FROM examples "
            f"WHERE {column} IS NOT NULL {chosen} GROUP BY id",
            [which] if chosen else [],
        )
        .fetch_df()
    )


def effect_differences(a: RunIndex, b: RunIndex) -> pd.DataFrame | None:
    """Effects of both runs joined on their cell, largest difference first; ``apart`` where the intervals do
    not meet.
    """
    one, two = _table(a, "effects"), _table(b, "effects")
    if one is None or two is None:
        return None
    kept = [*EFFECT_KEYS, "effect", "low", "high"]
    left, right = (frame[kept].assign(value=frame["value"].astype(str)) for frame in (one, two))
    both = left.merge(right, on=list(EFFECT_KEYS), suffixes=("_a", "_b"))
    both["difference"] = both["effect_b"] - both["effect_a"]
    both["apart"] = (both["low_a"] > both["high_b"]) | (both["low_b"] > both["high_a"])
    order = both["difference"].abs().sort_values(ascending=False, kind="stable").index
    first = [*EFFECT_KEYS, "effect_a", "effect_b", "difference", "apart"]
    return both.loc[order, [*first, *(c for c in both.columns if c not in first)]].reset_index(drop=True)


def recipe_differences(a: RunIndex, b: RunIndex) -> pd.DataFrame:
    """Settings that differ: ``setting, a, b``; a setting only one recipe has is '–' in the other."""
    left, right = (dict(flat(_recipe(run))) for run in (a, b))
    keys = [k for k in {**left, **right} if left.get(k) != right.get(k)]
    return pd.DataFrame(
        [{"setting": k, "a": left.get(k, "–"), "b": right.get(k, "–")} for k in keys], columns=["setting", "a", "b"]
    )


def _recipe(run: RunIndex) -> Any:
    try:
        return read_json(run.paths.recipe_file)
    except InfraError:
        return {}


def _table(run: RunIndex, name: str) -> pd.DataFrame | None:
    for file in (run.paths.table(name), run.paths.effect(name)):
        if file.is_file():
            frame = pd.read_parquet(file)
            return frame if len(frame) else None
    return None
