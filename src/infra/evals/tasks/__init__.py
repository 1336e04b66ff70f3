"""The registry of benchmarks. To add one here, write a module with a :class:`Task` and list it. A benchmark of your own
stays in your own file: name it ``path/to/file.py:NAME`` wherever a task's name goes.
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
from infra.evals.tasks.svamp import SVAMP
from infra.evals.tasks.world import WORLD
from infra.plugins import users_own

GROUP = "infra.benchmarks"
"""The entry point group in which an installed package names its benchmarks."""
_TASKS: dict[str, Task] = {
    task.name: task for task in (AIME24, AIME25, MATH500, GSM8K, SVAMP, MBPP, HUMANEVAL, LIVECODEBENCH, *WORLD)
}


def register(task: Task) -> None:
    """Make a task known by its name. Raises ``InputError`` when the name is taken."""
    if task.name in _TASKS:
        raise InputError(f"a task named {task.name!r} exists; choose another name")
    _TASKS[task.name] = task


def get_task(name: str, path: str | Path | None = None) -> Task:
    """The task of that name, reading from ``path`` when given.

    ``name`` is a registered one, ``path/to/file.py:NAME`` for a :class:`Task` in a file of your own, or the
    name of an entry point in the group ``infra.benchmarks``. Raises :class:`InputError` listing the names.
    """
    task = _TASKS.get(name)
    if task is None:
        task = users_own(name, "task", GROUP, _TASKS)
        if not isinstance(task, Task):
            raise InputError(f"task {name!r} is a {type(task).__name__} and no infra.evals.Task")
    return replace(task, path=path) if path is not None else task


__all__ = ["Task", "from_list", "from_records", "get_task", "register"]
