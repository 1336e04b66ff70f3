"""The attribution methods, one file each; :func:`get_method` finds one by name."""

from infra.influence.engine.engine import Engine
from infra.influence.methods._directions import AlongDirections, DirectionMethod
from infra.influence.methods._folder import has_directions, open_fitted, write_fitted
from infra.influence.methods._method import Fitted, Method, MethodContext, Scores
from infra.influence.methods._mixed import mixed, spread
from infra.influence.methods._registry import (
    OTHER_NAMES,
    get_method,
    has_token_scores,
    method_names,
    methods_that_replay,
    needs_recorded_run,
    register,
)
from infra.influence.methods.ensemble import Ensemble
from infra.influence.methods.unrolled import is_unrolled

__all__ = [
    "OTHER_NAMES",
    "AlongDirections",
    "DirectionMethod",
    "Engine",
    "Ensemble",
    "Fitted",
    "Method",
    "MethodContext",
    "Scores",
    "get_method",
    "has_directions",
    "has_token_scores",
    "is_unrolled",
    "method_names",
    "methods_that_replay",
    "mixed",
    "needs_recorded_run",
    "open_fitted",
    "register",
    "spread",
    "write_fitted",
]
