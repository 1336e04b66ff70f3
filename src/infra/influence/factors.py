"""Kronecker factors and corrected eigenvalues: one visit to the data for each.

For a weight with inputs a_t and output gradients g_t, over the positions through which a response loss flows:

    A = mean_t a_t a_t^T,  S = mean_t g_t g_t^T,  Q_A, Q_S their eigenvectors
    per sequence:  Lambda = (1/N) sum_n (Q_S^T (sum_t g_t a_t^T) Q_A)^2
    per token:     Lambda = (1/N) sum_n sum_t (Q_S^T g_t)^2 (Q_A^T a_t)^2T

The second drops products across positions; under sampled labels their expectation is zero.

The true Fisher matrix takes labels sampled from the model, which makes it a Monte Carlo Gauss-Newton matrix;
the empirical one takes the data's.
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.influence.batches import Batch, Progress, is_memory
from infra.influence.capture import Use
from infra.influence.curvature import FitInfo
from infra.influence.functional import accumulator, sampled_labels
from infra.influence.rotation import add_gram_, eigenbasis, empty_gram, rotate, standard_basis
from infra.influence.squares import Rotated, sequence_squares, token_squares
from infra.influence.totals import Totals
from infra.influence.visit import Consume, device_of, run_through, visit
from infra.models.hashing import model_hash as hash_of
from infra.models.tracked import Block, TrackedWeights

Fisher = Literal["true", "empirical"]
Eigenvalues = Literal["per_sequence", "per_token"]


@dataclass(frozen=True)
class Covariances:
    """Sums over positions, not yet divided: ``inputs[leader] [i, i]``, ``outputs[key] [o, o]`` (or diagonal blocks of
    them, :mod:`.rotation`), right on and below their diagonals.

    ``leader[key]`` is the block whose inputs are the very same tensor (gate for up; q for k and v).
    ``positions`` counts the rows in each leader's sum.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    leader: dict[str, str]
    positions: dict[str, int]


@dataclass(frozen=True)
class Basis:
    """Eigenvectors (in columns, in the dtype sums are kept in, whole or in blocks: :mod:`.rotation`) and float64
    eigenvalues of one block's two factors.
    """

    outputs: Tensor
    inputs: Tensor
    output_values: Tensor
    input_values: Tensor


@dataclass(frozen=True)
class Setting:
    """What is visited and how, the same for both visits. ``totals``: where their sums are kept."""

    model: Any
    examples: Sequence[TokenizedExample]
    tracked: TrackedWeights
    fisher: Fisher
    seed: int
    include_prompt: bool
    max_tokens: int
    packed: bool
    block_size: int | None = None
    totals: type[Totals] = Totals

    def visit(self, consume: Consume, progress: Progress | None) -> None:
        """Backward through the loss with the data's or sampled labels."""
        labels = (lambda batch: sampled_labels(batch, self.seed)) if self.fisher == "true" else None
        run_through(
            visit(
                self.model,
                self.examples,
                self.tracked,
                consume,
                labels=labels,
                max_tokens=self.max_tokens,
                packed=self.packed,
                progress=progress,
                passes=self.totals.passes,
            )
        )

    def counted(self, batch: Batch, use: Use) -> Tensor:
        """bool ``[R]``: the rows of a use that the factors count."""
        mask = (batch.flows if self.include_prompt else batch.loss).reshape(-1)
        return mask if use.where is None else mask[use.where]

    def info(
        self,
        kind: str,
        eigenvalues: str,
        sums: Covariances | None,
        model_hash: str | None,
        warned: Sequence[str],
    ) -> FitInfo:
        """The record of this fit."""
        positions = max(sums.positions.values(), default=0) if sums else 0
        known = hash_of(self.model) if model_hash is None else model_hash
        return FitInfo(
            kind,
            self.fisher,
            eigenvalues,
            self.include_prompt,
            self.seed,
            len(self.examples),
            positions,
            known,
            self.tracked.coverage,
            tuple(warned),
            self.block_size,
        )


@dataclass
class _Shared:
    """Which blocks have the same inputs, decided in the first batch and kept.

    Such blocks come one after the other in a backward pass, so comparing each with the last is enough.
    """

    leader: dict[str, str] = field(default_factory=dict)
    last: tuple[str, bool, Any] = ("", False, None)

    def of(self, block: Block, uses: Sequence[Use]) -> str:
        """The block whose inputs stand for this one's: itself, or the one before with the same input tensor."""
        source = uses[0].source if len(uses) == 1 and block.expert is None else None
        known, biased, before = self.last
        if block.key not in self.leader:
            same = source is not None and source is before and biased == (block.bias is not None)
            self.leader[block.key] = known if same else block.key
        if self.leader[block.key] == block.key:
            self.last = (block.key, block.bias is not None, source)
        return self.leader[block.key]


