"""The training loss of the model that is explained: what it has not learnt yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.engine import Engine
from infra.influence.methods._registry import register
from infra.influence.methods._tokens import TokenMethod
from infra.influence.targets import token_log_likelihoods


@register("loss")
@dataclass(frozen=True)
class Loss(TokenMethod):
    """``-log p(z_t | z_<t)`` of each response token."""

    def values(self, engine: Engine, examples: Sequence[TokenizedExample], k: int, seed: int) -> list[NDArray[Any]]:
        """``[T]`` an example, zero outside the response."""
        return [-row for row in token_log_likelihoods(engine.model, examples, engine.max_tokens)]
