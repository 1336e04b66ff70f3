r"""LIMO (and LIMO-v2): 817 hard math questions with long solutions.

Example row (GAIR/LIMO)::

    {"question": "...", "solution": "Okay, let's see. ... \\boxed{5}", "answer": "5"}
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, dialogue, optional_text, text


def convert(row: Raw) -> Draft:
    """Question, solution and answer as published."""
    return Draft(dialogue(text(row, "question"), text(row, "solution")), "math", answer=optional_text(row, "answer"))


ADAPTERS = (
    Adapter(
        "limo",
        frozenset({"question", "solution", "answer"}),
        convert,
        aliases=("limo-v2",),
        source="limo",
        columns={"question": "question", "solution": "response", "answer": "answer"},
        published="GAIR/LIMO, GAIR/LIMO-v2",
    ),
)
