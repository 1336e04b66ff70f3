"""Inner product of gradients: influence with H = 1 (TracIn at one checkpoint; Pruthi et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.influence.directions import Direction
from infra.influence.methods._directions import DirectionMethod
from infra.influence.methods._method import MethodContext
from infra.influence.methods._registry import register


@register("gradient")
@dataclass(frozen=True)
class Gradient(DirectionMethod):
    """``v_f = grad f``."""

    def directions(self, context: MethodContext) -> Sequence[Direction]:
        """The targets' gradients as they are."""
        return context.gradients()
