"""A fitted method's scores on weighted means of its targets, token by token where it has tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.influence.directions import combine
from infra.influence.methods._directions import AlongDirections
from infra.influence.methods._method import Fitted, Scores


@dataclass(frozen=True)
class Mixed:
    """Scores on M targets, each a weighted mean of the K that ``fitted`` knows: ``weights`` ``[M, K]``."""

    fitted: Fitted
    weights: NDArray[np.float64] = field(repr=False)

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`."""
        for s in self.fitted.scores(examples, tokens):
            yield Scores(s.index, self.weights @ s.example, None if s.tokens is None else self.weights @ s.tokens)

    def save(self, folder: Path) -> None:
        """Write what ``fitted`` writes; the weights are the caller's."""
        self.fitted.save(folder)


def mixed(fitted: Fitted, weights: Sequence[Sequence[float]]) -> Fitted:
    """``fitted`` on weighted means of its targets. Directions are combined before they are followed.

    Exact for methods that are linear in the target, such as directions. A normalised score (cosine, LESS, TrackStar)
    of a mean is the mean of the folds' scores here, not the score of the mean.
    """
    if isinstance(fitted, AlongDirections):
        return replace(fitted, directions=[combine(fitted.directions, list(row)) for row in weights])
    return Mixed(fitted, np.asarray(weights, dtype=np.float64))


def spread(scores: Scores, example: TokenizedExample) -> NDArray[Any]:
    """The token scores ``[K, T]``; where a method has none, each response token carries an equal share."""
    if scores.tokens is not None:
        return scores.tokens
    share: NDArray[np.float64] = example.loss_mask / max(1, example.n_response_tokens)
    return scores.example[:, None] * share[None]
