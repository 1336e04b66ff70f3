"""Tokenised examples cut into shards, the units of work and of resume.

A shard is a row group of a :class:`~infra.data.TokenizedFile`. The file is the shard plan as well: record ids, their
order and what goes into a batch together are in it before any work begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from infra.data.tokenized import TokenizedExample
from infra.data.tokenized_file import TokenizedFile, write_tokenized
from infra.parallel.tasks import ShardTask

SHARD_TOKENS = 65_536
"""Tokens of a shard, about: a shard closes with the example that reaches them."""
SHARD_EXAMPLES = 1000
"""Most examples of a shard."""
SUM_SHARDS = 8
"""Most shards of a sum (factors, gradients): each is as large as the whole sum, so they are few."""


@dataclass(frozen=True, slots=True)
class Shards(TokenizedFile):
    """The shards of one set of examples, and the tasks they make."""

    def tasks(self) -> tuple[ShardTask, ...]:
        """One task a shard."""
        return tuple(
            ShardTask(f"{i:05d}", float(t), {"shards": [i, i + 1], "examples": n, "first": s})
            for i, (n, t, s) in enumerate(zip(self.examples, self.tokens, self.starts))
        )

    def sum_tasks(self, most: int = SUM_SHARDS) -> tuple[ShardTask, ...]:
        """At most ``most`` tasks of neighbouring shards, nearly equal in tokens."""
        total, parts = sum(self.tokens), min(most, len(self))
        ends = np.searchsorted(np.cumsum(self.tokens), [total * (p + 1) / parts for p in range(parts)], "left") + 1
        borders = sorted({0, len(self), *(min(int(e), len(self)) for e in ends)})
        starts = [*self.starts, sum(self.examples)]
        return tuple(
            ShardTask(
                f"{i:05d}",
                float(sum(self.tokens[a:b])),
                {"shards": [a, b], "examples": starts[b] - starts[a], "first": starts[a]},
            )
            for i, (a, b) in enumerate(pairwise(borders))
        )


def write_shards(
    examples: Iterable[TokenizedExample],
    path: Path,
    shard_tokens: int = SHARD_TOKENS,
    shard_examples: int = SHARD_EXAMPLES,
) -> Shards:
    """Write ``examples`` to ``path`` in shards, as they come, and atomically; one shard is in memory at a time."""
    write_tokenized(examples, path, shard_tokens, shard_examples)
    return open_shards(path)


def open_shards(path: Path, digest: str | None = None) -> Shards:
    """The shards of a file that :func:`write_shards` wrote.

    Raises :class:`ArtifactError` when it is missing or damaged, or does not hash to ``digest``.
    """
    return Shards.open(path, digest)
