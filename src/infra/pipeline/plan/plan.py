"""A recipe's plan on a device: time, memory and disk of each stage, and settings that fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from infra.pipeline.plan.advice import Remedy, remedies
from infra.pipeline.plan.costs import Costs
from infra.pipeline.plan.devices import Device
from infra.pipeline.plan.duration import memory, seconds, sums_on_disk
from infra.pipeline.recipe import Recipe

RESERVE = 0.9
"""Share of a device's memory that a plan may fill."""

ENOUGH = 0.9
"""A change of settings is taken only if it leaves less than this share of what is too much."""


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """Bytes of memory are of each device; seconds with all of them at work."""

    stage: str
    flops: float
    seconds: float
    memory: float
    disk: float


@dataclass(frozen=True)
class Plan:
    """Every stage under the recipe of ``costs``, which has ``changes`` that the given one lacked and needs to fit.

    ``scratch``: bytes on disk that stand only while the curvature or the directions are made. ``enough``: where the
    number of devices was given and the plan does not fit, a number on which it would, if one is known.
    """

    costs: Costs
    device: Device
    devices: int
    stages: tuple[PlannedStage, ...]
    scratch: float
    changes: tuple[str, ...]
    enough: int | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe, with its changes."""
        return self.costs.recipe

    @property
    def seconds(self) -> float:
        """Of all stages one after the other."""
        return sum(s.seconds for s in self.stages)

    @property
    def memory(self) -> float:
        """Bytes of the fullest stage, on each device."""
        return max(s.memory for s in self.stages)

    @property
    def disk(self) -> float:
        """Bytes left behind, and what stands beside them meanwhile."""
        return sum(s.disk for s in self.stages) + self.scratch

    @property
    def too_large(self) -> tuple[PlannedStage, ...]:
        """The stages that do not keep to their share of the device's memory."""
        return tuple(s for s in self.stages if s.memory > RESERVE * self.device.memory)

    @property
    def excess(self) -> float:
        """Bytes by which stages are too large, summed."""
        return sum(s.memory - RESERVE * self.device.memory for s in self.too_large)

    @property
    def fits(self) -> bool:
        """Whether every stage fits."""
        return not self.too_large


def plan(costs: Costs, device: Device, devices: int | None = None) -> Plan:
    """The plan of a recipe, with the changes of settings that make it fit where it does not as it stands.

    Of each kind of change the weakest that is enough is taken, or the strongest that helps at all; all kinds are tried
    twice, since one may help only after another. A plan that does not fit with every change made has ``fits`` false.

    Args:
        costs: what is planned.
        device: one device.
        devices: how many, which the plan then keeps to; None: as many as it takes, beginning with one.
    """
    asked = []
    if costs.amounts.length > costs.recipe.data.max_length:  # asked for: the recipe would cut examples down
        longest = math.ceil(costs.amounts.length)
        asked = [f"data.max_length: {longest}"]
        data = costs.recipe.data.model_copy(update={"max_length": longest})
        costs = replace(costs, recipe=costs.recipe.model_copy(update={"data": data}))
    found, changes = as_it_stands(costs, device, devices or 1), dict[Remedy, str]()
    for kind in 2 * remedies(more_devices=devices is None):
        if found.fits:
            break
        best, chosen = found, ""
        for sentence, changed, n in kind(found.recipe, costs.shape, found.devices):
            tried = as_it_stands(replace(costs, recipe=changed), device, n)
            if tried.excess < ENOUGH * best.excess:
                best, chosen = tried, sentence
            if tried.fits:
                break
        if chosen:
            found = best
            changes[kind] = chosen
    enough = None
    if devices is not None and not found.fits:
        free = plan(costs, device)
        enough = free.devices if free.fits else None
    return replace(found, changes=(*asked, *changes.values()), enough=enough)


def as_it_stands(costs: Costs, device: Device, devices: int = 1) -> Plan:
    """The plan under the recipe's own settings, whether it fits or not."""
    stages = tuple(
        PlannedStage(
            c.stage, c.total_flops, seconds(c, costs, device, devices), memory(c, costs, device, devices), c.disk
        )
        for c in costs.stages()
    )
    return Plan(costs, device, devices, stages, sums_on_disk(costs), ())
