"""HumanEval: 164 functions to complete from a docstring (Chen et al., 2021).

Example row::

    {"task_id": "HumanEval/0", "prompt": "from typing import List\\n\\n\\ndef has_close_elements(...",
    "entry_point":
     "has_close_elements", "canonical_solution": "...", "test": "def check(candidate):\\n    assert ..."}

What stands before the function in the prompt (imports, helpers) is put before every program, as the
completions that this benchmark was made for assume; the tests get the original helpers, not the program's.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.data.schema import Record
from infra.evals.tasks._task import Task, from_records
from infra.evals.tasks.mbpp import FENCED


def _load(path: str | Path | None, options: dict[str, Any]) -> list[Record]:
    records = from_records(path, "openai/openai_humaneval", "humaneval", "humaneval")
    return [replace(r, tests={**(r.tests or {}), "setup": before_function(r)}) for r in records]


def before_function(record: Record) -> str:
    """The prompt's code up to the function that is to be completed."""
    entry = str((record.tests or {})["entry_point"])
    fenced = record.question.split("```python\n", 1)[-1]
    start = re.search(rf"^def {re.escape(entry)}\(", fenced, re.MULTILINE)
    return fenced[: start.start()] if start is not None else ""


HUMANEVAL = Task("humaneval", "code", _load, "openai/openai_humaneval", "2021", FENCED)
