"""LeetCodeDataset: LeetCode problems in three levels, each with an explained program and its tests.

Example row (newfacade/LeetCodeDataset; texts shortened)::

    {"task_id": "add", "prompt": "from typing import *\\n", "completion": "class Solution: ...",
     "entry_point": "Solution().add", "test": "def check(candidate):\\n    assert candidate(a = 2, b = 3) == 5\\n",
     "query": "Add two numbers. ...", "response": "Add them:\\n\\n```python\\nclass Solution: ...\\n```",
     "input_output": [{"input": "a = 2, b = 3", "output": "5"}],
     "meta": {"question_id": 1, "difficulty": "Easy", "question_title": "...", "lang_code": "class Solution: ..."}}

Easy, Medium and Hard become levels 1, 3 and 5, the ends and the middle of the usual scale of five. The published word
stays in ``level``.
"""

from __future__ import annotations

from collections.abc import Mapping

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, dialogue, fence, known, optional_text, text

LEVELS = {"Easy": 1, "Medium": 3, "Hard": 5}


def convert(row: Raw) -> Draft:
    """The query, the explained program (else the bare one), and the checks of its method."""
    response = optional_text(row, "response")
    program = optional_text(row, "completion")
    if response is None and program is not None:
        response = fence(program)
    word = _level(row)
    return Draft(
        dialogue(text(row, "query"), response),
        "code",
        tests={
            "kind": "program",
            "entry_point": text(row, "entry_point"),
            "code": text(row, "test"),
            "setup": optional_text(row, "prompt") or "",
        },
        attributes=known(difficulty=LEVELS.get(word or ""), level=word),
    )


def _level(row: Raw) -> str | None:
    meta = row.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise RowProblem("meta", f"an object is expected, found {type(meta).__name__}")
    word = optional_text(meta, "difficulty")
    if word is not None and word not in LEVELS:
        raise RowProblem("meta", f"unknown difficulty {word!r}; use one of {', '.join(LEVELS)}")
    return word


ADAPTERS = (
    Adapter(
        "leetcode",
        frozenset({"task_id", "query", "entry_point", "test"}),
        convert,
        source="leetcode",
        native_id="task_id",
        columns={
            "task_id": "id",
            "query": "question",
            "response": "response: an explained program",
            "completion": "response where there is no explained program, fenced",
            "prompt": "tests: the imports that programs and tests may rely on",
            "entry_point": "tests",
            "test": "tests",
            "meta": "its difficulty: difficulty (1, 3 or 5), and attribute level",
            "input_output": "not kept: the checks of test as pairs of text",
        },
        published="newfacade/LeetCodeDataset",
    ),
)
