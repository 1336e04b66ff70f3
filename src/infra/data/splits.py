"""The one split of a benchmark into target and held-out, by hash of the problem."""

from __future__ import annotations

import hashlib
import re

_SPACE = re.compile(r"\s+")


def normalise(problem: str) -> str:
    """What two copies of a problem share: lower case, runs of white space as one blank.

    Args:
        problem: its text.
    """
    return _SPACE.sub(" ", problem).strip().lower()


def split_of(problem_text: str, fraction_target: float = 1 / 3) -> str:
    """The split that a problem belongs to, the same for ever.

    The first 8 bytes of SHA-256 over the normalised text, as a fraction of 2**64, decide.

    Args:
        problem_text: its question.
        fraction_target: share of all problems that make targets.

    Returns:
        ``"target"`` or ``"held-out"``.
    """
    digest = hashlib.sha256(normalise(problem_text).encode("utf-8", "surrogatepass")).digest()
    return "target" if int.from_bytes(digest[:8], "big") / 2**64 < fraction_target else "held-out"
