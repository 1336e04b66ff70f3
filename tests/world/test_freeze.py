"""World v1 is what it was when it was frozen, byte for byte."""

import json

from infra.world import World, world_hash
from infra.world.freeze import FROZEN, model_files


def test_the_world_is_the_frozen_one(world: World, balanced: World, opposite: World) -> None:
    now = {w.name: world_hash(w) for w in (world, balanced, opposite)}
    assert {**now, "base_model": model_files()} == json.loads(FROZEN.read_text())


def test_the_hash_sees_every_field(world: World) -> None:
    from dataclasses import replace

    first = replace(world.train[0], weight=2.0)
    changed = replace(world, train=(first, *world.train[1:]))
    before, after = world_hash(world), world_hash(changed)
    assert {k for k in before if before[k] != after[k]} == {"train"}
