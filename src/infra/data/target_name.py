"""The name of a target, or of one level or fold of it: the one way it is written in columns and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from infra.errors import InputError

_NAME = re.compile(r"(?P<name>[^:#]+)(:(?P<level>\d+))?(#(?P<fold>\d+))?")


@dataclass(frozen=True, slots=True, order=True)
class TargetName:
    """What influence is on: the queries of ``name``, of one difficulty ``level`` or of one ``fold`` of them.

    Written ``math``, ``math:3`` (level 3), ``math:3#1`` (its fold 1) or ``math#1`` (fold 1 of all levels). Level 0 is
    that of queries without one.

    Raises :class:`InputError` for a name with ``:`` or ``#`` in it, which could not be read back.
    """

    name: str
    level: int | None = None
    fold: int | None = None

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set(":#"):
            raise InputError(
                f"{self.name!r} cannot be the name of a target or a domain: it is empty or holds ':' or '#'; rename it"
            )

    def __str__(self) -> str:
        level = "" if self.level is None else f":{self.level}"
        return f"{self.name}{level}" if self.fold is None else f"{self.name}{level}#{self.fold}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The target whose ``str`` is ``text``. Raises :class:`InputError` for any other text."""
        found = _NAME.fullmatch(text)
        if found is None:
            raise InputError(f"{text!r} names no target; write name, name:level, name#fold or name:level#fold")
        level, fold = found["level"], found["fold"]
        return cls(found["name"], None if level is None else int(level), None if fold is None else int(fold))

    @property
    def whole(self) -> bool:
        """Whether it is all queries of its name."""
        return self.level is None and self.fold is None


def is_whole(text: str) -> bool:
    """Whether a target's name, as columns and tables have it, is that of a whole target and not of a level or fold.

    Args:
        text: a name such as ``math`` or ``math:3#1``.
    """
    return TargetName.parse(text).whole


def whole_targets(columns: Iterable[object]) -> list[str]:
    """The whole targets among a table's columns ``score_<target>``, in their order.

    Args:
        columns: names of columns.
    """
    names = [str(c).removeprefix("score_") for c in columns if str(c).startswith("score_")]
    return [name for name in names if is_whole(name)]
