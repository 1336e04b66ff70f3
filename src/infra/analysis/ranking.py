"""Which examples a target gains and loses most from, and how far targets agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from infra.analysis.statistics import Floats
from infra.errors import InputError


def top_bottom(
    examples: pd.DataFrame,
    scores: NDArray[np.floating[Any]],
    targets: Sequence[str],
    *,
    k: int = 10,
    columns: Sequence[str] = ("domain", "difficulty", "preview"),
) -> pd.DataFrame:
    """The ``k`` most helpful ('top') and least helpful ('bottom') rows per target.

    ``target, side, rank, id, influence`` and whichever of ``columns`` the examples have; ``scores`` is
    ``[N, K]``. Ties go by id. Fewer than ``2 k`` rows: no row is on both sides.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(examples), len(targets)):
        raise InputError(f"scores have shape {values.shape} for {len(examples)} examples and {len(targets)} targets.")
    kept = [c for c in columns if c in examples.columns]
    ids = examples["id"].astype(str).to_numpy()
    top, bottom = min(k, (len(ids) + 1) // 2), min(k, len(ids) // 2)
    rows: list[dict[str, Any]] = []
    for j, target in enumerate(targets):
        order = np.lexsort((ids, -values[:, j]))
        for side, chosen in (("top", order[:top]), ("bottom", order[::-1][:bottom])):
            for rank, i in enumerate(chosen, start=1):
                extra = {c: examples[c].iloc[i] for c in kept}
                rows.append(
                    {
                        "target": target,
                        "side": side,
                        "rank": rank,
                        "id": ids[i],
                        "influence": values[i, j],
                        **extra,
                    }
                )
    return pd.DataFrame(rows, columns=["target", "side", "rank", "id", "influence", *kept])


@dataclass(slots=True)
class Strongest:
    """The ``k`` highest and the ``k`` lowest of values that come in pieces; only they are described and kept.

    Ties go to the earlier one. With fewer than ``2 k`` values no value is on both sides.
    """

    k: int
    seen: int = 0
    sides: dict[str, list[tuple[float, int, dict[str, Any]]]] = field(default_factory=lambda: {"top": [], "bottom": []})

    def add(self, values: Floats, describe: Callable[[int], Mapping[str, Any]]) -> None:
        """Look at ``values`` float64 ``[n]``; ``describe(i)`` gives the columns of the i-th if it is kept."""
        for side, sign in (("top", -1.0), ("bottom", 1.0)):
            held = self.sides[side]
            keys = sign * np.asarray(values, dtype=np.float64)
            order = np.argsort(keys, kind="stable")[: self.k]
            bound = held[-1][0] if len(held) == self.k else np.inf
            fresh = [(float(keys[i]), self.seen + int(i), dict(describe(int(i)))) for i in order if keys[i] < bound]
            if fresh:
                self.sides[side] = sorted([*held, *fresh], key=lambda entry: entry[:2])[: self.k]
        self.seen += len(values)

    def table(self) -> pd.DataFrame:
        """``side, rank, influence`` and the described columns, best first on either side."""
        room = {"top": min(self.k, (self.seen + 1) // 2), "bottom": min(self.k, self.seen // 2)}
        signs = {"top": -1.0, "bottom": 1.0}
        return pd.DataFrame(
            [
                {"side": side, "rank": rank, "influence": signs[side] * key, **row}
                for side, held in self.sides.items()
                for rank, (key, _, row) in enumerate(held[: room[side]], start=1)
            ]
        )


def target_agreement(
    scores: NDArray[np.floating[Any]], targets: Sequence[str], *, n_boot: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Spearman correlation of example scores for every pair of targets: ``a, b, rho, low, high, n``.

    Percentile interval over resampled examples. Agreement of targets says how far one data set can serve
    both.
    """
    values = np.asarray(scores, dtype=np.float64)
    n = len(values)
    if n < 3:
        raise InputError(f"{n} examples are too few to compare targets; 3 are needed.")
    rng = np.random.default_rng([seed, 4])
    draws = [_spearman(values[rng.integers(0, n, n)]) for _ in range(n_boot)]
    low, high = np.nanpercentile(np.stack(draws), [2.5, 97.5], axis=0)
    rho = _spearman(values)
    rows = [
        {"a": targets[i], "b": targets[j], "rho": rho[i, j], "low": low[i, j], "high": high[i, j], "n": n}
        for i in range(len(targets))
        for j in range(i + 1, len(targets))
    ]
    return pd.DataFrame(rows, columns=["a", "b", "rho", "low", "high", "n"])


def _spearman(values: Floats) -> Floats:
    """Rank correlations of the columns, ``[K, K]``; NaN for a constant column."""
    ranks = stats.rankdata(values, axis=0)
    ranks = ranks - ranks.mean(axis=0)
    norm = np.sqrt((ranks**2).sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (ranks.T @ ranks) / np.outer(norm, norm)
