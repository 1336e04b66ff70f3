"""The number of response tokens: the confounder of every score that is a sum over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.engine import Engine
from infra.influence.methods._registry import register
from infra.influence.methods._tokens import TokenMethod


@register("length")
@dataclass(frozen=True)
class Length(TokenMethod):
    """1 for each response token."""

    def values(self, engine: Engine, examples: Sequence[TokenizedExample], k: int, seed: int) -> list[NDArray[Any]]:
        """``[T]`` an example, zero outside the response."""
        return [e.loss_mask.astype(np.float64) for e in examples]
