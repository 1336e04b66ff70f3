"""What a recipe will take, before anything is loaded: memory, disk, operations and hours of each stage."""

from infra.models.shape import KNOWN, Shape, shape_of
from infra.pipeline.plan.amounts import Amounts, amounts_of
from infra.pipeline.plan.calibrate import device_named
from infra.pipeline.plan.check import Checked, check, shape_of_recipe
from infra.pipeline.plan.costs import Costs, StageCost
from infra.pipeline.plan.devices import DEVICES, Device, device_of
from infra.pipeline.plan.plan import Plan, PlannedStage, as_it_stands, plan

__all__ = [
    "DEVICES",
    "KNOWN",
    "Amounts",
    "Checked",
    "Costs",
    "Device",
    "Plan",
    "PlannedStage",
    "Shape",
    "StageCost",
    "amounts_of",
    "as_it_stands",
    "check",
    "device_named",
    "device_of",
    "plan",
    "shape_of",
    "shape_of_recipe",
]
