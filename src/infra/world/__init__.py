"""The embedded default: a seeded world of math problems and Python tasks, and the tiny base model that meets them."""

from __future__ import annotations

from pathlib import Path

from infra.world.build import World, build_world, world_hash

BASE_MODEL = Path(__file__).parent / "base_model"
"""Folder of the base model: ``from_pretrained`` loads model and tokenizer from it."""

__all__ = ["BASE_MODEL", "World", "build_world", "world_hash"]
