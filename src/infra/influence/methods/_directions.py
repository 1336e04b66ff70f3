"""Methods that are directions: the score of a token is the derivative of its log-probability along one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

import numpy as np

from infra.data.tokenized import TokenizedExample
from infra.influence.directions import Direction, open_directions, save_directions
from infra.influence.engine.engine import Engine
from infra.influence.methods._method import Fitted, MethodContext, Scores
from infra.influence.scores import example_influence, token_influence


@dataclass(frozen=True)
class AlongDirections:
    """One direction v_k a target. I(token t) = < grad log p(z_t | z_<t), v_k >; an example is the sum of its tokens.

    The sharded routes follow ``directions`` themselves.
    """

    engine: Engine
    directions: Sequence[Direction] = field(repr=False)

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`."""
        model, most = self.engine.model, self.engine.max_tokens
        if not tokens:
            for index, row in enumerate(example_influence(model, examples, self.directions, max_tokens=most)):
                yield Scores(index, row.astype(np.float64))
            return
        for chunk in token_influence(model, examples, self.directions, max_tokens=most):
            for index, values in zip(chunk.indices, chunk.scores):
                yield Scores(index, values.sum(1, dtype=np.float64), values)

    def save(self, folder: Path) -> None:
        """Write the directions."""
        save_directions(self.directions, folder)


def is_directions(fitted: Fitted) -> TypeGuard[AlongDirections]:
    """Whether directions are all there is to a fitted method: not where a subclass goes on with their scores."""
    return type(fitted) is AlongDirections


class DirectionMethod(ABC):
    """A method that makes one direction a target; what is left to write is :meth:`directions`."""

    @abstractmethod
    def directions(self, context: MethodContext) -> Sequence[Direction]:
        """One direction for each of the context's targets."""

    def fit(self, context: MethodContext) -> Fitted:
        """Make the directions."""
        return AlongDirections(context.engine, self.directions(context))

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """Directions on disk, read when they are needed."""
        return AlongDirections(engine, open_directions(folder))
