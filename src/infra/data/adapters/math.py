r"""MATH (Hendrycks et al., 2021): the original, its re-splits, MATH-500, and model-written chains of thought
for it.

Example row (hendrycks/competition_math)::

    {"problem": "What is $2 + 3$?", "level": "Level 1", "type": "Prealgebra", "solution": "... $\\boxed{5}$"}

Example row (re-splits and MATH-500; ``level`` may be a number, ``solution`` or ``response`` may be missing)::

    {"problem": "...", "solution": "...", "answer": "5", "subject": "Prealgebra", "level": 2,
     "unique_id": "test/prealgebra/947.json", "response": "<think> ... </think> <answer> 5 </answer>"}

The response is ``response`` where there is one, else the reference ``solution``. Whether a ``response`` is
right is not known from the data: verify it.
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, boxed, dialogue, known, level_number, optional_text, text


def convert(row: Raw) -> Draft:
    """Problem, response if any, answer (else the solution's last box), level 1 to 5 as ``difficulty``."""
    solution = optional_text(row, "solution")
    response = optional_text(row, "response")
    return Draft(
        dialogue(text(row, "problem"), response if response is not None else solution),
        "math",
        answer=optional_text(row, "answer") or boxed(solution),
        attributes=known(
            difficulty=level_number(row.get("level")),
            subject=optional_text(row, "subject") or optional_text(row, "type"),
            written_by=None
            if response is None and solution is None
            else ("model" if response is not None else "reference"),
        ),
    )


def _has_subject(row: Raw) -> bool:
    return ("subject" in row or "type" in row) and ("answer" in row or "solution" in row)


ADAPTERS = (
    Adapter(
        "math",
        frozenset({"problem", "level"}),
        convert,
        accepts=_has_subject,
        aliases=("math500", "math-500", "competition_math"),
        source="math",
        native_id="unique_id",
        columns={
            "problem": "question",
            "level": "difficulty",
            "subject": "attribute subject",
            "type": "attribute subject where there is no subject",
            "solution": "response where there is no other; its last box is the answer where there is no other",
            "response": "response",
            "answer": "answer",
            "unique_id": "id",
        },
        published="hendrycks/competition_math, its re-splits, HuggingFaceH4/MATH-500",
    ),
)
