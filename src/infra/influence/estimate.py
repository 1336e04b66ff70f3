"""What a job will cost, before it starts: floating-point operations and memory, from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
import torch

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, plan_batches
from infra.influence.engine.derivative import TANGENTS_PER_PASS
from infra.influence.engine.functional import accumulator
from infra.influence.engine.recompute import recomputes
from infra.models.layers import causal_model
from infra.models.tracked import TrackedWeights


@dataclass(frozen=True)
class Estimate:
    """``flops`` of the job, bytes of the parts that are in memory together, and the number of ``tokens``."""

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


IN_FORWARD = ("forward", "difference", "position")
"""Jobs that never form a gradient of one example."""


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

    Counts 2 operations per weight and token for each product, and the attention's T^2 products on top. Activations
    are those alive together: one layer in forward mode, all layers where there is a backward pass, or one layer and
    every layer's inputs where they are recomputed. ``directions``: how many, or for ``gradients`` the number of
    targets. ``block_size`` as in :func:`infra.influence.fit_ekfac`.
    Raises :class:`InputError` for an unknown job.
    """
    config = causal_model(model).config.get_text_config()
    layers, width, vocabulary = config.num_hidden_layers, config.hidden_size, config.vocab_size
    total = sum(p.numel() for p in model.parameters())
    item = next(model.parameters()).element_size()
    tokens = sum(len(e) for e in examples)
    body = total - vocabulary * width
    response = sum(e.n_response_tokens for e in examples)
    attention = sum(2.0 * layers * width * len(e) ** 2 for e in examples)  # causal: half of 4 d T^2
    head = 2.0 * vocabulary * width * response
    primal = 2.0 * body * tokens + attention
    tangent = primal + 2.0 * tracked.size * tokens + attention
    sides = [[d * min(d, block_size or d) for d in (b.shape[0], b.columns)] for b in tracked.blocks]
    rotate = sum(2.0 * (out + inner) for out, inner in sides) * tokens
    form = 2.0 * tracked.size * tokens
    backward = (3 if recomputes() else 2) * primal + 2 * head
    costs = {
        "forward": primal * -(-directions // TANGENTS_PER_PASS) + directions * tangent + 2 * head,
        "position": backward + directions * form,
        "difference": directions * 2 * (primal + head),
        "examples": backward + form + 2.0 * tracked.size * directions * len(examples),
        "gradients": backward + form + 2.0 * tracked.size * directions * len(examples),
        "fit": 2 * backward + 2 * rotate + form,
    }
    if job not in costs:
        raise InputError(f"there is no job {job!r} to estimate; choose one of {', '.join(costs)}")
    plan = plan_batches(examples, max_tokens)
    positions = max((len(b) * max(len(examples[i]) for i in b) for b in plan), default=0)
    inner = getattr(config, "intermediate_size", None) or 4 * width
    a_layer = positions * (6 * width + 3 * inner) * item
    all_layers = a_layer + positions * width * layers * item if recomputes() else a_layer * layers
    formed = max((len(b) for b in plan), default=0) * max(b.shape[0] * b.columns for b in tracked.blocks)
    carried = min(directions, TANGENTS_PER_PASS)
    whole = job in ("position", "examples", "gradients", "fit")
    wide = torch.empty((), dtype=accumulator(next(model.parameters()).dtype)).element_size()
    factors = sum(sum(side) + b.shape[0] * b.columns for side, b in zip(sides, tracked.blocks)) * wide
    return Estimate(
        job,
        tokens,
        costs[job],
        total * item,
        0 if job == "fit" else directions * tracked.size * (wide if job in ("examples", "gradients") else item),
        factors if job == "fit" else 0,
        (all_layers if whole else a_layer * (1 + carried)) + (0 if job in IN_FORWARD else formed * wide),
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
    """How many of ``directions`` fit in ``memory`` bytes beside the activations of ``job``, at least one.

    ``memory`` None: what is free now on the model's device, the model itself already in it.
    """
    one = estimate(job, model, examples, tracked, 1, max_tokens)
    free = free_memory(next(model.parameters()).device) if memory is None else memory
    room = SHARE * free - one.activation_bytes
    return max(1, min(directions, int(room // (COPIES * one.direction_bytes))))


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device; on the host, within the limit of the control group if there is one."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (Path("/sys/fs/cgroup", name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else max(0, min(free, int(limit) - int(used)))
    except (OSError, ValueError):
        return free


def matmul_speed(model: Any, width: int = 768) -> float:
    """Operations per second of a square matrix product in the model's dtype on its device: the median of five."""
    parameter = next(model.parameters())
    a = torch.randn(width, width, device=parameter.device).to(parameter.dtype)
    times = []
    for _ in range(6):
        before = perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        times.append(perf_counter() - before)
    return 2.0 * width**3 / sorted(times[1:])[2]
