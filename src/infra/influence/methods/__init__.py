"""The attribution methods, one file each; :func:`get_method` finds one by name."""

from infra.influence.engine.engine import Engine
from infra.influence.methods._directions import AlongDirections, DirectionMethod
from infra.influence.methods._method import Context, Fitted, Method, Scores
from infra.influence.methods._registry import OTHER_NAMES, get_method, method_names, methods_that_replay, register
from infra.influence.methods.ensemble import Ensemble
from infra.influence.methods.unrolled import is_unrolled

__all__ = [
    "OTHER_NAMES",
    "AlongDirections",
    "Context",
    "DirectionMethod",
    "Engine",
    "Ensemble",
    "Fitted",
    "Method",
    "Scores",
    "get_method",
    "is_unrolled",
    "method_names",
    "methods_that_replay",
    "register",
]
