"""SVAMP: 1,000 word problems of one or two operations (Patel et al., 2021), within reach of very small models.

Example row::

    {"ID": "chal-1", "Body": "Each pack of dvds costs 76 dollars. ...", "Question": "How much do you have to pay ...?",
     "Equation": "( 76.0 - 25.0 )", "Answer": 51.0, "Type": "Subtraction"}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.data.schema import Record
from infra.evals.tasks._task import Task, from_records
from infra.evals.tasks.aime import BOXED


def _load(path: str | Path | None, options: dict[str, Any]) -> list[Record]:
    return from_records(path, "ChilleD/SVAMP", "svamp", "svamp")


SVAMP = Task("svamp", "math", _load, "ChilleD/SVAMP", "2021", BOXED)
