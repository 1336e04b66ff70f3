r"""s1K and s1K-1.1: a thousand hard questions with traces of Gemini, and of DeepSeek-R1.

Example row (simplescaling/s1K-1.1)::

    {"solution": "128", "question": "...", "cot_type": "math", "source_type": "AI-MO/NuminaMath-CoT/aops_forum",
     "metadata": "{...}", "gemini_thinking_trajectory": "...", "gemini_attempt": "...",
     "deepseek_thinking_trajectory": "...", "deepseek_attempt": "... \\boxed{128}", "gemini_grade": "No",
     "gemini_grade_reason": "...", "deepseek_grade": "Yes", "deepseek_grade_reason": "..."}

Example row (simplescaling/s1K, the first version)::

    {"solution": "128", "question": "...", "cot_type": "math", "source_type": "AI-MO/NuminaMath-CoT/aops_forum",
     "metadata": "{...}", "cot": null, "thinking_trajectories": ["..."], "attempt": "... \\boxed{128}"}

The response is a trace with the attempt after it, never the short reference ``solution``.
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, boxed, dialogue, known, listing, optional_text, text, think


def convert(row: Raw) -> Draft:
    """The DeepSeek trace and attempt."""
    grade = optional_text(row, "deepseek_grade")
    response = think(text(row, "deepseek_thinking_trajectory"), text(row, "deepseek_attempt"))
    return _draft(row, response, None if grade is None else grade.strip().lower() == "yes")


def convert_first(row: Raw) -> Draft:
    """The trace and the attempt. The list of traces holds one; were there more, they would follow each other."""
    traces = listing(row, "thinking_trajectories")
    if not traces or not all(isinstance(trace, str) for trace in traces):
        raise RowProblem("thinking_trajectories", "a list of at least one text is expected")
    return _draft(row, think("\n\n".join(trace.strip() for trace in traces), text(row, "attempt")), None)


def _draft(row: Raw, response: str, verified: bool | None) -> Draft:
    """The answer is the reference solution's box, or the whole of a short one."""
    solution = optional_text(row, "solution")
    short = solution if solution and len(solution) <= 100 and "\n" not in solution else None
    return Draft(
        dialogue(text(row, "question"), response),
        optional_text(row, "cot_type") or "other",
        answer=boxed(solution) or short,
        attributes=known(origin=optional_text(row, "source_type"), verified=verified),
    )


COLUMNS = {
    "solution": "its last box, or the whole of a short one, is the answer",
    "question": "question",
    "cot_type": "domain",
    "source_type": "attribute origin",
    "metadata": "not kept",
}
ADAPTERS = (
    Adapter(
        "s1k-1.1",
        frozenset({"question", "deepseek_thinking_trajectory", "deepseek_attempt"}),
        convert,
        source="s1k-1.1",
        columns={
            **COLUMNS,
            "deepseek_thinking_trajectory": "response, its thinking part",
            "deepseek_attempt": "response, after the thinking part",
            "deepseek_grade": "attribute verified",
            "deepseek_grade_reason": "not kept",
            "gemini_thinking_trajectory": "not kept: the other model's trace",
            "gemini_attempt": "not kept: the other model's attempt",
            "gemini_grade": "not kept",
            "gemini_grade_reason": "not kept",
        },
        published="simplescaling/s1K-1.1",
    ),
    Adapter(
        "s1k",
        frozenset({"question", "thinking_trajectories", "attempt"}),
        convert_first,
        source="s1k",
        columns={
            **COLUMNS,
            "thinking_trajectories": "response, its thinking part",
            "attempt": "response, after the thinking part",
            "cot": "not kept: null in every row",
        },
        published="simplescaling/s1K",
    ),
)
