"""Tokenised examples on disk: one Parquet file, written once in one pass and read a row group at a time.

Memory does not grow with the number of examples. Record ids, their order and everything in
:class:`~infra.data.TokenizedExample` come back as they were written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.data.tokenized import TokenizedExample
from infra.errors import ArtifactError
from infra.store import replacing, sha256_file

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
        ("content_mask", pa.list_(pa.bool_())),
    ]
)


@dataclass(frozen=True, slots=True)
class TokenizedFile:
    """Examples in row groups. ``examples`` and ``tokens`` count each group's; ``digest`` is the file's SHA-256.

    Iterating gives one group at a time, as a list.
    """

    path: Path
    examples: tuple[int, ...]
    tokens: tuple[int, ...]
    digest: str

    @classmethod
    def open(cls, path: Path, digest: str | None = None) -> Self:
        """The file at ``path``, without its examples.

        Raises :class:`ArtifactError` when it is missing or damaged, or does not hash to ``digest``.
        """
        try:
            found = sha256_file(path)
            if digest is not None and found != digest:
                raise ArtifactError(f"{path} does not match its plan (damaged or edited); delete it and run again")
            with pq.ParquetFile(path) as file:
                groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
                # a list column's values without its nulls and empty lists: the group's tokens
                tokens = [g.column(_column(file, "input_ids.list.element")).num_values for g in groups]
                return cls(path, tuple(g.num_rows for g in groups), tuple(tokens), found)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); delete it and run again") from error

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def starts(self) -> list[int]:
        """Index of each group's first example."""
        return [0, *np.cumsum(self.examples)[:-1].tolist()]

    def read(self, index: int) -> list[TokenizedExample]:
        """The examples of one group. Raises :class:`ArtifactError` when the file is damaged."""
        try:
            with pq.ParquetFile(self.path) as file:
                return list(_from_table(file.read_row_group(index)))
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{self.path} cannot be read ({error}); delete it and run again") from error

    def __iter__(self) -> Iterator[list[TokenizedExample]]:
        return (self.read(i) for i in range(len(self)))

    def stream(self) -> Iterator[TokenizedExample]:
        """Every example, one group in memory at a time."""
        for group in self:
            yield from group

    def select(self, ids: Collection[str]) -> dict[str, TokenizedExample]:
        """The examples with these ids, by id. An id that is not in the file is left out."""
        wanted = set(ids)
        return {e.id: e for e in self.stream() if e.id in wanted}


def write_tokenized(examples: Iterable[TokenizedExample], path: Path, group_tokens: int, group_examples: int) -> None:
    """Write examples to a file as they come, and atomically; one row group is in memory at a time.

    A group closes with the example that reaches either limit.

    Args:
        examples: to write.
        path: a Parquet file.
        group_tokens: tokens of a row group.
        group_examples: examples of a row group.
    """
    with replacing(path) as draft, pq.ParquetWriter(draft, _SCHEMA, compression="zstd") as writer:
        held: list[TokenizedExample] = []
        tokens = 0
        for example in examples:
            held.append(example)
            tokens += len(example)
            if tokens >= group_tokens or len(held) >= group_examples:
                writer.write_table(_to_table(held), row_group_size=len(held))
                held, tokens = [], 0
        if held:
            writer.write_table(_to_table(held), row_group_size=len(held))


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
        "content_mask": [e.content_mask for e in examples],
    }
    return pa.table({f.name: pa.array(columns[f.name], type=f.type) for f in _SCHEMA}, schema=_SCHEMA)


def _storable(text: str) -> str:
    """Lone surrogates, which no UTF-8 file can hold, as replacement characters, one for one."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _from_table(table: pa.Table) -> Iterator[TokenizedExample]:
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    lists = {
        name: (columns[name].offsets.to_numpy(), columns[name].values.to_numpy(zero_copy_only=False))
        for name in ("input_ids", "loss_mask", "starts", "ends", "token_weights", "content_mask")
    }

    def values(name: str, row: int, dtype: type) -> np.ndarray:
        borders, flat = lists[name]
        return np.array(flat[borders[row] : borders[row + 1]], dtype=dtype)

    def optional(name: str, row: int, dtype: type) -> np.ndarray | None:
        return values(name, row, dtype) if columns[name][row].is_valid else None

    for row in range(table.num_rows):
        yield TokenizedExample(
            id=columns["id"][row].as_py(),
            input_ids=values("input_ids", row, np.int64),
            loss_mask=values("loss_mask", row, np.bool_),
            offsets=np.stack([values("starts", row, np.int32), values("ends", row, np.int32)], axis=1),
            text=columns["text"][row].as_py(),
            response_start=columns["response_start"][row].as_py(),
            weight=columns["weight"][row].as_py(),
            token_weights=optional("token_weights", row, np.float32),
            content_mask=optional("content_mask", row, np.bool_),
        )
