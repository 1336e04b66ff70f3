"""Question and response in two columns, under any of the usual names.

Example row (prompt/response; prompt/completion as TRL has it may also hold message lists)::

    {"prompt": "What is 2 + 3?", "response": "5"}

Example row (Alpaca; ``history`` holds earlier turns, Dolly's ``context`` is read as ``input``)::

    {"instruction": "Add the numbers.", "input": "2 3", "output": "5", "history": [["Hello", "Hello!"]]}

Example row (several responses; the first that is finished is read)::

    {"problem": "What is 2 + 3?", "generations": ["<think>2 and", "<think>2 and 3</think>5"]}

A row with a question but no response column is a problem, for evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from infra.data.adapters._adapter import Adapter
from infra.data.adapters.chat import GENERAL, general_draft
from infra.data.columns import RESPONSE_COLUMNS, response_of
from infra.data.fields import Draft, Raw, dialogue, optional_text, text
from infra.data.turns import history, turns

QUESTIONS = ("prompt", "instruction", "question", "problem", "query", "input")
RESPONSES = (*RESPONSE_COLUMNS, "chosen", "solution")
"""Names of the response's column; where a row has several, the first of these is the response."""

INPUTS = ("input", "context")


def pair(question: str, response: str | None) -> Callable[[Raw], Draft]:
    """The conversion of rows that hold the question and the response under these names."""

    def convert(row: Raw) -> Draft:
        if isinstance(row.get(question), list):
            messages = turns(row, question, "role", "content")
            if response and _are_turns(row.get(response)):
                answer = dict(row) | {"both": [*row[question], *row[response]]}
                messages = turns(answer, "both", "role", "content")
            elif response:
                messages = (*messages, *dialogue("", response_of(row, response))[-1:])
            return general_draft(row, messages)
        if response == "chosen" and _are_turns(row[response]):  # a whole conversation, beside a rejected one
            return general_draft(row, turns(row, response, "role", "content"))
        prompt = text(row, question)
        if question == "instruction":
            extra = next((found for name in INPUTS if (found := optional_text(row, name))), None)
            prompt = f"{prompt}\n\n{extra}" if extra else prompt
        draft = general_draft(row, dialogue(prompt, response_of(row, response) if response else None))
        if "history" in row:
            at = next(i for i, m in enumerate(draft.messages) if m.role == "user")
            draft = replace(draft, messages=(*draft.messages[:at], *history(row), *draft.messages[at:]))
        if response and isinstance(row.get(response), list):
            draft = replace(draft, attributes={**draft.attributes, "n_generations": len(row[response])})
        return draft

    return convert


def _are_turns(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _columns(question: str, response: str | None) -> dict[str, str]:
    columns = {question: "question", **({response: "response"} if response else {})}
    if question == "instruction":
        columns |= dict.fromkeys(INPUTS, "end of the question")
    return columns | {"history": "earlier turns"} | GENERAL


ADAPTERS = (
    *(
        Adapter(f"{q}/{r}", frozenset({q, r}), pair(q, r), native_id="id", columns=_columns(q, r))
        for r in RESPONSES
        for q in QUESTIONS
    ),
    *(
        Adapter(q, frozenset({q}), pair(q, None), native_id="id", columns=_columns(q, None))
        for q in ("problem", "question", "prompt", "instruction")
    ),
)
