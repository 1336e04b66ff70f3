r"""NuminaMath-CoT (and 1.5, which adds ``answer`` and problem types).

Example row (AI-MO/NuminaMath-CoT)::

    {"source": "synthetic_math", "problem": "...", "solution": "... \\boxed{5}",
     "messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, boxed, dialogue, known, optional_text, text


def convert(row: Raw) -> Draft:
    """The solution is the response, its last box the answer (unless the row has one)."""
    solution = text(row, "solution")
    return Draft(
        dialogue(text(row, "problem"), solution),
        "math",
        answer=optional_text(row, "answer") or boxed(solution),
        attributes=known(
            origin=optional_text(row, "source"),
            problem_type=optional_text(row, "problem_type"),
            question_type=optional_text(row, "question_type"),
            problem_is_valid=optional_text(row, "problem_is_valid"),
            solution_is_valid=optional_text(row, "solution_is_valid"),
            synthetic=row["synthetic"] if isinstance(row.get("synthetic"), bool) else None,
        ),
    )


COLUMNS = {
    "source": "attribute origin",
    "problem": "question",
    "solution": "response; its last box is the answer where there is no other",
}

ADAPTERS = (
    Adapter(
        "numinamath-cot",
        frozenset({"source", "problem", "solution", "messages"}),
        convert,
        source="numinamath-cot",
        columns={
            **COLUMNS,
            "messages": "not kept: problem and solution again",
        },
        published="AI-MO/NuminaMath-CoT",
    ),
    Adapter(
        "numinamath-1.5",
        frozenset({"source", "problem", "solution", "problem_type", "question_type"}),
        convert,
        source="numinamath-1.5",
        columns={
            **COLUMNS,
            "answer": "answer",
            "problem_type": "attribute problem_type",
            "question_type": "attribute question_type",
            "problem_is_valid": "attribute problem_is_valid",
            "solution_is_valid": "attribute solution_is_valid",
            "synthetic": "attribute synthetic",
        },
        published="AI-MO/NuminaMath-1.5",
    ),
)
