"""Question and response in two columns, under any of the usual names.

Example row (prompt/response; prompt/completion as TRL has it may also hold message lists)::

    {"prompt": "What is 2 + 3?", "response": "5"}

Example row (Alpaca)::

    {"instruction": "Add the numbers.", "input": "2 3", "output": "5"}

A row with a question but no response column is a problem, for evaluation.
"""

from __future__ import annotations

from collections.abc import Callable

from infra.data.adapters._adapter import Adapter
from infra.data.adapters.chat import general_draft
from infra.data.fields import Draft, Raw, dialogue, optional_text, text, turns

PAIRS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("question", "response"),
    ("problem", "response"),
    ("query", "response"),
    ("problem", "solution"),
    ("question", "solution"),
    ("input", "output"),
    ("instruction", "response"),
)


def pair(question: str, response: str | None) -> Callable[[Raw], Draft]:
    """The conversion of rows that hold the question and the response under these names."""

    def convert(row: Raw) -> Draft:
        used = tuple(name for name in (question, response) if name)
        if isinstance(row.get(question), list):
            messages = turns(row, question, "role", "content")
            if response and isinstance(row.get(response), list):
                answer = dict(row) | {"both": [*row[question], *row[response]]}
                messages = turns(answer, "both", "role", "content")
            elif response:
                messages = (*messages, *dialogue("", text(row, response))[-1:])
            return general_draft(row, messages, used)
        prompt = text(row, question)
        if question == "instruction":
            used = (*used, "input")
            extra = optional_text(row, "input")
            prompt = f"{prompt}\n\n{extra}" if extra else prompt
        return general_draft(row, dialogue(prompt, text(row, response) if response else None), used)

    return convert


ADAPTERS = (
    *(Adapter(f"{q}/{r}", frozenset({q, r}), pair(q, r), native_id="id") for q, r in PAIRS),
    *(Adapter(q, frozenset({q}), pair(q, None), native_id="id") for q in ("problem", "question", "prompt")),
)
