"""What fine-tuning costs, from a model's shape. docs/explanation/costs.md derives the formulas."""

from __future__ import annotations

from infra.models.shape import Shape

LOGIT_BYTES = 8
"""Bytes a logit takes in the loss beside its own: in float32, and its gradient."""


def training_flops(shape: Shape, length: float, checkpointing: bool = False) -> float:
    """Operations of a training step, a token of texts of ``length``: forward, and twice as much backward.

    With gradient checkpointing the layers run forward once more.
    """
    again = 1.0 if checkpointing else 0.0
    return (3.0 + again) * shape.forward(length) + 3.0 * shape.logits


def training_bytes(shape: Shape, tokens: float, item: int, checkpointing: bool = False) -> dict[str, float]:
    """Bytes of a microbatch of ``tokens``: weights, their gradients, Adam's two moments, activations with the logits.

    ``item``: bytes of one number in the model's dtype.
    """
    weights = float(shape.parameters * item)
    return {
        "weights": weights,
        "gradients": weights,
        "optimiser": 2 * weights,
        "activations": tokens * (shape.activations(checkpointing) * item + shape.vocabulary * (item + LOGIT_BYTES)),
    }
