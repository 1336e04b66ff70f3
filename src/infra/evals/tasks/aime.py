"""AIME 2024 and 2025: 30 competition problems each, answers are integers from 0 to 999.

Example row::

    {"id": 60, "problem": "Every morning Aya goes for a $9$-kilometer-long walk ...", "solution": "...",
     "answer": "204", "url": "https://artofproblemsolving.com/wiki/index.php/2024_AIME_I_Problems/Problem_1"}

Thirty problems: one is 3.3 points. Too few to split, so targets are taken from another set or numbers are
marked in-sample (PROTOCOL, Splits).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.data.schema import Record
from infra.evals.tasks._task import Task, from_records

BOXED = "Reason step by step, and put the final answer in \\boxed{}."


def _loader(hub: str, source: str, split: str) -> Any:
    def load(path: str | Path | None, options: dict[str, Any]) -> list[Record]:
        problems = from_records(path, hub, "auto", source, split)
        return [replace(p, answer=_integer(p.answer)) for p in problems]

    return load


def _integer(answer: str | None) -> str | None:
    """``025`` and ``25`` are the same answer."""
    return str(int(answer)) if answer is not None and answer.strip().isdigit() else answer


HUB24, HUB25 = "HuggingFaceH4/aime_2024", "math-ai/aime25"
AIME24 = Task("aime24", "math", _loader(HUB24, "aime24", "train"), HUB24, "2024", BOXED)
AIME25 = Task("aime25", "math", _loader(HUB25, "aime25", "test"), HUB25, "2025", BOXED)
