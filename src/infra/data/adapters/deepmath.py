r"""DeepMath-103K: hard math with three DeepSeek-R1 solutions and a difficulty from -1 to 10 in half steps.

Example row (zwhe99/DeepMath-103K)::

    {"question": "...", "final_answer": "5", "difficulty": 6.5, "topic": "Mathematics -> Algebra -> Other",
     "r1_solution_1": "Okay, so ...\n</think>\n\n... \\boxed{5}", "r1_solution_2": "...", "r1_solution_3": "..."}

``difficulty`` is rounded down to a whole level; the published value stays in ``level``. A solution that
closes a thinking part it never opened is given the opening tag.
"""

from __future__ import annotations

import math

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, dialogue, known, optional_text, text


def convert(row: Raw) -> Draft:
    """Question and the first solution that is finished, else the first."""
    level = row.get("difficulty")
    if level is not None and (
        isinstance(level, bool) or not isinstance(level, int | float) or not math.isfinite(level)
    ):
        raise RowProblem("difficulty", f"a number is expected, found {level!r}")
    first = text(row, "r1_solution_1")
    others = [optional_text(row, f"r1_solution_{i}") for i in (2, 3)]
    response = next((s for s in (first, *others) if s and "</think>" in s), first)
    if "</think>" in response and "<think>" not in response:
        response = f"<think>\n{response}"
    return Draft(
        dialogue(text(row, "question"), response),
        "math",
        answer=text(row, "final_answer"),
        attributes=known(
            difficulty=None if level is None else math.floor(level),
            level=level,
            topic=optional_text(row, "topic"),
        ),
    )


ADAPTERS = (
    Adapter(
        "deepmath",
        frozenset({"question", "final_answer", "r1_solution_1"}),
        convert,
        aliases=("deepmath-103k",),
        source="deepmath",
        columns={
            "question": "question",
            "final_answer": "answer",
            "difficulty": "difficulty, rounded down, and attribute level",
            "topic": "attribute topic",
            "r1_solution_1": "response",
            "r1_solution_2": "response where the first breaks off while thinking",
            "r1_solution_3": "response where the first two break off while thinking",
        },
        published="zwhe99/DeepMath-103K",
    ),
)
