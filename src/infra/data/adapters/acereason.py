r"""AceReason: the problems of AceReason-Math, and the traces of AceReason-1.1-SFT.

Example row (nvidia/AceReason-Math)::

    {"problem": "...", "answer": "5"}

Example row (nvidia/AceReason-1.1-SFT)::

    {"category": "math", "source": "...", "input": "...", "output": "<think>\n...\n</think>\n\\boxed{5}"}
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, boxed, dialogue, known, optional_text, text


def convert_problem(row: Raw) -> Draft:
    """A problem without a response."""
    answer = optional_text(row, "answer")
    if answer is None:
        raise RowProblem("answer", "missing or empty; a problem without one cannot be checked")
    return Draft(dialogue(text(row, "problem"), None), "math", answer=answer)


def convert_trace(row: Raw) -> Draft:
    """Input and output; ``category`` is the domain."""
    response, domain = text(row, "output"), text(row, "category")
    return Draft(
        dialogue(text(row, "input"), response),
        domain,
        answer=boxed(response) if domain == "math" else None,
        attributes=known(origin=optional_text(row, "source")),
    )


def _only(row: Raw) -> bool:
    return row.keys() == {"problem", "answer"}


ADAPTERS = (
    Adapter(
        "acereason-sft",
        frozenset({"category", "source", "input", "output"}),
        convert_trace,
        source="acereason-sft",
        columns={
            "category": "domain",
            "source": "attribute origin",
            "input": "question",
            "output": "response; its last box is the answer of a math row",
        },
        published="nvidia/AceReason-1.1-SFT",
    ),
    Adapter(
        "acereason-math",
        frozenset({"problem", "answer"}),
        convert_problem,
        accepts=_only,
        source="acereason-math",
        columns={"problem": "question", "answer": "answer"},
        published="nvidia/AceReason-Math",
    ),
)
