"""Where the records of a run come from, and what became of each: what leads from a score back to the user's own row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from infra.data import Place, Record
from infra.data.named import is_named_data
from infra.data.reading import refuse_shared
from infra.data.rows import is_hub_data
from infra.pipeline.settings import SourceSettings

COLUMNS = ("id", "source", "file", "line", "set", "why")


def labels_of(sources: Sequence[SourceSettings]) -> list[str | None]:
    """What ids call each source: its name, with as many folders before it as tell it from the other sources."""
    paths = [s.path for s in sources]
    return [None if is_named_data(p) or is_hub_data(p) else _told_apart(p, paths) for p in paths]


def _told_apart(path: str, paths: Sequence[str]) -> str | None:
    """None for a file whose name alone does, which is what :func:`infra.data.read_records` takes by itself."""
    own = Path(path).parts
    others = {Path(p).parts for p in paths if Path(p).parts != own}
    n = next((n for n in range(1, len(own)) if all(o[-n:] != own[-n:] for o in others)), len(own))
    alone = not others or not Path(path).is_dir()
    return None if n == 1 and alone else "/".join(own[-n:])


@dataclass
class Origins:
    """One row for each record that was read, in that order: ``id``, the position of its ``source``, the ``file`` in it
    ('' where the source is one file), the ``line``, the ``set`` it is in, and ``why`` where it is in none."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    _row_of: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _first: dict[str, tuple[Record, Place | None]] = field(default_factory=dict)

    def add(self, record: Record, number: int, source: SourceSettings, place: Place | None, use: str | None) -> bool:
        """Note a record of a source; whether it is to be used. False for one that its set has already.

        Raises :class:`InputError` naming both places where its id belongs to another record.
        """
        first, first_place = self._first.setdefault(record.id, (record, place))
        refuse_shared(record, place, first, first_place)
        why = "" if use else "in no set: data.sources.shares"
        if use is not None and (use, record.id) in self._row_of:
            use, why = None, f"a copy of {record.id}" + (f" ({first_place})" if first_place else "")
        file, line = ("", 0) if place is None else (_inside(source.path, place.file), place.line)
        row = {"id": record.id, "source": number, "file": file, "line": line, "set": use or "", "why": why}
        self.rows.append(row)
        if use is not None:
            self._row_of[use, record.id] = row
        return use is not None

    def without(self, use: str, records: Sequence[Record], gone: Mapping[str, str]) -> list[Record]:
        """The records of the set ``use`` but those that are ``gone``: id -> why, which is noted."""
        for id_, why in gone.items():
            self._row_of[use, id_] |= {"set": "", "why": why}
        return [r for r in records if r.id not in gone]

    def table(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.rows, columns=list(COLUMNS))


def _inside(path: str, file: str) -> str:
    return Path(file).relative_to(path).as_posix() if Path(path).is_dir() else ""
