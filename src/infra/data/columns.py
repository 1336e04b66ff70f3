"""What becomes of the columns of a row that an adapter does not read itself.

- A response in a column of its own (``response``, ``generation``, ...) takes the place of the reference solution that
  the schema has, or follows a question that has none.
- A trace in a column of its own (``thinking``, ``reasoning``, ...) goes before the response, as ``<think>``.
- ``weight`` multiplies the record's loss, whatever the schema.
- The row's own id is the record's id.
- Any other text, number or truth value becomes an attribute of the same name.
- What is left (lists, objects) is not read, and is listed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from infra.data.fields import Draft, Raw, RowProblem, finished, listing, text, think, weight
from infra.data.schema import Attribute, Message
from infra.data.turns import unread_keys

ID_COLUMNS = ("id", "unique_id", "uuid", "task_id", "problem_id", "question_id", "prompt_id", "ID")
RESPONSE_COLUMNS = (
    *("response", "completion", "output", "generated_solution", "llm_response", "model_response", "model_output"),
    *("generation", "generated_text", "generations", "responses", "completions"),
)
TRACE_COLUMNS = (
    *("reasoning_content", "thinking", "reasoning", "thinking_trajectory", "reasoning_trace", "thought", "thoughts"),
    *("chain_of_thought", "cot", "complex_cot", "Complex_CoT"),
)


def complete(draft: Draft, row: Raw, read: Mapping[str, str], native_id: str | None) -> Draft:
    """The draft with the row's own id, where it has one, and its remaining columns. ``read`` are the
    adapter's own columns, see :class:`~infra.data.adapters.Adapter`."""
    rest = {name: value for name, value in row.items() if name not in read and name != native_id}
    response = next((n for n in RESPONSE_COLUMNS if isinstance(rest.get(n), str | list) and rest[n]), None)
    if response is not None and not read.keys() & set(RESPONSE_COLUMNS) and _is_open(draft, read):
        asked = tuple(m for m in draft.messages if m.role != "assistant")
        draft = replace(draft, messages=(*asked, Message("assistant", response_of(row, response))))
        del rest[response]
    trace = trace_of(rest)
    if trace is not None and (joined := _with_trace(draft, str(row[trace]))) is not None:
        draft = replace(draft, messages=joined)
        del rest[trace]
    if "weight" in rest:
        draft = replace(draft, weight=weight(rest))
        del rest["weight"]
    attributes: dict[str, Attribute] = dict(draft.attributes)
    if draft.id is None and (own := id_of(row, native_id)) is not None:
        draft = replace(draft, id=str(row[own]).strip())
        rest.pop(own, None)
    for name, value in rest.items():
        if isinstance(value, str | int | float | bool) and name not in attributes:
            attributes[name] = value
    return replace(draft, attributes=attributes)


def unread(row: Raw, read: Mapping[str, str]) -> set[str]:
    """The columns, and the keys of turns, that hold something and are not read."""
    responses = () if read.keys() & set(RESPONSE_COLUMNS) else RESPONSE_COLUMNS
    known = {*read, *responses}
    lists = {n for n, v in row.items() if n not in known and isinstance(v, list | Mapping) and len(v)}
    return {*lists, *(key for key in unread_keys(row) if key.partition("[")[0] in read)}


def id_of(row: Raw, native_id: str | None) -> str | None:
    """The column that names the row, or None."""
    names = (native_id, *ID_COLUMNS) if native_id else ID_COLUMNS
    return next((n for n in names if isinstance(row.get(n), str | int) and str(row[n]).strip()), None)


def trace_of(row: Raw) -> str | None:
    """The column that holds a trace of its own, or None."""
    return next((n for n in TRACE_COLUMNS if isinstance(row.get(n), str) and str(row[n]).strip()), None)


def response_of(row: Raw, name: str) -> str:
    """The text of a response's column; of several texts the first that is finished, else the first."""
    if not isinstance(row.get(name), list):
        return text(row, name)
    choices = listing(row, name)
    if not choices or not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise RowProblem(name, "a text or a list of texts is expected")
    return next((choice for choice in choices if finished(choice)), str(choices[0]))


def _is_open(draft: Draft, read: Mapping[str, str]) -> bool:
    """True where what the schema gave as the response, if anything, is a reference: not a turn of a conversation."""
    return draft.messages[-1].role != "assistant" or not any(what.startswith("messages") for what in read.values())


def _with_trace(draft: Draft, trace: str) -> tuple[Message, ...] | None:
    """The conversation with the trace before its response; None where the response has a thinking part already.

    A question with a trace and an answer, and no response, is answered by both.
    """
    last: Any = draft.messages[-1]
    if last.role != "assistant":
        response = think(trace, draft.answer) if draft.answer else trace
        return (*draft.messages, Message("assistant", response))
    if "</think>" in last.content or last.content.strip() == trace.strip():
        return None
    return (*draft.messages[:-1], replace(last, content=think(trace, last.content)))
