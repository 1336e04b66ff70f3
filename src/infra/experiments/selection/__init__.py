"""Data in, better data out: the arms and their manifests, selection, pruning, weights and truncation."""

from infra.experiments.selection.arms import make_arm
from infra.experiments.selection.files import SelectionFiles, write_selection
from infra.experiments.selection.guided import CONTROLS, influence_swap, random_prune, random_selection
from infra.experiments.selection.items import ARM_NAMES, DIRECTIONS, Arm, ArmItem, build_arm
from infra.experiments.selection.records import SelectedRecords, SelectSettings, select_records
from infra.experiments.selection.select import Selection, prune, select, utility
from infra.experiments.selection.truncate import Truncation, truncate
from infra.experiments.selection.weights import Weighting, example_weights, token_weights, weigh

__all__ = [
    "ARM_NAMES",
    "CONTROLS",
    "DIRECTIONS",
    "Arm",
    "ArmItem",
    "SelectSettings",
    "SelectedRecords",
    "Selection",
    "SelectionFiles",
    "Truncation",
    "Weighting",
    "build_arm",
    "example_weights",
    "influence_swap",
    "make_arm",
    "prune",
    "random_prune",
    "random_selection",
    "select",
    "select_records",
    "token_weights",
    "truncate",
    "utility",
    "weigh",
    "write_selection",
]
