"""Damping: what is added to a curvature before it is inverted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infra.errors import InputError

Scale = Literal["relative", "absolute"]


@dataclass(frozen=True)
class Damping:
    """``amount`` times a mean eigenvalue (``relative``), or ``amount`` itself (``absolute``).

    For example, ``Damping(0.1)`` adds a tenth of each block's mean eigenvalue, ``Damping(3.0, "absolute")`` adds 3.
    Raises :class:`InputError` for an amount that is negative or not a number, and for another scale.
    """

    amount: float = 0.1
    scale: Scale = "relative"

    def __post_init__(self) -> None:
        if not (self.amount >= 0 and math.isfinite(self.amount)):
            raise InputError(f"damping is {self.amount}; it must be finite and must not be negative")
        if self.scale not in ("relative", "absolute"):
            raise InputError(f"damping scale is {self.scale!r}; choose 'relative' or 'absolute'")

    def of(self, mean: float) -> float:
        """The number to add where the mean eigenvalue is ``mean``."""
        return self.amount if self.scale == "absolute" else self.amount * mean

    def of_blocks(self, means: Mapping[str, float]) -> dict[str, float]:
        """The number to add to the eigenvalues of each block, given each block's mean eigenvalue.

        A block that no training token reached (an expert never chosen) has mean zero and takes the mean over the
        other blocks.
        """
        positive = [mean for mean in means.values() if mean > 0]
        common = sum(positive) / len(positive) if positive else 1.0
        return {key: self.of(mean if mean > 0 else common) for key, mean in means.items()}
