"""The steps by name: what a worker needs to go on with a folder of tasks that it has never seen."""

from __future__ import annotations

from infra.influence.steps.directions import direction_step, gradient_step
from infra.influence.steps.factors import basis_step, covariance_step, eigenvalue_step, factor_step
from infra.influence.steps.scores import example_step, norm_step, token_step
from infra.influence.steps.step import AttributionStep

STEPS: dict[str, AttributionStep] = {
    "covariances": AttributionStep(covariance_step, "sum"),
    "bases": AttributionStep(basis_step, "keys"),
    "eigenvalues": AttributionStep(eigenvalue_step, "sum"),
    "factors": AttributionStep(factor_step, "keys"),
    "gradients": AttributionStep(gradient_step, "sum"),
    "directions": AttributionStep(direction_step, "keys"),
    "examples": AttributionStep(example_step, "rows"),
    "norms": AttributionStep(norm_step, "rows"),
    "tokens": AttributionStep(token_step, "rows"),
}
