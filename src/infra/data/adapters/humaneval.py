"""HumanEval: functions to complete from their docstring.

Example row (openai/openai_humaneval)::

    {"task_id": "HumanEval/0", "prompt": "def add(a, b):\\n    \\"\\"\\"Add.\\"\\"\\"\\n", "entry_point": "add",
     "canonical_solution": "    return a + b\\n", "test": "def check(candidate):\\n    assert candidate(2, 3) == 5\\n"}
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, dialogue, fence, optional_text, text


def convert(row: Raw) -> Draft:
    """The stub to complete, and the whole reference function as the response."""
    stub = text(row, "prompt")
    solution = optional_text(row, "canonical_solution")
    return Draft(
        dialogue(
            f"Complete this Python function.\n\n{fence(stub)}",
            fence(stub + solution) if solution is not None else None,
        ),
        "code",
        tests={"kind": "program", "entry_point": text(row, "entry_point"), "code": text(row, "test")},
    )


ADAPTERS = (
    Adapter(
        "humaneval",
        frozenset({"task_id", "prompt", "entry_point", "test"}),
        convert,
        source="humaneval",
        native_id="task_id",
        columns={
            "task_id": "id",
            "prompt": "question, fenced",
            "entry_point": "tests",
            "canonical_solution": "response, after the prompt",
            "test": "tests",
        },
        published="openai/openai_humaneval",
    ),
)
