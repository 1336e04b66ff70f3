r"""s1K-1.1: a thousand hard questions with DeepSeek-R1 and Gemini traces.

Example row (simplescaling/s1K-1.1)::

    {"solution": "128", "question": "...", "cot_type": "math", "source_type": "AI-MO/NuminaMath-CoT/aops_forum",
     "metadata": "{...}", "gemini_thinking_trajectory": "...", "gemini_attempt": "...",
     "deepseek_thinking_trajectory": "...", "deepseek_attempt": "... \\boxed{128}", "gemini_grade": "No",
     "gemini_grade_reason": "...", "deepseek_grade": "Yes", "deepseek_grade_reason": "..."}
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, boxed, dialogue, known, optional_text, text, think


def convert(row: Raw) -> Draft:
    """The DeepSeek trace and attempt; the answer is the reference solution's box, or the whole of a short
    one."""
    solution = optional_text(row, "solution")
    kind = optional_text(row, "cot_type") or "other"
    grade = optional_text(row, "deepseek_grade")
    short = solution if solution and len(solution) <= 100 and "\n" not in solution else None
    return Draft(
        dialogue(
            text(row, "question"),
            think(text(row, "deepseek_thinking_trajectory"), text(row, "deepseek_attempt")),
        ),
        kind,
        answer=boxed(solution) or short,
        attributes=known(
            origin=optional_text(row, "source_type"),
            verified=None if grade is None else grade.strip().lower() == "yes",
        ),
    )


ADAPTERS = (
    Adapter(
        "s1k-1.1",
        frozenset({"question", "deepseek_thinking_trajectory", "deepseek_attempt"}),
        convert,
        source="s1k-1.1",
    ),
)
