"""Jobs timed side by side: they take turns, and what other processes took of the machine is measured beside them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Job = Callable[[], "Elsewhere | None"]


@dataclass(frozen=True)
class Elsewhere:
    """A job that ran in another process, timed there: wall-clock and processor seconds."""

    seconds: float
    cpu: float


@dataclass
class Times:
    """``seconds[job]`` and ``cpu[job]``: wall-clock and processor seconds of every measured turn. ``others``: the
    largest share of the machine's processor time that other processes took during a turn (None: cannot be read).
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    others: float | None = None

    def __getitem__(self, job: str) -> float:
        return statistics.median(self.seconds[job])


def alternate(jobs: dict[str, Callable[[], Any]], repeats: int, warm_up: bool = True) -> Times:
    """Time ``repeats`` rounds of the jobs, in turns, so that a slow minute hits all of them alike; an unmeasured round
    comes first.
    """
    times = Times({name: [] for name in jobs}, {name: [] for name in jobs})
    for turn in range(-1 if warm_up else 0, repeats):
        for name, job in jobs.items():
            taken, cpu, others = once(job)
            if turn >= 0:
                times.seconds[name].append(taken)
                times.cpu[name].append(cpu)
                if others is not None:
                    times.others = max(others, times.others or 0.0)
    return times


def once(job: Callable[[], Any]) -> tuple[float, float, float | None]:
    """Wall-clock and processor seconds of one run, and the share of the machine that other processes took meanwhile."""
    busy, cpu, start = machine_busy(), time.process_time(), time.perf_counter()
    elsewhere = job()
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    after = machine_busy()
    if isinstance(elsewhere, Elsewhere):
        used += elsewhere.cpu
    share = None
    if busy is not None and after is not None:
        share = max(0.0, after - busy - used) / (wall * (os.cpu_count() or 1))
    return (elsewhere.seconds if isinstance(elsewhere, Elsewhere) else wall), used, share


def machine_busy() -> float | None:
    """Processor seconds that all processes have used since the machine started, or None. Linux."""
    try:
        with open("/proc/stat") as file:
            ticks = [int(t) for t in file.readline().split()[1:9]]
    except OSError:
        return None
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
