"""Rows of CSV and TSV files. Every cell is text; an empty one is nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import IO, Any

from infra.errors import InputError

SUFFIXES = (".csv", ".tsv")
NUMBERS = ("weight", "difficulty", "level")
"""Columns that are numbers in other formats; where a cell of theirs is one, it becomes one."""


def table_rows(name: str, stream: IO[bytes], max_row: int) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
    """(line at which the row ends, its cells by column, what is wrong with it).

    Raises :class:`InputError` as :func:`table_cells` does.
    """
    cells_of = table_cells(name, stream, max_row)
    _, (columns, _) = next(cells_of)
    for line, (cells, _) in cells_of:
        if len(cells) != len(columns):
            problem = f"{len(cells)} cells for {len(columns)} columns; quote cells that hold the separator"
            yield line, None, problem
            continue
        yield line, {c: _cell(c, v) for c, v in zip(columns, cells)}, None


def table_cells(name: str, stream: IO[bytes], max_row: int) -> Iterator[tuple[int, tuple[list[str], str]]]:
    """(line at which the row ends, (its cells as they are, the separator)); first the names of the columns.

    The first row names the columns. ``.tsv`` is separated by tabs; ``.csv`` by commas, or by semicolons where its
    first line has these and no comma. Raises :class:`InputError` where the file is not UTF-8 or the header is bad.
    """
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    csv.field_size_limit(max_row)
    try:
        head = text.readline(max_row)
        tabs = name.removesuffix(".gz").endswith(".tsv")
        separator = "\t" if tabs else ";" if ";" in head and "," not in head else ","
        reader = csv.reader(_lines(head, text), delimiter=separator)
        columns = next(reader)
        if len(set(columns)) < len(columns) or not all(columns):
            raise InputError(f"{name}, line 1: the columns need names that differ, found {', '.join(columns)}")
        yield reader.line_num, (columns, separator)
        yield from ((reader.line_num, (cells, separator)) for cells in reader if cells)
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: not a table ({error}); write the file again") from error


def _lines(head: str, text: io.TextIOWrapper) -> Iterator[str]:
    yield head
    yield from text


def _cell(column: str, value: str) -> str | int | float | None:
    if value == "":
        return None
    if column in NUMBERS:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value
