"""A step of an attribution: one function of one piece of work, the same in memory and in tasks on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.batches import Progress
from infra.influence.engine.engine import Engine
from infra.parallel.tensors import TensorFile, TensorGroups

Results = Sequence[TensorGroups | TensorFile]
"""What a step left, piece by piece in order: in memory, or on disk and read when asked for."""
Value: TypeAlias = TensorGroups | NDArray[Any] | Any  # a pyarrow table, which is not typed


@dataclass(frozen=True, eq=False)
class Item:
    """One piece of work.

    - ``chunks``: for steps over the data, lists of examples with their places in the data.
    - ``keys``: for steps over weights, the keys of the blocks, with a number each where the step wants one.
    """

    engine: Engine
    chunks: Iterable[tuple[Sequence[int], Sequence[TokenizedExample]]] = ()
    keys: Sequence[str] | dict[str, float] = ()
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class AttributionStep:
    """``prepare(engine, **arguments)`` reads what all pieces need and gives the function of one piece.

    ``over`` says what is divided into pieces:

    - ``sum``: the data, in few large pieces, each as large as the whole result; the results are added up in order.
    - ``rows``: the data, in many small pieces; the results are put behind one another.
    - ``keys``: the weights.
    """

    prepare: Callable[..., Callable[[Item], Value]]
    over: Literal["sum", "rows", "keys"]
