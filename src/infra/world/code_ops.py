"""The operations that code tasks are composed of. Each is a family: an expression, what it means, how it is said.

Types: ``n`` an integer, ``xs`` a list of integers, ``s`` a string. ``{k}`` is the parameter and ``{c}``, ``{d}`` are
letters. ``expr`` and ``alt`` are two Python expressions for the same operation; ``run`` computes it independently of
both, and the expected outputs of tests come from ``run`` alone.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class CodeOp:
    """An operation from type ``source`` to type ``target`` (``n``, ``xs`` or ``s``).

    ``verb``: one word for plans; ``said``: imperative phrases of training; ``paraphrase``: other phrases, for the
    paraphrased set only; ``note``: phrases of pretraining; ``doing``: the gerund used in chains of thought.
    ``pretrain``: whether the base model's pretraining text may use it at all.
    """

    name: str
    source: str
    target: str
    expr: str
    alt: str
    run: Callable[..., Any]
    parameters: tuple[tuple[Any, ...], ...]
    symbol: str
    verb: str
    said: tuple[str, ...]
    paraphrase: tuple[str, ...]
    note: tuple[str, ...]
    doing: str
    fact: str
    pretrain: bool = True


def numbers(low: int, high: int) -> tuple[tuple[Any, ...], ...]:
    return tuple((k,) for k in range(low, high + 1))


NONE: tuple[tuple[Any, ...], ...] = ((),)
LETTERS: tuple[tuple[Any, ...], ...] = tuple((c,) for c in string.ascii_lowercase)
PAIRS: tuple[tuple[Any, ...], ...] = tuple((c, d) for c in "abcdefgilmnoprstu" for d in "abcdefgilmnoprstu" if c != d)


def operation(
    name: str,
    source: str,
    target: str,
    expr: str,
    alt: str,
    run: Callable[..., Any],
    parameters: tuple[tuple[Any, ...], ...],
    symbol: str,
    verb: str,
    said: str,
    paraphrase: str,
    note: str,
    doing: str,
    fact: str,
    *,
    held: bool = False,
) -> CodeOp:
    """One row of the table below, in the order of :class:`CodeOp`'s fields; ``|`` parts alternatives."""
    split = lambda text: tuple(text.split("|"))  # noqa: E731
    return CodeOp(
        name,
        source,
        target,
        expr,
        alt,
        run,
        parameters,
        symbol,
        verb,
        split(said),
        split(paraphrase),
        split(note),
        doing,
        fact,
        not held,
    )
