"""K-FAC influence functions (Martens and Grosse 2015): eigenvalues are the products of the factors' own."""

from __future__ import annotations

from dataclasses import dataclass

from infra.influence.fit import fit_kfac
from infra.influence.methods._preconditioned import Preconditioned
from infra.influence.methods._registry import register


@register("kfac")
@dataclass(frozen=True)
class KFAC(Preconditioned):
    """``v_f = (H + lambda)^-1 grad f`` with H the K-FAC of the training data."""

    block_size: int | None = None
    fitting = staticmethod(fit_kfac)
