"""Is the table of effects honest and sharp? Shuffled attributes must find nothing, planted effects must be
found.

Run it on a run's own scores: heavy tails, few folds and unequal cells are then those of the data at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.analysis.effects import by_domain, effects, select_rows
from infra.analysis.folds import Targets
from infra.analysis.statistics import LEVEL
from infra.intervals import wilson


@dataclass(frozen=True, slots=True)
class NullControl:
    """``n_discoveries`` of ``n_shuffles`` tables of shuffled attributes held at least one row with q <=
    5%."""

    n_shuffles: int
    n_discoveries: int
    n_rows: int

    @property
    def share(self) -> float:
        """Share of tables with a discovery."""
        return self.n_discoveries / self.n_shuffles

    @property
    def passes(self) -> bool:
        """At most 5% plus two Monte-Carlo standard errors."""
        return self.share <= LEVEL + 2 * float(np.sqrt(LEVEL * (1 - LEVEL) / self.n_shuffles))


def null_control(
    examples: pd.DataFrame,
    fold_scores: NDArray[np.floating[Any]],
    folds: pd.DataFrame,
    targets: Targets = None,
    attributes: Sequence[str] = ("difficulty",),
    *,
    n_shuffles: int = 200,
    n_boot: int = 200,
    seed: int = 0,
    sets: Sequence[str] | None = ("train",),
) -> NullControl:
    """Shuffle the attributes among the examples of each domain, ``n_shuffles`` times, and count tables with
    a discovery.

    Arguments and errors as for :func:`infra.analysis.effects`, once per shuffle.
    """
    used, scores = select_rows(examples, fold_scores, sets)
    found, n_rows = 0, 0
    for s in range(n_shuffles):
        table = effects(
            shuffle_attributes(used, attributes, np.random.default_rng([seed, 5, s])),
            scores,
            folds,
            targets,
            attributes,
            n_boot=n_boot,
            seed=seed + s,
            sets=None,
        )
        found += bool((table["q"] <= LEVEL).any())
        n_rows = len(table)
    return NullControl(n_shuffles, found, n_rows)


def power_curve(
    examples: pd.DataFrame,
    fold_scores: NDArray[np.floating[Any]],
    folds: pd.DataFrame,
    targets: Targets = None,
    *,
    attribute: str,
    value: str,
    domain: str,
    sizes: Sequence[float],
    form: str = "length_matched",
    n_shuffles: int = 50,
    n_boot: int = 200,
    seed: int = 0,
    sets: Sequence[str] | None = ("train",),
) -> pd.DataFrame:
    """How often an effect of each size is found: ``size, n_shuffles, found, power, low, high``.

    Attributes are shuffled, then the cell's examples gain ``size`` standard deviations of the domain's mean
    scores on every fold. Found: the row of the cell has q <= 5% and the right sign, for every target.
    Wilson intervals.
    """
    used, scores = select_rows(examples, fold_scores, sets)
    mine = (used["domain"] == domain).to_numpy()
    spread = float(scores[mine].mean(axis=1).std(ddof=1))
    rows: list[dict[str, Any]] = []
    for size in sizes:
        found = 0
        for s in range(n_shuffles):
            shuffled = shuffle_attributes(used, [attribute], np.random.default_rng([seed, 6, s]))
            cell = mine & (shuffled[attribute].astype(str) == value).to_numpy()
            table = effects(
                shuffled,
                scores + size * spread * cell[:, None],
                folds,
                targets,
                [attribute],
                n_boot=n_boot,
                seed=seed + s,
                sets=None,
            )
            here = table[(table["domain"] == domain) & (table["value"] == value) & (table["form"] == form)]
            found += bool(((here["q"] <= LEVEL) & (np.sign(here["effect"]) == np.sign(size))).all())
        low, high = wilson(found / n_shuffles, n_shuffles)
        row = {"size": size, "n_shuffles": n_shuffles, "found": found, "power": found / n_shuffles}
        rows.append({**row, "low": low, "high": high})
    return pd.DataFrame(rows)


def shuffle_attributes(examples: pd.DataFrame, attributes: Sequence[str], rng: np.random.Generator) -> pd.DataFrame:
    """The examples with their attributes permuted together within each domain; lengths and scores stay."""
    order = np.arange(len(examples))
    for _, mine in by_domain(examples):
        order[mine] = rng.permutation(mine)
    return examples.assign(**{a: examples[a].to_numpy()[order] for a in attributes})
