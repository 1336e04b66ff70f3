"""Methods whose scores are the same for every target and need no fit: a number for each response token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.engine import Engine
from infra.influence.methods._method import Fitted, MethodContext, Scores
from infra.influence.methods._saving import load_fitted, save_fitted


class TokenMethod(ABC):
    """A method without a fit; what is left to write is :meth:`values`."""

    @abstractmethod
    def values(self, engine: Engine, examples: Sequence[TokenizedExample], k: int, seed: int) -> list[NDArray[Any]]:
        """A score for each of the ``k`` targets and each token: one ``[T]`` or ``[k, T]`` an example."""

    def fit(self, context: MethodContext) -> Fitted:
        """Remember how many targets there are."""
        return OfTokens(self, context.engine, len(context.targets), context.seed)

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """As :meth:`OfTokens.save` wrote it."""
        facts, _ = load_fitted(folder)
        return OfTokens(self, engine, facts["targets"], facts["seed"])


@dataclass(frozen=True)
class OfTokens:
    """The fitted form: ``k`` targets, and the seed."""

    method: TokenMethod
    engine: Engine
    k: int
    seed: int

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`."""
        for index, row in enumerate(self.method.values(self.engine, examples, self.k, self.seed)):
            values = np.broadcast_to(np.asarray(row, np.float64), (self.k, row.shape[-1]))
            yield Scores(index, values.sum(1), values.copy() if tokens else None)

    def save(self, folder: Path) -> None:
        """Write the number of targets and the seed."""
        save_fitted(folder, {"targets": self.k, "seed": self.seed})
