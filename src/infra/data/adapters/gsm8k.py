r"""GSM8K: grade-school word problems with worked steps.

Example row (openai/gsm8k)::

    {"question": "Natalia sold clips to 48 ...", "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n#### 72"}

The ``<<...>>`` calculator marks are taken out of the response and its last line becomes ``\boxed{72}``.
``n_steps`` counts the marks; ``difficulty`` bins them: 1-2 steps are level 1, 3 are 2, 4 are 3, 5 are 4, more
are 5 (no marks: no level).
"""

from __future__ import annotations

import re

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, dialogue, known, text

_MARK = re.compile(r"<<[^<>]*>>")


def convert(row: Raw) -> Draft:
    """Question, worked steps, boxed answer without thousands separators."""
    worked, found, final = text(row, "answer").rpartition("####")
    if not found:
        raise RowProblem("answer", "the final line '#### n' is missing")
    answer = final.strip().replace(",", "")
    n_steps = len(_MARK.findall(worked))
    steps = _MARK.sub("", worked).rstrip()
    return Draft(
        dialogue(text(row, "question"), f"{steps}\n\\boxed{{{answer}}}"),
        "math",
        answer=answer,
        attributes=known(difficulty=min(max(n_steps - 1, 1), 5) if n_steps else None, n_steps=n_steps),
    )


def _is_worked(row: Raw) -> bool:
    return isinstance(row["answer"], str) and "####" in row["answer"]


ADAPTERS = (
    Adapter(
        "gsm8k",
        frozenset({"question", "answer"}),
        convert,
        accepts=_is_worked,
        source="gsm8k",
        columns={
            "question": "question",
            "answer": "response without calculator marks; what follows #### is the answer; attribute n_steps, and "
            "difficulty from it",
        },
        published="openai/gsm8k",
    ),
)
