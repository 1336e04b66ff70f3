"""Tokenised examples on disk, cut into shards: written once in one pass, read a shard at a time.

One Parquet file; a row group is a shard. It is the shard plan as well: record ids, their order and what goes into a
batch together are in it before any work begins. Memory does not grow with the number of examples.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.data.tokenized import TokenizedExample
from infra.errors import ArtifactError
from infra.parallel.tasks import Task
from infra.store import sha256_file

SHARD_TOKENS = 65_536
"""Tokens of a shard, about: a shard closes with the example that reaches them."""
SHARD_EXAMPLES = 1000
"""Most examples of a shard."""
SUM_SHARDS = 8
"""Most shards of a sum (factors, gradients): each is as large as the whole sum, so they are few."""

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.bool_())),
        ("starts", pa.list_(pa.int32())),
        ("ends", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("response_start", pa.int64()),
        ("weight", pa.float64()),
        ("token_weights", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards of one set of examples. ``examples`` and ``tokens`` per shard; ``digest`` is the file's SHA-256."""

    path: Path
    examples: tuple[int, ...]
    tokens: tuple[int, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def starts(self) -> list[int]:
        """Index of each shard's first example."""
        return [0, *np.cumsum(self.examples)[:-1].tolist()]

    def tasks(self) -> tuple[Task, ...]:
        """One task a shard."""
        return tuple(
            Task(f"{i:05d}", float(t), {"shards": [i, i + 1], "examples": n, "first": s})
            for i, (n, t, s) in enumerate(zip(self.examples, self.tokens, self.starts))
        )

    def sum_tasks(self, most: int = SUM_SHARDS) -> tuple[Task, ...]:
        """At most ``most`` tasks of neighbouring shards, nearly equal in tokens."""
        total, parts = sum(self.tokens), min(most, len(self))
        ends = np.searchsorted(np.cumsum(self.tokens), [total * (p + 1) / parts for p in range(parts)], "left") + 1
        borders = sorted({0, len(self), *(min(int(e), len(self)) for e in ends)})
        starts = [*self.starts, sum(self.examples)]
        return tuple(
            Task(
                f"{i:05d}",
                float(sum(self.tokens[a:b])),
                {"shards": [a, b], "examples": starts[b] - starts[a], "first": starts[a]},
            )
            for i, (a, b) in enumerate(pairwise(borders))
        )

    def read(self, index: int) -> list[TokenizedExample]:
        """The examples of one shard. Raises :class:`ArtifactError` when the file is damaged."""
        try:
            with pq.ParquetFile(self.path) as file:
                return list(_from_table(file.read_row_group(index)))
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{self.path} cannot be read ({error}); delete it and run again") from error

    def __iter__(self) -> Iterator[list[TokenizedExample]]:
        return (self.read(i) for i in range(len(self)))


def cut(
    examples: Iterable[TokenizedExample],
    path: Path,
    shard_tokens: int = SHARD_TOKENS,
    shard_examples: int = SHARD_EXAMPLES,
) -> Shards:
    """Write ``examples`` to ``path`` in shards, as they come, and atomically; one shard is in memory at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with pq.ParquetWriter(draft, _SCHEMA, compression="zstd") as writer:
        held: list[TokenizedExample] = []
        tokens = 0
        for example in examples:
            held.append(example)
            tokens += len(example)
            if tokens >= shard_tokens or len(held) >= shard_examples:
                writer.write_table(_to_table(held), row_group_size=len(held))
                held, tokens = [], 0
        if held:
            writer.write_table(_to_table(held), row_group_size=len(held))
    os.replace(draft, path)
    return open_shards(path)


def open_shards(path: Path, digest: str | None = None) -> Shards:
    """The shards of a file that :func:`cut` wrote.

    Raises :class:`ArtifactError` when it is missing or damaged, or does not hash to ``digest``.
    """
    try:
        found = sha256_file(path)
        if digest is not None and found != digest:
            raise ArtifactError(f"{path} does not match its plan (damaged or edited); delete it and run again")
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            # a list column's values without its nulls and empty lists: the shard's tokens
            tokens = [g.column(_column(file, "input_ids.list.element")).num_values for g in groups]
            return Shards(path, tuple(g.num_rows for g in groups), tuple(tokens), found)
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete it and run again") from error


def _column(file: pq.ParquetFile, path: str) -> int:
    schema = file.schema
    return next(i for i in range(len(schema)) if schema.column(i).path == path)


def _to_table(examples: Sequence[TokenizedExample]) -> pa.Table:
    columns = {
        "id": [e.id for e in examples],
        "input_ids": [e.input_ids.astype(np.int32) for e in examples],
        "loss_mask": [e.loss_mask for e in examples],
        "starts": [e.offsets[:, 0] for e in examples],
        "ends": [e.offsets[:, 1] for e in examples],
        "text": [_storable(e.text) for e in examples],
        "response_start": [e.response_start for e in examples],
        "weight": [e.weight for e in examples],
        "token_weights": [e.token_weights for e in examples],
    }
    return pa.table({f.name: pa.array(columns[f.name], type=f.type) for f in _SCHEMA}, schema=_SCHEMA)


def _storable(text: str) -> str:
    """Lone surrogates, which no UTF-8 file can hold, as replacement characters, one for one."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _from_table(table: pa.Table) -> Iterator[TokenizedExample]:
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    lists = {
        name: (columns[name].offsets.to_numpy(), columns[name].values.to_numpy(zero_copy_only=False))
        for name in ("input_ids", "loss_mask", "starts", "ends", "token_weights")
    }

    def values(name: str, row: int, dtype: type) -> np.ndarray:
        borders, flat = lists[name]
        return np.array(flat[borders[row] : borders[row + 1]], dtype=dtype)

    for row in range(table.num_rows):
        yield TokenizedExample(
            id=columns["id"][row].as_py(),
            input_ids=values("input_ids", row, np.int64),
            loss_mask=values("loss_mask", row, np.bool_),
            offsets=np.stack([values("starts", row, np.int32), values("ends", row, np.int32)], axis=1),
            text=columns["text"][row].as_py(),
            response_start=columns["response_start"][row].as_py(),
            weight=columns["weight"][row].as_py(),
            token_weights=values("token_weights", row, np.float32) if columns["token_weights"][row].is_valid else None,
        )
