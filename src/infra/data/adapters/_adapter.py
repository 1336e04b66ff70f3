"""What an adapter is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infra.data.fields import Draft, Raw


def _always(row: Raw) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Adapter:
    """``convert`` turns a raw row into a draft record or raises ``RowProblem``.

    ``fields`` must all be present for the schema to be detected, and ``accepts`` may look closer at the
    values. ``source`` is the default source of its records; ``native_id`` the field that names a row, whose
    value becomes the record's id.

    ``columns`` says of every column that ``convert`` reads, or leaves out on purpose, what becomes of it, in a few
    words for the reference page of schemas. Those that begin with "not kept" have no influence on the
    record. Columns that are not named here are treated as :mod:`infra.data.columns` says. ``published`` is where the
    schema comes from.
    """

    name: str
    fields: frozenset[str]
    convert: Callable[[Raw], Draft]
    accepts: Callable[[Raw], bool] = _always
    aliases: tuple[str, ...] = ()
    source: str | None = None
    native_id: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    published: str = ""

    def fits(self, row: Raw) -> bool:
        """True when the row looks like this schema."""
        return self.fields <= row.keys() and self.accepts(row)
