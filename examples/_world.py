"""A small model, training data and correct responses for the examples: the embedded world, which needs no download."""

from __future__ import annotations

from typing import Any

from infra.data import Record, TokenizedExample, tokenize
from infra.models import load_model
from infra.world import BASE_MODEL, build_world

MAX_LENGTH = 512


def small_world(n_train: int = 24, n_queries: int = 6) -> tuple[Any, Any, list[Record], list[Record]]:
    """``(model, tokenizer, training records, correct responses)``; math and code in equal parts in both."""
    model, tokenizer = load_model(BASE_MODEL, dtype="float32")
    world = build_world()
    train, correct = [], []
    for domain in ("math", "code"):
        train += [r for r in world.train if r.domain == domain][: n_train // 2]
        correct += [r for r in world.pool if r.domain == domain][: n_queries // 2]
    return model, tokenizer, train, correct


def tokens(records: list[Record], tokenizer: Any) -> list[TokenizedExample]:
    """The records as the model sees them."""
    return tokenize(records, tokenizer, max_length=MAX_LENGTH).examples
