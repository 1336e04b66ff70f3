"""Accuracy tables hold a row per seed and, where the run made one, a row of seed 'mean' with its own interval."""

from __future__ import annotations

import pandas as pd

MEAN = "mean"


def single_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of single seeds (all rows where there is no column ``seed``)."""
    return frame[frame["seed"].astype(str) != MEAN] if "seed" in frame.columns else frame


def over_seeds(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row per ``keys``: the run's own mean row, else the mean of the seeds with no interval unless there
    is one seed.

    Columns ``keys, n, accuracy, low, high``.
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
