"""Influence: a method is a way to make a direction, a granularity is a way to add up tokens.

Usable alone from Python; knows no file format of data, no benchmark and no command line::

    tracked   = tracked_weights(model, "mlp")
    targets   = [MeanLogLikelihood("math", responses)]
    curvature = fit_ekfac(model, train, tracked)
    v         = [ekfac_direction(curvature, gradient(model, t, tracked), damping=0.1) for t in targets]
    for chunk in token_influence(model, train, v):
        ...
    scores    = example_influence(model, train, v)
"""

from infra.influence.baselines import BASELINES, baseline_scores
from infra.influence.chosen import chosen_tokens
from infra.influence.curvature import EKFAC, Curvature, Factor, FitInfo, ekfac_direction, identity
from infra.influence.direction import Direction, combine, load_directions, save_directions
from infra.influence.estimate import Estimate, estimate
from infra.influence.fit import fit_diagonal, fit_ekfac, fit_kfac, subsample
from infra.influence.gradient import gradient, gradients
from infra.influence.lowrank import LowRank
from infra.influence.pairwise import (
    Pairwise,
    pairwise_influence,
    pairwise_tokens,
    query_directions,
    self_influence,
)
from infra.influence.scores import TokenScores, example_influence, token_influence
from infra.influence.solve import Solve, cg_direction, gauss_newton_product
from infra.influence.target import (
    Contrast,
    FunctionTarget,
    MeanLogLikelihood,
    Target,
    log_likelihoods,
    token_log_likelihoods,
)

__all__ = [
    "BASELINES",
    "EKFAC",
    "Contrast",
    "Curvature",
    "Direction",
    "Estimate",
    "Factor",
    "FitInfo",
    "FunctionTarget",
    "LowRank",
    "MeanLogLikelihood",
    "Pairwise",
    "Solve",
    "Target",
    "TokenScores",
    "baseline_scores",
    "cg_direction",
    "chosen_tokens",
    "combine",
    "ekfac_direction",
    "estimate",
    "example_influence",
    "fit_diagonal",
    "fit_ekfac",
    "fit_kfac",
    "gauss_newton_product",
    "gradient",
    "gradients",
    "identity",
    "load_directions",
    "log_likelihoods",
    "pairwise_influence",
    "pairwise_tokens",
    "query_directions",
    "save_directions",
    "self_influence",
    "subsample",
    "token_influence",
    "token_log_likelihoods",
]
