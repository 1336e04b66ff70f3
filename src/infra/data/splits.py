"""The one split of a benchmark into target and held-out, by hash of the problem."""

from __future__ import annotations

import hashlib
import re

_SPACE = re.compile(r"\s+")


def normalise(problem: str) -> str:
    """Lower case, runs of white space as one blank: what two copies of a problem share."""
    return _SPACE.sub(" ", problem).strip().lower()


def split_of(problem_text: str, fraction_target: float = 1 / 3) -> str:
    """``"target"`` for about ``fraction_target`` of all problems, ``"held-out"`` for the rest; the same for
    ever.

    The first 8 bytes of SHA-256 over the normalised text, as a fraction of 2**64, against
    ``fraction_target``.
    """
    digest = hashlib.sha256(normalise(problem_text).encode("utf-8", "surrogatepass")).digest()
    return "target" if int.from_bytes(digest[:8], "big") / 2**64 < fraction_target else "held-out"
