"""Representation similarity: do the model's final hidden states of example and queries point the same way?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, Batch, batches, halving_on_memory
from infra.influence.engine.engine import Engine
from infra.influence.engine.forward_backward import device_of
from infra.influence.engine.functional import Backbone, engine_mode
from infra.influence.methods._method import Fitted, MethodContext, Scores
from infra.influence.methods._registry import register
from infra.influence.methods._saving import load_fitted, save_fitted


@register("repsim")
@dataclass(frozen=True)
class RepSim:
    """Mean cosine between an example's representation and those of a target's queries; no token scores.

    The representation is the mean final hidden state over the response's own tokens.
    """

    has_tokens: ClassVar[bool] = False

    def fit(self, context: MethodContext) -> Fitted:
        """The mean unit representation of each target's queries."""
        engine = context.engine
        means = [
            unit_rows(representations(engine.model, queries, engine.max_tokens)).mean(0)
            for queries in context.queries("repsim")
        ]
        return FittedRepSim(engine, np.stack(means))

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """As :meth:`FittedRepSim.save` wrote it."""
        return FittedRepSim(engine, load_fitted(folder)[1]["means"].numpy())


@dataclass(frozen=True)
class FittedRepSim:
    """``means`` float64 ``[K, d]``."""

    engine: Engine
    means: NDArray[np.float64] = field(repr=False)

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`."""
        own = unit_rows(representations(self.engine.model, examples, self.engine.max_tokens))
        for index, row in enumerate(own @ self.means.T):
            yield Scores(index, row)

    def save(self, folder: Path) -> None:
        """Write the targets' means."""
        save_fitted(folder, {}, {"means": torch.from_numpy(self.means)})


def representations(
    model: Any, examples: Sequence[TokenizedExample], max_tokens: int = DEFAULT_MAX_TOKENS
) -> NDArray[np.float64]:
    """Mean final hidden state over the response's own tokens, float64 ``[N, d]``."""
    backbone = Backbone(model)
    found: dict[int, NDArray[Any]] = {}

    def work(batch: Batch, _: set[str]) -> Tensor:
        weight = batch.loss.double().roll(1, dims=1)  # from the predicting position to the token
        states = backbone.hidden(batch).double() * weight[..., None]
        return states.sum(1) / weight.sum(1, keepdim=True).clamp_min(1)

    for planned in batches(examples, max_tokens, device_of(model)):
        with torch.no_grad(), engine_mode(model):
            finished = list(halving_on_memory(planned, work))
        for batch, values in finished:
            found.update(zip(batch.indices, values.cpu().numpy()))
    return np.stack([found[i] for i in range(len(examples))])


def unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row divided by its norm; a row of zeros stays."""
    out: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return out
