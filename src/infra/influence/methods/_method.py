"""What a method is: fitted once on a model, training data and targets, it then scores any examples."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.directions import Direction
from infra.influence.engine.engine import Engine
from infra.influence.engine.gradient import gradient
from infra.influence.targets import MeanLogLikelihood, Target
from infra.train.recorded import RecordedRun

Made = TypeVar("Made")


@dataclass(frozen=True)
class Scores:
    """One example's scores on K targets: positive means that more weight on it raises the target.

    ``index``: its place in the sequence that was scored. ``example`` ``[K]``, float64. ``tokens`` ``[K, T]`` sum to
    it, zero outside the response; None where the method has no token scores or none were asked for.
    """

    index: int
    example: NDArray[np.float64]
    tokens: NDArray[Any] | None = None


class Fitted(Protocol):
    """A fitted method."""

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """Scores of each example, in any order; ``tokens`` False may be much faster."""
        ...

    def save(self, folder: Path) -> None:
        """Write what :meth:`Method.load` reads, in this or another process."""
        ...


class Method(Protocol):
    """An attribution method with its settings, as a frozen dataclass: its ``repr`` says all that its scores depend on
    besides the context.
    """

    def fit(self, context: MethodContext) -> Fitted:
        """Everything that does not depend on the examples to be scored."""
        ...

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """What :meth:`Fitted.save` wrote, for the same model."""
        ...


@dataclass(frozen=True)
class MethodContext:
    """What a method may use.

    Args:
        engine: the model that is explained and its tracked weights.
        examples: the training data.
        targets: the K functions whose influences are wanted.
        seed: of everything drawn at random.
        recorded: the training run that made the model, where it can be replayed; :meth:`run` asks for it.
        variants: other sequences to be scored, each in the place of the example with that number (its text with a
            step cut out). Only methods that follow the training itself need to know them beforehand.
        folder: where a long fit keeps its finished parts, so that a later one goes on from them; None keeps nothing.
    """

    engine: Engine
    examples: Sequence[TokenizedExample]
    targets: Sequence[Target]
    seed: int = 0
    recorded: RecordedRun | None = None
    variants: Sequence[tuple[int, TokenizedExample]] = ()
    folder: Path | None = None
    shared: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """``make()``, made once however many methods ask for it: they share gradients and curvatures."""
        if key not in self.shared:
            self.shared[key] = make()
        found: Made = self.shared[key]
        return found

    def gradients(self) -> list[Direction]:
        """The gradient of each target."""
        engine = self.engine
        return self.once(
            "gradients", lambda: [gradient(engine.model, t, engine.tracked, engine.max_tokens) for t in self.targets]
        )

    def queries(self, method: str) -> list[Sequence[TokenizedExample]]:
        """The queries of each target. Raises :class:`InputError` for a target that is not a mean over queries."""
        return [t.examples for t in self.log_likelihoods(method)]

    def log_likelihoods(self, method: str) -> list[MeanLogLikelihood]:
        """The targets, each a mean over queries. Raises :class:`InputError` for one that is not."""
        found = []
        for target in self.targets:
            if not isinstance(target, MeanLogLikelihood):
                raise InputError(
                    f"method {method!r} compares examples with queries, and target {target.name!r} is a "
                    f"{type(target).__name__}; give it a MeanLogLikelihood"
                )
            found.append(target)
        return found

    def run(self, method: str) -> RecordedRun:
        """The recorded training run. Raises :class:`InputError` where there is none."""
        if self.recorded is None:
            raise InputError(
                f"method {method!r} follows the training run and none was recorded; fine-tune with `infra run`, which "
                "records it, or choose a method that needs the trained model only"
            )
        return self.recorded

    def at(self, engine: Engine, recorded: RecordedRun, folder: Path | None) -> MethodContext:
        """The same data and targets for another model: a member of an ensemble."""
        return replace(self, engine=engine, recorded=recorded, folder=folder, shared={})
