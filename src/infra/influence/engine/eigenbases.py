"""Eigenvectors of the Kronecker factors, and the eigenvalues of the curvature measured in them.

    Q_A, Q_S the eigenvectors of A and S (:mod:`.covariances`)
    per sequence:  Lambda = (1/N) sum_n (Q_S^T (sum_t g_t a_t^T) Q_A)^2
    per token:     Lambda = (1/N) sum_n sum_t (Q_S^T g_t)^2 (Q_A^T a_t)^2T

The second drops products across positions; under sampled labels their expectation is zero. One more visit to the data.
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.batches import Batch, Progress, is_memory
from infra.influence.engine.covariances import Covariances, counted, labels_of
from infra.influence.engine.engine import Engine, FitSettings
from infra.influence.engine.layer_inputs import LayerCall
from infra.influence.engine.rotation import eigenbasis, rotate, standard_basis
from infra.influence.engine.squares import Rotated, sequence_squares, token_squares
from infra.models.tracked import Block, TrackedWeights

Found = TypeVar("Found")


@dataclass(frozen=True)
class Basis:
    """Eigenvectors (in columns, in the dtype sums are kept in, whole or in blocks: :mod:`.rotation`) and float64
    eigenvalues of one block's two factors.
    """

    outputs: Tensor
    inputs: Tensor
    output_values: Tensor
    input_values: Tensor


def eigenbases(
    sums: Covariances, tracked: TrackedWeights, dtype: torch.dtype = torch.float64
) -> tuple[dict[str, Basis], list[str]]:
    """Eigenvectors of both factors of each block, and warnings that name the factors that had none.

    ``dtype``: what the decompositions are computed in, never less than the sums are. On a CPU as many of them run side
    by side as torch has threads: one decomposition gains little from a second thread.
    """
    warned: list[str] = []
    blocks = {block.key: block for block in tracked.blocks}
    sides = [(total, blocks[key].columns, f"{key}, inputs") for key, total in sums.inputs.items()]
    sides += [(sums.outputs[key], block.shape[0], f"{key}, outputs") for key, block in blocks.items()]
    found = _decompose(sides, dtype, warned)
    inputs, outputs = dict(zip(sums.inputs, found)), dict(zip(blocks, found[len(sums.inputs) :]))
    bases = {}
    for key in blocks:
        (values, vectors), (input_values, input_vectors) = outputs[key], inputs[sums.leader[key]]
        bases[key] = Basis(vectors, input_vectors, values, input_values)
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
    engine: Engine,
    examples: Sequence[TokenizedExample],
    bases: Mapping[str, Basis],
    settings: FitSettings,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """The second visit: sums over sequences of squared gradients in the eigenbasis ``[o, i (+ 1)]``,
    undivided.

    Without a basis for a block, in the standard one.
    """
    device, dtype = engine.device, engine.accumulator
    total = engine.totals()
    shared: list[Any] = [None, None, None]  # the last input tensor, its basis and its rotation: gate and up share

    def empty(block: Block) -> Tensor:
        return torch.zeros(block.shape[0], block.columns, dtype=dtype, device=device)

    def consume(batch: Batch, block: Block, calls: list[LayerCall]) -> None:
        basis = bases.get(block.key)
        calls = calls if settings.include_prompt else [_masked(call, counted(settings, batch, call)) for call in calls]

        def rotated_inputs(call: LayerCall) -> Tensor:
            assert basis is not None
            if shared[0] is not call.source or shared[1] is not basis.inputs or call.where is not None:
                shared[:] = [call.source, basis.inputs, rotate(call.widened(block).to(dtype), basis.inputs)]
            return shared[2]

        turned = None if basis is None else Rotated(basis.outputs, basis.inputs, rotated_inputs)
        if settings.eigenvalues == "per_token":
            squares = token_squares(block, calls, turned, dtype)
        else:
            squares = sequence_squares(block, calls, batch, turned, dtype)
        with total.into(block.key, partial(empty, block)) as sum_:
            sum_ += squares

    engine.forward_backward(examples, consume, labels_of(settings), progress)
    shared.clear()
    for block in engine.tracked.blocks:
        if block.key not in total.tensors:
            total.tensors[block.key] = empty(block)
    return total.tensors


def _masked(call: LayerCall, counted: Tensor) -> LayerCall:
    return replace(call, gradients=call.gradients * counted[:, None].to(call.gradients.dtype))


Side = tuple[Tensor, int, str]
"""One factor: its sum, its width, and its name in a warning."""


def _decompose(sides: Sequence[Side], dtype: torch.dtype, warned: list[str]) -> list[tuple[Tensor, Tensor]]:
    """Eigenvalues and eigenvectors of each side; with a warning, its diagonal and the identity if it has none."""
    found = []
    for (total, width, where), result in zip(sides, side_by_side(partial(_try_eigh, dtype), sides)):
        if isinstance(result, RuntimeError):
            warned.append(f"the factor of {where} could not be decomposed ({result}); its diagonal is used instead")
            python_warnings.warn(warned[-1], RuntimeWarning, stacklevel=4)
            result = standard_basis(total, width)
        found.append(result)
    return found


def _try_eigh(dtype: torch.dtype, side: Side) -> tuple[Tensor, Tensor] | RuntimeError:
    total, width, _ = side
    try:
        return eigenbasis(total, width, dtype)
    except RuntimeError as error:
        if is_memory(error):
            raise
        return error


def side_by_side(function: Callable[[Side], Found], sides: Sequence[Side]) -> list[Found]:
    """``function`` of each side, in order: on a CPU in as many threads as torch has, each with one of its own."""
    threads = torch.get_num_threads()
    if threads == 1 or len(sides) < 2 or any(total.device.type != "cpu" for total, _, _ in sides):
        return [function(side) for side in sides]
    torch.set_num_threads(1)  # of every thread started from here on, and of LAPACK as a whole
    try:
        with ThreadPoolExecutor(threads) as pool:
            largest_first = sorted(range(len(sides)), key=lambda i: -sides[i][1])
            running = {i: pool.submit(function, sides[i]) for i in largest_first}
            return [running[i].result() for i in range(len(sides))]
    finally:
        torch.set_num_threads(threads)
