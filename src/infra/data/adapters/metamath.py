"""MetaMathQA: GSM8K and MATH questions, rephrased and answered by a model.

Example row (meta-math/MetaMathQA)::

    {"type": "GSM_Rephrased", "query": "What is 2 + 3?", "original_question": "2 + 3 = ?",
     "response": "We add ...\\n#### 5\\nThe answer is: 5"}
"""

from __future__ import annotations

import re

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, boxed, dialogue, known, optional_text, text

_ANSWER = re.compile(r"The answer is:?\s*(.+?)\s*$", re.M)


def convert(row: Raw) -> Draft:
    """The answer is what follows the last 'The answer is:'; ``original_question`` groups rephrasings."""
    response = text(row, "response")
    answers = _ANSWER.findall(response)
    kind = optional_text(row, "type")
    return Draft(
        dialogue(text(row, "query"), response),
        "math",
        answer=answers[-1] if answers else boxed(response),
        attributes=known(
            type=kind,
            origin=kind.partition("_")[0].lower() if kind else None,
            original_question=optional_text(row, "original_question"),
        ),
    )


ADAPTERS = (
    Adapter(
        "metamathqa",
        frozenset({"type", "query", "original_question", "response"}),
        convert,
        source="metamathqa",
        columns={
            "type": "attributes type and origin",
            "query": "question",
            "original_question": "attribute original_question",
            "response": "response; what follows 'The answer is:' is the answer",
        },
        published="meta-math/MetaMathQA",
    ),
)
