"""Which wordings and which problems belong to which split: fixed by hash, so that splits cannot overlap."""

from __future__ import annotations

import hashlib
import random

SHARES = (("benchmark", 0.16), ("pool", 0.26), ("train", 0.42), ("pretrain", 0.16))
"""Share of all problems, as (family, values), that each split may use."""


def key_of(*parts: object) -> str:
    """Canonical text of (family, values)."""
    return "|".join(str(p) for p in parts)


def partition(key: str) -> str:
    """The one split that a problem may appear in, from the hash of its (family, values)."""
    x = int.from_bytes(hashlib.sha256(("world" + key).encode()).digest()[:8], "big") / 2.0**64
    for name, share in SHARES:
        if x < share:
            return name
        x -= share
    return SHARES[-1][0]


def choose(rng: random.Random, templates: tuple[str, ...]) -> tuple[int, str]:
    """A random template and its number."""
    i = rng.randrange(len(templates))
    return i, templates[i]


def sentence_case(text: str) -> str:
    """The text with its first character in upper case."""
    return text[:1].upper() + text[1:]
