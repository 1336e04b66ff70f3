"""Agreement between labellers: Cohen's kappa, (p_o - p_e) / (1 - p_e) (Cohen 1960).

By hand because scipy has none, and scikit-learn or statsmodels would be a large dependency for these lines.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from infra.errors import InputError

Labels = Sequence[Sequence[str]]


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Chance-corrected agreement of two labellings of the same items; 1 = full, 0 = chance.

    NaN where both give one and the same class throughout (chance agreement is 1). Raises :class:`InputError`
    when the lengths differ or are 0.
    """
    if len(a) != len(b) or not a:
        raise InputError(f"kappa needs two labellings of the same items, got {len(a)} and {len(b)}")
    classes = {c: i for i, c in enumerate(dict.fromkeys([*a, *b]))}
    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, ([classes[x] for x in a], [classes[x] for x in b]), 1.0)
    table /= table.sum()
    observed = float(np.trace(table))
    chance = float(table.sum(1) @ table.sum(0))
    return math.nan if chance >= 1.0 else (observed - chance) / (1.0 - chance)


def label_kappa(a: Labels, b: Labels, labels: Sequence[str]) -> dict[str, float]:
    """Kappa of each label as a yes-or-no question, for two multi-label labellings of the same steps."""
    return {x: cohen_kappa([x in row for row in a], [x in row for row in b]) for x in labels}
