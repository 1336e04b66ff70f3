"""The embedded default: a seeded world of math problems and Python tasks, and the tiny base model that meets them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from infra.data.schema import Record
from infra.world.build import World, build_world, world_hash

BASE_MODEL = Path(__file__).parent / "base_model"
"""Folder of the base model: ``from_pretrained`` loads model and tokenizer from it."""


def records_of(name: str) -> Iterator[Record]:
    """A world's training data, then its pool; ``split`` among the attributes says which. See :func:`build_world`."""
    world = build_world(name)
    yield from world.train
    yield from world.pool


__all__ = ["BASE_MODEL", "World", "build_world", "records_of", "world_hash"]
