"""The registry of benchmarks. To add one, write a module with a :class:`Task` and list it here, or
``register`` it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from infra.errors import InputError
from infra.evals.tasks._task import Task, from_list, from_records
from infra.evals.tasks.aime import AIME24, AIME25
from infra.evals.tasks.gsm8k import GSM8K
from infra.evals.tasks.humaneval import HUMANEVAL
from infra.evals.tasks.livecodebench import LIVECODEBENCH
from infra.evals.tasks.math500 import MATH500
from infra.evals.tasks.mbpp import MBPP
from infra.evals.tasks.world import WORLD

_TASKS: dict[str, Task] = {
    task.name: task for task in (AIME24, AIME25, MATH500, GSM8K, MBPP, HUMANEVAL, LIVECODEBENCH, *WORLD)
}


def task_names() -> list[str]:
    """Names of all registered tasks."""
    return list(_TASKS)


def register(task: Task) -> None:
    """Make a task known by its name. Raises ``InputError`` when the name is taken."""
    if task.name in _TASKS:
        raise InputError(f"a task named {task.name!r} exists; choose another name")
    _TASKS[task.name] = task


def get_task(name: str, path: str | Path | None = None) -> Task:
    """The task of that name, reading from ``path`` when given. Raises ``InputError`` listing the names."""
    if name not in _TASKS:
        raise InputError(f"task {name!r} is not known; use one of {', '.join(_TASKS)}")
    return replace(_TASKS[name], path=path) if path is not None else _TASKS[name]


__all__ = ["Task", "from_list", "from_records", "get_task", "register", "task_names"]
