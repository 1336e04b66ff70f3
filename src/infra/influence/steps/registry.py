"""The steps by name: what a worker needs to go on with a folder of tasks that it has never seen."""

from __future__ import annotations

from infra.influence.steps.directions import direction_step, gradient_step
from infra.influence.steps.factors import basis_step, covariance_step, eigenvalue_step, factor_step
from infra.influence.steps.scores import example_step, norm_step, token_step
from infra.influence.steps.step import Step

STEPS: dict[str, Step] = {
    "covariances": Step(covariance_step, "sum"),
    "bases": Step(basis_step, "keys"),
    "eigenvalues": Step(eigenvalue_step, "sum"),
    "factors": Step(factor_step, "keys"),
    "gradients": Step(gradient_step, "sum"),
    "directions": Step(direction_step, "keys"),
    "examples": Step(example_step, "rows"),
    "norms": Step(norm_step, "rows"),
    "tokens": Step(token_step, "rows"),
}
