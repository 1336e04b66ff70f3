"""What generating answers costs, from a model's shape. docs/explanation/costs.md derives the formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.models.shape import Shape


@dataclass(frozen=True, slots=True)
class Decoding:
    """``flops`` of prompts and answers; ``steps`` of decoding, each with ``rows`` answers at a time; numbers in the
    key-value cache of a whole batch."""

    flops: float
    steps: float
    rows: float
    cache: float


def decoding(
    shape: Shape, counts: Sequence[int], prompt: float, answer: float, most: float, batch_tokens: float
) -> Decoding:
    """The cost of sets of ``counts`` answers each, in batches that never mix sets.

    A batch holds at most ``batch_tokens`` with room for ``most`` new tokens, and runs as long as its longest answer,
    taken for twice the mean.

    Args:
        shape: the model's.
        counts: answers of each set.
        prompt: tokens of a prompt.
        answer: tokens of an answer, on average.
        most: tokens at which an answer is cut.
        batch_tokens: tokens of a batch.
    """
    room = prompt + most
    at_once = max(1.0, batch_tokens / room)
    n = float(sum(counts))
    batches = sum(max(1.0, count / at_once) for count in counts if count)
    rows = min(at_once, n / max(1.0, batches))
    return Decoding(
        flops=n * prompt * shape.forward(prompt) + n * answer * (shape.forward(room) + shape.logits),
        steps=batches * min(most, 2.0 * answer),
        rows=rows,
        cache=2.0 * shape.layers * shape.kv_width * rows * room,
    )
