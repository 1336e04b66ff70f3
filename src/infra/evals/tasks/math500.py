"""MATH-500: 500 problems of MATH (Hendrycks et al., 2021), levels 1 to 5.

Example row::

    {"problem": "Convert the point $(0,3)$ ... to polar coordinates.", "solution": "...",
     "answer": "\\\\left( 3, \\\\frac{\\\\pi}{2} \\\\right)", "subject": "Precalculus", "level": 2,
     "unique_id": "test/precalculus/807.json"}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.data.schema import Record
from infra.evals.tasks._task import Task, from_records
from infra.evals.tasks.aime import BOXED


def _load(path: str | Path | None, options: dict[str, Any]) -> list[Record]:
    return from_records(path, "HuggingFaceH4/MATH-500", "math", "math500")


MATH500 = Task("math500", "math", _load, "HuggingFaceH4/MATH-500", "2023-11", BOXED)
