"""Random examples for the tiny model of these tests."""

from __future__ import annotations

import numpy as np

from infra.data import TokenizedExample

VOCABULARY = 40


def make_examples(n: int, seed: int = 0, longest: int = 14) -> list[TokenizedExample]:
    rng = np.random.default_rng(seed)
    examples = []
    for i in range(n):
        length = int(rng.integers(5, longest + 1))
        mask = np.arange(length) >= rng.integers(1, length - 2)
        examples.append(
            TokenizedExample(
                id=f"r{seed}-{i}",
                input_ids=rng.integers(3, VOCABULARY, length),
                loss_mask=mask,
                offsets=np.zeros((length, 2), dtype=np.int32),
                text="",
                response_start=0,
            )
        )
    return examples
