"""MBPP: 974 basic Python problems with asserts; the customary test set is task ids 11 to 510.

Example row::

    {"text": "Write a function to ...", "code": "def f(...)...", "task_id": 11, "test_setup_code": "",
     "test_list": ["assert f(...) == ..."], "challenge_test_list": []}

Options: ``part`` is ``all``, ``test`` (11-510), ``train`` (601-974), ``validation`` (511-600) or ``prompt``
(1-10).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.data.schema import Record
from infra.errors import InputError
from infra.evals.tasks._task import Task, from_records

PARTS = {"all": (1, 974), "prompt": (1, 10), "test": (11, 510), "validation": (511, 600), "train": (601, 974)}
FENCED = "Reason first if needed, and end with the complete program in one ```python code block."


def _load(path: str | Path | None, options: dict[str, Any]) -> list[Record]:
    if options["part"] not in PARTS:
        raise InputError(f"mbpp has no part {options['part']!r}; use one of {', '.join(PARTS)}")
    low, high = PARTS[options["part"]]
    # the hub keeps the parts as splits of one configuration, the published file holds them all
    splits = ["test"] if path is not None else [p for p in PARTS if options["part"] in ("all", p) and p != "all"]
    records = [r for s in splits for r in from_records(path, "google-research-datasets/mbpp:full", "mbpp", "mbpp", s)]
    return [r for r in records if low <= _number(r) <= high]


def _number(record: Record) -> int:
    text = record.id.partition("~")[0]
    return int(text) if text.isdigit() else 1


MBPP = Task("mbpp", "code", _load, "google-research-datasets/mbpp", "full-2021", FENCED, options={"part": "all"})
