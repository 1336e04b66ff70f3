r"""AIME 2024 and 2025, in the forms they are passed around in.

Example row (HuggingFaceH4/aime_2024, and Qwen2.5-Math's evaluation files)::

    {"id": 60, "problem": "Every morning Aya ...", "solution": "... $\\boxed{204}$", "answer": "204",
     "url": "https://artofproblemsolving.com/wiki/index.php/2024_AIME_I_Problems/Problem_1"}

Example row (Maxwell-Jia/AIME_2024)::

    {"ID": "2024-I-1", "Problem": "Every morning Aya ...", "Solution": "...", "Answer": 204}
"""

from __future__ import annotations

import re

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, dialogue, known, optional_text, text

_NUMBER = re.compile(r"(?:Problem_|-)(\d+)$")


def convert(row: Raw) -> Draft:
    """Problem and, where there is one, its solution; ``difficulty`` is the number within the exam (1 to
    15)."""
    lower = {k.lower(): v for k, v in row.items()}
    name = optional_text(lower, "url") or optional_text(lower, "id") or ""
    number = _NUMBER.search(name)
    return Draft(
        dialogue(text(lower, "problem"), optional_text(lower, "solution")),
        "math",
        answer=optional_text(lower, "answer"),
        attributes=known(
            difficulty=int(number.group(1)) if number else None,
            url=optional_text(lower, "url"),
        ),
    )


def _names_the_exam(row: Raw) -> bool:
    return "AIME" in str(row.get("url", ""))


ADAPTERS = (
    Adapter(
        "aime",
        frozenset({"problem", "answer", "url"}),
        convert,
        accepts=_names_the_exam,
        source="aime",
        native_id="id",
        columns={
            "id": "id",
            "problem": "question",
            "solution": "response",
            "answer": "answer",
            "url": "attribute url; the number at its end is the difficulty",
        },
        published="HuggingFaceH4/aime_2024; Qwen2.5-Math's evaluation files",
    ),
    Adapter(
        "aime-capitals",
        frozenset({"ID", "Problem", "Answer"}),
        convert,
        source="aime",
        native_id="ID",
        columns={
            "ID": "id; the number at its end is the difficulty",
            "Problem": "question",
            "Solution": "response",
            "Answer": "answer",
        },
        published="Maxwell-Jia/AIME_2024",
    ),
)
