"""EK-FAC influence functions (Grosse et al. 2023): eigenvalues measured in the eigenvectors of Kronecker factors."""

from __future__ import annotations

from dataclasses import dataclass

from infra.influence.fit import Form, fit_ekfac
from infra.influence.methods._preconditioned import Preconditioned
from infra.influence.methods._registry import register


@register("ekfac")
@dataclass(frozen=True)
class EKFAC(Preconditioned):
    """``v_f = (H + lambda)^-1 grad f`` with H the EK-FAC of the training data (George et al. 2018)."""

    eigenvalues: Form = "per_sequence"
    block_size: int | None = None
    fitting = staticmethod(fit_ekfac)
