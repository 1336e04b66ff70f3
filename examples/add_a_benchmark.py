"""Add a benchmark: a function that gives records, and a ``Task``. Every command then takes it by its place:

    infra eval --model M --tasks examples/add_a_benchmark.py:SUMS --out OUT

or in a recipe ``tasks: [{name: add_a_benchmark.py:SUMS, target: math}]``.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from infra.data import Message, Record
from infra.evals import Task


def load(path: str | Path | None, options: dict[str, Any]) -> list[Record]:
    """Sums of two numbers. A record is gradable when it has an ``answer`` (math) or ``tests`` (code)."""
    rng = random.Random(int(options["seed"]))
    pairs = [(rng.randint(10, 99), rng.randint(10, 99)) for _ in range(50)]
    return [
        Record(f"sum-{i}", (Message("user", f"What is {a} + {b}?"),), "math", "sums", answer=str(a + b))
        for i, (a, b) in enumerate(pairs)
    ]


SUMS = Task("sums", "math", load, "made here", "1", "Put the final answer in \\boxed{}.", options={"seed": "0"})


def main() -> list[bool]:
    """Grade two answers to the first problem, found by its place as a command finds it."""
    from infra.evals import get_task

    task = get_task(f"{__file__}:SUMS")
    problem = task.load(limit=1)[0]
    verdicts = [task.verify(problem, f"So it is \\boxed{{{said}}}.") for said in (problem.answer, "7")]
    print(problem.question, [v.outcome for v in verdicts])
    return [v.correct for v in verdicts]


if __name__ == "__main__":
    main()
