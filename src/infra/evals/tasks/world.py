"""The embedded world's benchmarks: word problems and small functions, and both in other words
(``-paraphrased``).

Example problem (``world-code``)::

    Record(messages=[user: "I need a function `run(n)` to multiply n by 11."],
           tests={"kind": "asserts", "setup": "", "asserts": ["assert run(0) == 0", ...]},
           attributes={"difficulty": 1, "split": "target", ...})

The problems are made by :func:`infra.world.build_world`; every world has the same ones. A program has one
second.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra.data.schema import Record
from infra.errors import InputError
from infra.evals.tasks._task import Task

TIMEOUT_S = 1.0


@lru_cache(maxsize=2)
def _problems(seed: int) -> dict[str, tuple[Record, ...]]:
    from infra.world import build_world

    return {name: tuple(records) for name, records in build_world("default", seed).problems.items()}


def _world_task(name: str, domain: str) -> Task:
    def load(path: str | Path | None, options: dict[str, Any]) -> list[Record]:
        if not str(options["seed"]).isdigit():
            raise InputError(f"task {name}: seed is {options['seed']!r}; use a whole number")
        records = _problems(int(options["seed"]))[name]
        return [replace(r, tests={**r.tests, "timeout_s": TIMEOUT_S}) if r.tests else r for r in records]

    return Task(name, domain, load, "infra.world", "v1", options={"seed": 0})


WORLD = tuple(
    _world_task(f"world-{domain}{suffix}", domain) for domain in ("math", "code") for suffix in ("", "-paraphrased")
)
