"""Influence: a method is a way to make a direction, a granularity is a way to add up tokens.

Usable alone from Python; knows no file format of data, no benchmark and no command line::

    tracked   = tracked_weights(model, "mlp")
    targets   = [MeanLogLikelihood("math", responses)]
    curvature = fit_ekfac(model, train, tracked)
    v         = [curvature.inverse(Damping(0.1)) @ gradient(model, t, tracked) for t in targets]
    for chunk in token_influence(model, train, v):
        ...
    scores    = example_influence(model, train, v)
"""

from infra.influence.agreement import Probes, rank_agreement, training_probes
from infra.influence.chosen import chosen_tokens
from infra.influence.curvature import Curvature, Factor, FitInfo, InverseCurvature, StoredFactor, identity
from infra.influence.damping import Damping
from infra.influence.directions import (
    Direction,
    SavedDirections,
    combine,
    open_directions,
    save_directions,
)
from infra.influence.engine.engine import Engine, FitSettings
from infra.influence.engine.gradient import each_gradient, gradient, gradients
from infra.influence.engine.lowrank import LowRank
from infra.influence.engine.recompute import recomputed_activations
from infra.influence.engine.solve import (
    CGSettings,
    Solve,
    cg_directions,
    gauss_newton_products,
)
from infra.influence.estimate import Estimate, directions_at_once, estimate, matmul_speed
from infra.influence.fit import (
    Agreement,
    agreeing_sample,
    choose_eigenvalues,
    fit_curvature,
    fit_diagonal,
    fit_ekfac,
    fit_kfac,
    subsample,
)
from infra.influence.pairwise import (
    LowRankSettings,
    Pairwise,
    pairwise_influence,
    pairwise_tokens,
    query_directions,
    self_influence,
)
from infra.influence.scores import TokenScores, example_influence, token_influence
from infra.influence.targets import (
    Contrast,
    FunctionTarget,
    MeanLogLikelihood,
    Target,
    log_likelihoods,
    token_log_likelihoods,
)

__all__ = [
    "Agreement",
    "CGSettings",
    "Contrast",
    "Curvature",
    "Damping",
    "Direction",
    "Engine",
    "Estimate",
    "Factor",
    "FitInfo",
    "FitSettings",
    "FunctionTarget",
    "InverseCurvature",
    "LowRank",
    "LowRankSettings",
    "MeanLogLikelihood",
    "Pairwise",
    "Probes",
    "SavedDirections",
    "Solve",
    "StoredFactor",
    "Target",
    "TokenScores",
    "agreeing_sample",
    "cg_directions",
    "choose_eigenvalues",
    "chosen_tokens",
    "combine",
    "directions_at_once",
    "each_gradient",
    "estimate",
    "example_influence",
    "fit_curvature",
    "fit_diagonal",
    "fit_ekfac",
    "fit_kfac",
    "gauss_newton_products",
    "gradient",
    "gradients",
    "identity",
    "log_likelihoods",
    "matmul_speed",
    "open_directions",
    "pairwise_influence",
    "pairwise_tokens",
    "query_directions",
    "rank_agreement",
    "recomputed_activations",
    "save_directions",
    "self_influence",
    "subsample",
    "token_influence",
    "token_log_likelihoods",
    "training_probes",
]
