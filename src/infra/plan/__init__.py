"""What a recipe will take, before anything is loaded: memory, disk, operations and hours of each stage."""

from infra.plan.amounts import Amounts, amounts_of
from infra.plan.calibrate import device_named
from infra.plan.check import Checked, check, shape_of_recipe
from infra.plan.cost import Costs, Work
from infra.plan.devices import DEVICES, Device, device_of
from infra.plan.plan import Plan, PlannedStage, as_it_stands, plan
from infra.plan.shapes import KNOWN, Shape, shape_of

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
    "Work",
    "amounts_of",
    "as_it_stands",
    "check",
    "device_named",
    "device_of",
    "plan",
    "shape_of",
    "shape_of_recipe",
]
