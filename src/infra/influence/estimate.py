"""What the engine's passes over data cost, before they start: operations and memory, from shapes alone.

:class:`Passes` states the cost of a token. It is read in two ways: :func:`estimate` with the model in memory and the
examples at hand, and `infra plan` with a configuration and an average length. The formulas are derived in
docs/explanation/costs.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import torch

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, plan_batches
from infra.influence.engine.derivative import TANGENTS_PER_PASS
from infra.influence.engine.functional import HEAD_ELEMENTS, accumulator
from infra.influence.engine.recompute import recomputes
from infra.models.layers import causal_model
from infra.models.shape import Matrix, Shape, shape_of_loaded
from infra.models.tracked import TrackedWeights

EIGH = 12.0
"""Operations of one symmetric eigendecomposition with vectors over n^3 (tridiagonal 4/3, eigenvectors of it and their
transformation back the rest)."""
SHARED_INPUTS = ("k_proj", "v_proj", "up_proj")
"""Matrices whose inputs are those of the matrix before, by the name of their module."""


@dataclass(frozen=True)
class Passes:
    """One model under attribution. Operations are of one token, sizes count numbers.

    ``matrices``: every tracked matrix, [o, i] each. ``block_size``: largest width of a block of their factors.
    ``recompute``: activations are made again in the backward pass.
    """

    shape: Shape
    matrices: tuple[Matrix, ...]
    block_size: int | None = None
    recompute: bool = False

    # operations of one token in a text of `length` tokens, of which the share `response` is under the loss

    def visit(self, length: float, response: float) -> float:
        """Forward, backward to every layer's input but to no weight, and the head in both where there is a loss."""
        shape, again = self.shape, 1.0 if self.recompute else 0.0
        products = (2.0 + again) * 2.0 * shape.body + (3.0 + again) * shape.mixing(length)
        return products + 2.0 * response * shape.logits

    def forward_mode(self, length: float, response: float, directions: int) -> float:
        """Forward with tangents, :data:`TANGENTS_PER_PASS` at a time: each tangent goes through every weight and, as
        dW x, through the tracked ones."""
        shape, passes = self.shape, -(-directions // TANGENTS_PER_PASS)
        tangent = shape.forward(length) + 2.0 * self.tracked + shape.mixing(length)
        return passes * (shape.forward(length) + 2.0 * response * shape.logits) + directions * tangent

    def difference(self, length: float, response: float, directions: int) -> float:
        """Forward twice for each direction, with the weights moved to either side."""
        return directions * 2.0 * (self.shape.forward(length) + response * self.shape.logits)

    @property
    def formed(self) -> float:
        """Forming gradients of the tracked matrices from layer inputs and output gradients."""
        return 2.0 * self.tracked

    @cached_property
    def covariances(self) -> float:
        """Outer products for both factors of every matrix."""
        return sum(self.rotation(n) for n in self.widths())

    def corrected(self, length: float) -> float:
        """Corrected eigenvalues: the cheaper of rotating rows and rotating the gradients of whole examples."""
        total = 0.0
        for m in self.matrices:
            rows = self.rotation(m.out) + (0.0 if m.shared else self.rotation(m.inputs))
            total += 2.0 * m.size + min(rows, self._rotated(m) / length)
        return total

    # operations of a fit or a direction as a whole

    @cached_property
    def eigendecompositions(self) -> float:
        """All factors, in float64."""
        return sum(n / self.side(n) * EIGH * self.side(n) ** 3 for n in self.widths())

    @cached_property
    def preconditioning(self) -> float:
        """One direction into the eigenbasis and back."""
        return 2.0 * sum(map(self._rotated, self.matrices))

    def contraction(self, directions: float) -> float:
        """One example's gradients with ``directions``, or added up to as many sums."""
        return 2.0 * directions * self.tracked

    # numbers in memory

    @cached_property
    def tracked(self) -> float:
        """In all tracked matrices: one direction."""
        return float(sum(m.size for m in self.matrices))

    @cached_property
    def sides(self) -> float:
        """Sum of o + i over the tracked matrices: one direction of rank one."""
        return float(sum(m.out + m.inputs for m in self.matrices))

    @cached_property
    def factors(self) -> float:
        """In all covariances, or all bases: o^2 each, i^2 unless inputs are shared; o b and i b in blocks of b."""
        return float(sum(n * self.side(n) for n in self.widths()))

    @property
    def largest(self) -> float:
        """In the largest tracked matrix."""
        return float(max(m.size for m in self.matrices))

    @property
    def largest_factor(self) -> float:
        """In the largest covariance, or basis."""
        return float(max(n * self.side(n) for n in self.widths()))

    def activations(self, tokens: float, backward: bool) -> float:
        """Of a batch: all layers' for a backward pass, else one layer's."""
        return tokens * (self.shape.activations(self.recompute) if backward else self.shape.layer_activations)

    # the factors

    def widths(self) -> Iterator[int]:
        """The width of every factor, shared ones once."""
        for m in self.matrices:
            yield m.out
            if not m.shared:
                yield m.inputs

    def side(self, width: int) -> int:
        """Width of one block of a factor."""
        return min(width, self.block_size or width)

    def rotation(self, width: int) -> float:
        """Operations of rotating one vector, or of its outer product."""
        return 2.0 * width * self.side(width)

    def _rotated(self, m: Matrix) -> float:
        """Operations of rotating a matrix from both sides."""
        return m.size * (self.rotation(m.out) / m.out + self.rotation(m.inputs) / m.inputs)


def passes_of(model: Any, tracked: TrackedWeights, block_size: int | None = None) -> Passes:
    """The passes of a loaded model, with activations recomputed where this is called inside such a block."""
    matrices = []
    for block in tracked.blocks:
        owner = block.weight.removesuffix(".weight").rpartition(".")[2]
        matrices.append(Matrix(block.key, block.shape[0], block.columns, owner in SHARED_INPUTS))
    return Passes(shape_of_loaded(causal_model(model)), tuple(matrices), block_size, recomputes())


@dataclass(frozen=True)
class Estimate:
    """What a job costs: its operations, its tokens, and the bytes of the parts that are in memory together.

    Attributes:
        job: its name.
        tokens: how many it passes over.
        flops: operations of the whole job.
        model_bytes: of the weights.
        direction_bytes: of directions or gradients.
        factor_bytes: of a curvature's factors.
        activation_bytes: of what a batch keeps.
    """

    job: str
    tokens: int
    flops: float
    model_bytes: int
    direction_bytes: int
    factor_bytes: int
    activation_bytes: int

    @property
    def peak_bytes(self) -> int:
        """All parts together."""
        return self.model_bytes + self.direction_bytes + self.factor_bytes + self.activation_bytes

    def then(self, other: Estimate) -> Estimate:
        """This job's examples and then the other's: work adds up, memory is the larger."""
        return Estimate(
            self.job,
            self.tokens + other.tokens,
            self.flops + other.flops,
            max(self.model_bytes, other.model_bytes),
            max(self.direction_bytes, other.direction_bytes),
            max(self.factor_bytes, other.factor_bytes),
            max(self.activation_bytes, other.activation_bytes),
        )

    def seconds(self, flops_per_second: float) -> float:
        """Time at a given speed of the machine."""
        return self.flops / flops_per_second

    def __str__(self) -> str:
        gigabyte = 1 << 30
        return (
            f"{self.job}: {self.tokens:,} tokens, {self.flops / 1e12:.2f} TFLOP, "
            f"{self.peak_bytes / gigabyte:.2f} GiB (model {self.model_bytes / gigabyte:.2f}, "
            f"directions {self.direction_bytes / gigabyte:.2f}, factors {self.factor_bytes / gigabyte:.2f}, "
            f"activations {self.activation_bytes / gigabyte:.2f})"
        )


BACKWARD = ("position", "examples", "gradients", "fit")
"""Jobs with a backward pass."""
FORMED = ("examples", "gradients", "fit")
"""Jobs that form the gradient of one example."""


def estimate(
    job: str,
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    directions: int = 1,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    block_size: int | None = None,
) -> Estimate:
    """The estimate for ``job``: ``forward``, ``position``, ``difference``, ``examples``, ``gradients`` or ``fit``.

    A fit's eigendecompositions are not in it, since they do not grow with the examples.

    Args:
        job: one of the above.
        model: in memory.
        examples: the data that the job will pass over.
        tracked: weights that count.
        directions: how many, or for ``gradients`` the number of targets.
        max_tokens: tokens of a batch.
        block_size: as in :func:`infra.influence.fit_ekfac`.

    Raises:
        InputError: an unknown job.
    """
    passes = passes_of(model, tracked, block_size)
    tokens, count = sum(len(e) for e in examples), len(examples)
    each = max(tokens, 1)
    length = sum(len(e) ** 2 for e in examples) / each  # the context of a token, on average
    response = sum(e.n_response_tokens for e in examples) / each
    visits = tokens * passes.visit(length, response)
    formed = tokens * passes.formed
    contracted = count * passes.contraction(directions)
    factored = tokens * (passes.covariances + passes.corrected(each / max(count, 1)))
    flops = {
        "forward": tokens * passes.forward_mode(length, response, directions),
        "position": visits + directions * formed,
        "difference": tokens * passes.difference(length, response, directions),
        "examples": visits + formed + contracted,
        "gradients": visits + formed + contracted,
        "fit": 2 * visits + factored,
    }
    if job not in flops:
        raise InputError(f"there is no job {job!r} to estimate; choose one of {', '.join(flops)}")
    parameter = next(model.parameters())
    item = parameter.element_size()
    wide = torch.empty((), dtype=accumulator(parameter.dtype)).element_size()
    batches = plan_batches(examples, max_tokens)
    positions = max((len(b) * max(len(examples[i]) for i in b) for b in batches), default=0)
    carried = 1 if job in BACKWARD else 1 + min(directions, TANGENTS_PER_PASS)
    logits = min(HEAD_ELEMENTS, positions * passes.shape.vocabulary)
    kept = carried * passes.activations(positions, job in BACKWARD) + logits
    in_a_batch = max((len(b) for b in batches), default=0) if job in FORMED else 0
    return Estimate(
        job,
        tokens,
        flops[job],
        sum(p.numel() for p in model.parameters()) * item,
        0 if job == "fit" else directions * tracked.size * (wide if job in ("examples", "gradients") else item),
        int(passes.factors + passes.tracked) * wide if job == "fit" else 0,
        int(kept * item + in_a_batch * passes.largest * wide),
    )


COPIES = 3
"""Copies of a direction alive at the worst moment: as it was given, stacked, and as matrices."""
SHARE = 0.8
"""Share of the free memory that is planned with."""


def directions_at_once(
    job: str,
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    directions: int,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    memory: int | None = None,
) -> int:
    """How many directions fit in memory beside the activations of a job, at least one.

    Args:
        job: as in :func:`estimate`, and so are ``model``, ``examples``, ``tracked`` and ``max_tokens``.
        directions: how many are wanted.
        memory: bytes; None takes what is free now on the model's device, the model itself already in it.
    """
    one = estimate(job, model, examples, tracked, 1, max_tokens)
    free = free_memory(next(model.parameters()).device) if memory is None else memory
    room = SHARE * free - one.activation_bytes
    return max(1, min(directions, int(room // (COPIES * one.direction_bytes))))


CONTROL_GROUPS = {
    "/sys/fs/cgroup": ("memory.max", "memory.current"),
    "/sys/fs/cgroup/memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""Folder of a container's control group -> its files with the limit and the bytes in use, of version 2 and 1."""


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device; on the host, within the limit of the control group if there is one."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    free = int(psutil.virtual_memory().available)
    for folder, names in CONTROL_GROUPS.items():
        try:
            limit, used = (Path(folder, name).read_text().strip() for name in names)
            if limit != "max":
                free = max(0, min(free, int(limit) - int(used)))
        except (OSError, ValueError):
            continue
    return free


def matmul_speed(model: Any, width: int = 768) -> float:
    """Operations a second of a square matrix product in the model's dtype on its device: the median of five.

    Args:
        model: in memory.
        width: of the square matrices.
    """
    parameter = next(model.parameters())
    a = torch.randn(width, width, device=parameter.device).to(parameter.dtype)
    times = []
    for _ in range(6):
        before = perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        times.append(perf_counter() - before)
    return 2.0 * width**3 / sorted(times[1:])[2]
