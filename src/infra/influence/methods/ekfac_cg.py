"""Conjugate gradients on the Gauss-Newton matrix itself, preconditioned by EK-FAC (Martens 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra.influence.damping import Damping
from infra.influence.directions import Direction
from infra.influence.engine.solve import CGSettings, cg_directions
from infra.influence.fit import subsample
from infra.influence.methods._directions import DirectionMethod
from infra.influence.methods._method import MethodContext
from infra.influence.methods._registry import register
from infra.influence.methods.ekfac import EKFAC


@register("ekfac_cg")
@dataclass(frozen=True)
class EKFACWithCG(DirectionMethod):
    """``(H + lambda) v_f = grad f`` solved in ``steps`` steps, with H over a ``fraction`` of the training examples.

    ``damping`` is relative to the mean eigenvalue over all tracked weights.
    """

    damping: Damping = Damping(10.0)
    steps: int = 20
    fraction: float = 1.0

    def directions(self, context: MethodContext) -> Sequence[Direction]:
        """The solutions, all targets in step."""
        some = subsample(context.examples, self.fraction, context.seed)
        settings = CGSettings(self.damping, self.steps)
        solved = cg_directions(context.engine, some, context.gradients(), EKFAC().curvature(context), settings)
        return [s.direction for s in solved]
