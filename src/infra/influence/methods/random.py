"""Random scores: what attribution must beat first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.engine import Engine
from infra.influence.engine.functional import record_stream
from infra.influence.methods._registry import register
from infra.influence.methods._tokens import TokenMethod


@register("random")
@dataclass(frozen=True)
class Random(TokenMethod):
    """Independent normal numbers, drawn for each record by hash of seed and id, so that shards do not enter."""

    def values(self, engine: Engine, examples: Sequence[TokenizedExample], k: int, seed: int) -> list[NDArray[Any]]:
        """``[k, T]`` an example, zero outside the response."""
        return [
            record_stream(seed, f"random:{e.id}").standard_normal((len(e), k)).T * e.loss_mask[None] for e in examples
        ]
