r"""NVIDIA's OpenMathInstruct-1 and -2, and OpenMathReasoning.

Example row (nvidia/OpenMathInstruct-2)::

    {"problem": "...", "generated_solution": "... \\boxed{5}", "expected_answer": "5", "problem_source": "gsm8k"}

Example row (nvidia/OpenMathReasoning)::

    {"expected_answer": "5", "problem_type": "has_answer_extracted", "problem_source": "aops_c4_high_school_math",
     "generation_model": "DeepSeek-R1", "pass_rate_72b_tir": "0.65", "problem": "...",
     "generated_solution": "<think>\n...\n</think>\n\n\\boxed{5}", "inference_mode": "cot", "used_in_kaggle": true}

Example row (nvidia/OpenMathInstruct-1)::

    {"question": "...", "expected_answer": "5", "predicted_answer": "5", "error_message": "", "is_correct": true,
     "generation_type": "masked_reference_solution", "dataset": "gsm8k", "generated_solution": "..."}

``generated_solution`` is the response, ``expected_answer`` the answer.
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, dialogue, known, optional_text, text

ATTRIBUTES = {
    "problem_source": "origin",
    "dataset": "origin",
    "problem_type": "problem_type",
    "generation_model": "generation_model",
    "pass_rate_72b_tir": "pass_rate_72b_tir",
    "inference_mode": "inference_mode",
    "generation_type": "generation_type",
    "predicted_answer": "predicted_answer",
    "error_message": "error_message",
}


def convert(row: Raw) -> Draft:
    """Problem, generated solution, expected answer."""
    correct, used = row.get("is_correct"), row.get("used_in_kaggle")
    return Draft(
        dialogue(text(row, "problem" if "problem" in row else "question"), text(row, "generated_solution")),
        "math",
        answer=optional_text(row, "expected_answer"),
        attributes=known(
            **{own: optional_text(row, name) for name, own in ATTRIBUTES.items() if row.get(name) is not None},
            verified=correct if isinstance(correct, bool) else None,
            used_in_kaggle=used if isinstance(used, bool) else None,
        ),
    )


def _columns(question: str, *names: str, **others: str) -> dict[str, str]:
    return {
        question: "question",
        "generated_solution": "response",
        "expected_answer": "answer",
        **{name: f"attribute {ATTRIBUTES[name]}" for name in names},
        **others,
    }


ADAPTERS = (
    Adapter(
        "openmathreasoning",
        frozenset({"problem", "generated_solution", "expected_answer", "problem_source", "inference_mode"}),
        convert,
        source="openmathreasoning",
        columns=_columns(
            "problem",
            *("problem_type", "problem_source", "generation_model", "pass_rate_72b_tir", "inference_mode"),
            used_in_kaggle="attribute used_in_kaggle",
        ),
        published="nvidia/OpenMathReasoning",
    ),
    Adapter(
        "openmathinstruct-2",
        frozenset({"problem", "generated_solution", "expected_answer", "problem_source"}),
        convert,
        source="openmathinstruct-2",
        columns=_columns("problem", "problem_source"),
        published="nvidia/OpenMathInstruct-2",
    ),
    Adapter(
        "openmathinstruct-1",
        frozenset({"question", "generated_solution", "expected_answer", "dataset"}),
        convert,
        source="openmathinstruct-1",
        columns=_columns(
            "question",
            *("dataset", "generation_type", "predicted_answer", "error_message"),
            is_correct="attribute verified",
        ),
        published="nvidia/OpenMathInstruct-1",
    ),
)
