"""Methods whose direction is ``(H + lambda)^-1 grad f`` for a curvature H with an inverse in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from infra.influence.curvature import Curvature
from infra.influence.damping import Damping
from infra.influence.directions import Direction
from infra.influence.engine.engine import Fisher
from infra.influence.methods._directions import DirectionMethod
from infra.influence.methods._method import MethodContext


@dataclass(frozen=True)
class Preconditioned(DirectionMethod):
    """``fitting`` is the function that fits H; every setting but the damping is an argument of it."""

    damping: Damping = Damping(0.1)
    fisher: Fisher = "true"
    include_prompt: bool = True
    fitting: ClassVar[Callable[..., Curvature]]

    def curvature(self, context: MethodContext) -> Curvature:
        """H of the training data, fitted once for all methods of a context that want the same."""
        settings: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "damping"}
        engine, fitting = context.engine, type(self).fitting

        def fit() -> Curvature:
            return fitting(
                engine.model,
                context.examples,
                engine.tracked,
                seed=context.seed,
                max_tokens=engine.max_tokens,
                packed=engine.packed,
                model_hash="",  # a curvature that is not kept needs none
                **settings,
            )

        return context.once((fitting.__name__, *settings.items()), fit)

    def directions(self, context: MethodContext) -> Sequence[Direction]:
        """The preconditioned gradient of each target."""
        inverse = self.curvature(context).inverse(self.damping)
        return [inverse @ g for g in context.gradients()]