def covariances(setting: Setting, progress: Progress | None = None) -> Covariances:
    """The first visit: sums of a a^T and g g^T over the counted positions."""
    shared = _Shared()
    inputs, outputs = setting.totals(), setting.totals()
    positions: dict[str, int] = {}

    device, dtype = device_of(setting.model), accumulator(next(setting.model.parameters()).dtype)

    def empty(width: int) -> Tensor:
        return empty_gram(width, setting.block_size, dtype, device)

    def add_to(sums: Totals, key: str, width: int, parts: Iterable[Tensor]) -> None:
        with sums.into(key, partial(empty, width)) as total:
            for rows in parts:
                add_gram_(total, rows.to(dtype))

    def consume(batch: Batch, block: Block, uses: list[Use]) -> None:
        counted = [setting.counted(batch, use) for use in uses]
        if shared.of(block, uses) == block.key:
            add_to(inputs, block.key, block.columns, (use.widened(block)[c] for use, c in zip(uses, counted)))
            positions[block.key] = positions.get(block.key, 0) + sum(int(c.sum()) for c in counted)
        # where no loss flows the gradient is zero, so it need not be cut out
        kept = (u.gradients if setting.include_prompt else u.gradients[c] for u, c in zip(uses, counted))
        add_to(outputs, block.key, block.shape[0], kept)

    setting.visit(consume, progress)
    for block in setting.tracked.blocks:  # an expert that no token chose
        if block.key not in outputs.tensors:
            shared.leader[block.key], positions[block.key] = block.key, 0
            add_to(outputs, block.key, block.shape[0], ())
            add_to(inputs, block.key, block.columns, ())
    return Covariances(inputs.tensors, outputs.tensors, shared.leader, setting.totals.counts(positions))


def add(one: Covariances | None, other: Covariances) -> Covariances:
    """The sums over two disjoint sets of examples."""
    if one is None:
        return other
    return Covariances(
        {key: total + other.inputs[key] for key, total in one.inputs.items()},
        {key: total + other.outputs[key] for key, total in one.outputs.items()},
        one.leader,
        {key: n + other.positions[key] for key, n in one.positions.items()},
    )


def eigenbases(sums: Covariances, tracked: TrackedWeights) -> tuple[dict[str, Basis], list[str]]:
    """Eigenvectors of both factors of each block, in float64, and warnings that name the factors that had none."""
    warned: list[str] = []
    blocks = {block.key: block for block in tracked.blocks}
    sides = {key: _eigh(total, blocks[key].columns, f"{key}, inputs", warned) for key, total in sums.inputs.items()}
    bases = {}
    for block in tracked.blocks:
        values, vectors = _eigh(sums.outputs[block.key], block.shape[0], f"{block.key}, outputs", warned)
        input_values, input_vectors = sides[sums.leader[block.key]]
        bases[block.key] = Basis(vectors, input_vectors, values, input_values)
    silent = [key for key, total in sums.outputs.items() if not bool(total.any())]
    if silent:
        warned.append(
            f"no loss flows through {silent[0]}{f' and {len(silent) - 1} more' if len(silent) > 1 else ''}: there the "
            "damping is relative to the mean eigenvalue of the other weights"
        )
        if any(blocks[key].expert is None for key in silent):  # an expert that no token chose is nothing unusual
            python_warnings.warn(warned[-1], RuntimeWarning, stacklevel=3)
    return bases, warned


def corrected_eigenvalues(
    setting: Setting, bases: Mapping[str, Basis], form: Eigenvalues, progress: Progress | None = None
) -> dict[str, Tensor]:
    """The second visit: sums over sequences of squared gradients in the eigenbasis ``[o, i (+ 1)]``,
    undivided.

    Without a basis for a block, in the standard one.
    """
    device, dtype = device_of(setting.model), accumulator(next(setting.model.parameters()).dtype)
    total = setting.totals()
    shared: list[Any] = [None, None, None]  # the last input tensor, its basis and its rotation: gate and up share

    def empty(block: Block) -> Tensor:
        return torch.zeros(block.shape[0], block.columns, dtype=dtype, device=device)

    def consume(batch: Batch, block: Block, uses: list[Use]) -> None:
        basis = bases.get(block.key)
        uses = uses if setting.include_prompt else [_masked(use, setting.counted(batch, use)) for use in uses]

        def rotated_inputs(use: Use) -> Tensor:
            assert basis is not None
            if shared[0] is not use.source or shared[1] is not basis.inputs or use.where is not None:
                shared[:] = [use.source, basis.inputs, rotate(use.widened(block).to(dtype), basis.inputs)]
            return shared[2]

        turned = None if basis is None else Rotated(basis.outputs, basis.inputs, rotated_inputs)
        if form == "per_token":
            squares = token_squares(block, uses, turned, dtype)
        else:
            squares = sequence_squares(block, uses, batch, turned, dtype)
        with total.into(block.key, partial(empty, block)) as sum_:
            sum_ += squares

    setting.visit(consume, progress)
    shared.clear()
    for block in setting.tracked.blocks:
        if block.key not in total.tensors:
            total.tensors[block.key] = empty(block)
    return total.tensors


def _masked(use: Use, counted: Tensor) -> Use:
    return replace(use, gradients=use.gradients * counted[:, None].to(use.gradients.dtype))


def _eigh(total: Tensor, width: int, where: str, warned: list[str]) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a symmetric sum; with a warning, its diagonal and the identity if it has none."""
    try:
        return eigenbasis(total, width)
    except RuntimeError as error:
        if is_memory(error):
            raise
        warned.append(f"the factor of {where} could not be decomposed ({error}); its diagonal is used instead")
        python_warnings.warn(warned[-1], RuntimeWarning, stacklevel=4)
        return standard_basis(total, width)
