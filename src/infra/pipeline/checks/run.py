"""Runs checks and says everything they found in one message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from infra.errors import InfraError

S = TypeVar("S")
Check = Callable[[S], Iterable[InfraError] | None]
"""Looks at what a command is about to do, and gives each problem as the error it would be or raises the only one; so a
check may just call what would raise later."""


def problems(subject: S, checks: Sequence[Check[S]]) -> list[InfraError]:
    """What the checks find, each problem once, in the order of the checks."""
    found: dict[str, InfraError] = {}
    for check in checks:
        try:
            for problem in check(subject) or ():
                found.setdefault(str(problem), problem)
        except InfraError as error:
            found.setdefault(str(error), error)
    return list(found.values())


def refuse(found: Sequence[InfraError]) -> None:
    """Raise the only problem as it is, or one error of the first one's kind that lists them all; nothing for none."""
    if len(found) == 1:
        raise found[0]
    if found:
        listed = "".join(f"\n  {i}. {problem}" for i, problem in enumerate(found, 1))
        raise type(found[0])(f"{len(found)} problems, found before any model was loaded; nothing was written:{listed}")
