"""What each stage of a run that is about to begin will take, and what it then took.

The figures are those of `infra plan`. They are made again before each stage, with the counts of queries and folds that
the stages before it found, and corrected by what the finished stages of the same family took: the second fine-tuning of
a run is expected to take what the first one did.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any

from infra.errors import InfraError
from infra.layout import Run
from infra.pipeline.plan.calibrate import calibrate
from infra.pipeline.plan.check import counted
from infra.pipeline.plan.costs import Costs
from infra.pipeline.plan.devices import DEVICES, Device
from infra.pipeline.plan.duration import memory, seconds
from infra.progress import duration, say

WORTH_S = 30.0
"""Seconds a run must be likely to last for its machine to be measured first."""
ROUGH_FLOPS = 1e11
"""Operations a second that this is judged by."""
TOLERANCE = 0.3
"""Share by which a figure may be off and count as right."""
COUNTS_FROM_S = 1.0
"""Seconds from which a stage's time counts: below it start-up and rounding decide."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One stage: ``seconds``, and the largest ``memory`` in bytes."""

    seconds: float
    memory: float

    def __str__(self) -> str:
        return f"{duration(self.seconds)} and {self.memory / 2**30:.2f} GiB"


class Expectations:
    """Expectations of the stages of the run in ``folder``; :meth:`learn` takes what a stage took.

    ``costs``: of the whole job. ``processes``: how many share each stage.
    """

    def __init__(self, costs: Costs, device: Device, run: Run, processes: int = 1) -> None:
        self._costs, self._device, self._run, self._processes = costs, device, run, processes
        self._planned: dict[str, Expected] = {}
        self._told: dict[str, Expected] = {}
        self._taken: dict[str, Expected] = {}

    def of(self, stage: str) -> Expected | None:
        """What a stage will take; None where no formula fits it."""
        costs = self._costs
        with suppress(InfraError):
            costs = replace(costs, amounts=counted(self._run, costs.amounts))
        try:
            cost = costs.stage(stage)
        except (InfraError, ArithmeticError, AttributeError, KeyError):  # a stage that the plan does not know
            return None
        plain = (costs, self._device, self._processes)
        planned = Expected(seconds(cost, *plain), memory(cost, *plain))
        self._planned[stage] = planned
        self._told[stage] = Expected(
            planned.seconds * self._correction(stage, _seconds), planned.memory * self._correction(stage, _memory)
        )
        return self._told[stage]

    def learn(self, stage: str, seconds: float, memory: float) -> None:
        """Note what a stage took: seconds, and bytes at its fullest."""
        self._taken[stage] = Expected(seconds, memory)

    def _correction(self, stage: str, figure: Callable[[Expected], float]) -> float:
        """Geometric mean of taken over planned, of the finished stages of the same family; 1 without any."""
        family, slash, _ = stage.partition("/")
        pairs = [
            (figure(taken), figure(self._planned[name]))
            for name, taken in self._taken.items()
            if slash and name.startswith(f"{family}/") and name in self._planned
        ]
        ratios = [log(taken / planned) for taken, planned in pairs if taken > 0 and planned > 0]
        return exp(sum(ratios) / len(ratios)) if ratios else 1.0

    def summary(self) -> str | None:
        """How many of the stages that count were expected rightly, in one line."""
        both = [(self._told[n], t) for n, t in self._taken.items() if n in self._told and t.seconds >= COUNTS_FROM_S]
        if not both:
            return None
        right = [sum(near(figure(told), figure(taken)) for told, taken in both) for figure in (_seconds, _memory)]
        told, taken = sum(t.seconds for t, _ in both), sum(t.seconds for _, t in both)
        return (
            f"expected {duration(told)}, took {duration(taken)}; within {TOLERANCE:.0%}: time of {right[0]} and memory "
            f"of {right[1]} of {len(both)} stages (infra plan --check {self._run.root} lists them)"
        )


def near(told: float, taken: float) -> bool:
    """Whether an expectation was right."""
    return taken > 0 and abs(told / taken - 1.0) <= TOLERANCE


def _seconds(expected: Expected) -> float:
    return expected.seconds


def _memory(expected: Expected) -> float:
    return expected.memory


def expectations(costs: Costs | None, run: Run, todo: list[str], processes: int = 1) -> Expectations | None:
    """Expectations of the stages that are still ``todo``, on this machine measured now; None for a short run, and where
    the model's shape or the device is not known."""
    if costs is None or not todo:
        return None
    try:
        stages = [costs.stage(name) for name in todo if name in costs.names]
    except (InfraError, ArithmeticError):
        return None
    if sum(s.total_flops for s in stages) / ROUGH_FLOPS + sum(s.python for s in stages) < WORTH_S:
        return None
    device = _device(costs)
    return None if device is None else Expectations(costs, device, run, processes)


def _device(costs: Costs) -> Device | None:
    if costs.recipe.model.device == "cpu":
        say("measuring the speed of this machine, to say what each stage will take")
        return calibrate(costs)
    import torch

    name: Any = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((d for known, d in DEVICES.items() if known in name.lower()), None)
