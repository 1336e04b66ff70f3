"""GSM8K test split: grade-school word problems, answers are integers.

Example row::

    {"question": "Janet's ducks lay 16 eggs per day. ...", "answer": "... <<16-3-4=9>>9 duck eggs a
    day.\\n#### 18"}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.data.schema import Record
from infra.evals.tasks._task import Task, from_records
from infra.evals.tasks.aime import BOXED


def _load(path: str | Path | None, options: dict[str, Any]) -> list[Record]:
    return from_records(path, "openai/gsm8k:main", "gsm8k", "gsm8k")


GSM8K = Task("gsm8k", "math", _load, "openai/gsm8k", "main", BOXED)
