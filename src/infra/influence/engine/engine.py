"""What travels together through the engine: a model, the weights that count, its batches, and what is fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, Batch, Progress
from infra.influence.engine.forward_backward import Consume, forward_backward, run_through
from infra.influence.engine.functional import accumulator
from infra.influence.engine.totals import Totals, totals_of
from infra.models.tracked import TrackedWeights

Fisher = Literal["true", "empirical"]
Eigenvalues = Literal["per_sequence", "per_token"]
Labels = Callable[[Batch], Callable[[Tensor, Tensor], Tensor]]


@dataclass(frozen=True, eq=False)
class Engine:
    """A model, its tracked weights, and how examples pass through it.

    Attributes:
        max_tokens: positions of a batch, padding included.
        packed: several examples in one row.
    """

    model: Any
    tracked: TrackedWeights
    max_tokens: int = DEFAULT_MAX_TOKENS
    packed: bool = False

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.model.parameters()).device

    @property
    def accumulator(self) -> torch.dtype:
        """The dtype that sums are kept in: float64 for a float64 model, else float32."""
        return accumulator(next(self.model.parameters()).dtype)

    @property
    def totals(self) -> type[Totals]:
        """Where sums live: in this process, or by rows on all of them when the model is sharded."""
        return totals_of(self.model)

    def forward_backward(
        self,
        examples: Sequence[TokenizedExample],
        consume: Consume,
        labels: Labels | None = None,
        progress: Progress | None = None,
    ) -> None:
        """One visit to the data: see :func:`infra.influence.engine.forward_backward.forward_backward`."""
        run_through(
            forward_backward(
                self.model,
                examples,
                self.tracked,
                consume,
                labels=labels,
                max_tokens=self.max_tokens,
                packed=self.packed,
                progress=progress,
            )
        )


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Which curvature is fitted, and how.

    - ``kind``: ``ekfac``, ``kfac`` or ``diagonal``.
    - ``fisher``: ``true`` takes labels sampled from the model, ``empirical`` the data's.
    - ``seed``: of the sampled labels.
    - ``eigenvalues``: ``per_sequence`` squares a sequence's gradient, ``per_token`` drops products across positions.
    - ``include_prompt``: whether the factors count prompt positions through which a response loss flows.
    - ``block_size``: a side of a weight wider than this has its eigenvectors in blocks along the diagonal.

    Raises :class:`InputError` for a value that does not exist.
    """

    kind: str = "ekfac"
    fisher: Fisher = "true"
    seed: int = 0
    eigenvalues: Eigenvalues = "per_sequence"
    include_prompt: bool = True
    block_size: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("ekfac", "kfac", "diagonal"):
            raise InputError(f"kind is {self.kind!r}; choose 'ekfac', 'kfac' or 'diagonal'")
        if self.fisher not in ("true", "empirical"):
            raise InputError(f"fisher is {self.fisher!r}; choose 'true' or 'empirical'")
        if self.eigenvalues not in ("per_sequence", "per_token"):
            raise InputError(f"eigenvalues is {self.eigenvalues!r}; choose 'per_sequence', 'per_token' or 'auto'")
        if self.block_size is not None and self.block_size < 1:
            raise InputError(f"block_size is {self.block_size}; it must be at least 1")
