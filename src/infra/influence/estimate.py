"""What a job will cost, before it starts: floating-point operations and memory, from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.errors import InputError
from infra.influence.batches import DEFAULT_MAX_TOKENS, plan_batches
from infra.influence.functional import causal_model
from infra.influence.scores import TANGENTS_PER_PASS
from infra.models.tracked import TrackedWeights
from infra.records.tokenized import TokenizedExample


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


def estimate(
    job: str,
    model: Any,
    examples: Sequence[TokenizedExample],
    tracked: TrackedWeights,
    directions: int = 1,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Estimate:
    """The estimate for ``job``: ``forward``, ``position``, ``difference``, ``examples`` or ``fit``.

    Counts 2 operations per weight and token for each product, and the attention's T^2 products on top. Activations
    are those alive together: one layer in forward mode, all layers where there is a backward pass.
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
    rotate = sum(2.0 * (b.shape[0] ** 2 + b.columns**2) for b in tracked.blocks) * tokens
    form = 2.0 * tracked.size * tokens
    backward = 2 * primal + 2 * head
    costs = {
        "forward": primal * -(-directions // TANGENTS_PER_PASS) + directions * tangent + 2 * head,
        "position": backward + directions * form,
        "difference": directions * 2 * (primal + head),
        "examples": backward + form + 2.0 * tracked.size * directions * len(examples),
        "fit": 2 * backward + 2 * rotate + form,
    }
    if job not in costs:
        raise InputError(f"there is no job {job!r} to estimate; choose one of {', '.join(costs)}")
    plan = plan_batches(examples, max_tokens)
    positions = max((len(b) * max(len(examples[i]) for i in b) for b in plan), default=0)
    inner = getattr(config, "intermediate_size", 4 * width)
    a_layer = positions * (6 * width + 3 * inner) * item
    carried = min(directions, TANGENTS_PER_PASS)
    whole = job in ("position", "examples", "fit")
    factors = sum(b.shape[0] ** 2 + b.columns**2 + b.shape[0] * b.columns for b in tracked.blocks) * 4
    return Estimate(
        job,
        tokens,
        costs[job],
        total * item,
        0 if job == "fit" else directions * tracked.size * item,
        factors if job == "fit" else 0,
        a_layer * layers if whole else a_layer * (1 + carried),
    )
