"""The frozen hashes of World v1: ``python -m infra.world.freeze`` prints them as they are now.

``v1.json`` holds the SHA-256 of every split of every world and of the base model's files. A test compares it with what
the generator makes; a change of the world is a new version with a file of its own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from infra.world import BASE_MODEL
from infra.world.build import MIXES, build_world, world_hash

FROZEN = Path(__file__).parent / "v1.json"


def model_files() -> dict[str, str]:
    """SHA-256 by file of the base model."""
    files = sorted(f for f in BASE_MODEL.iterdir() if f.is_file())
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def current(seed: int = 0) -> dict[str, dict[str, str]]:
    """SHA-256 by world and split, and by file of the base model."""
    return {**{name: world_hash(build_world(name, seed)) for name in MIXES}, "base_model": model_files()}


if __name__ == "__main__":
    print(json.dumps(current(), indent=1))
