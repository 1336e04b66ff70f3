"""Influence functions under the diagonal of the Fisher matrix: mean squared gradients of the training examples."""

from __future__ import annotations

from dataclasses import dataclass

from infra.influence.fit import fit_diagonal
from infra.influence.methods._preconditioned import Preconditioned
from infra.influence.methods._registry import register


@register("diagonal")
@dataclass(frozen=True)
class Diagonal(Preconditioned):
    """``v_f = (H + lambda)^-1 grad f`` with H diagonal."""

    fitting = staticmethod(fit_diagonal)
