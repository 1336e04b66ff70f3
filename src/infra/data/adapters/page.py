"""The reference page of schemas, written from the adapters themselves when the docs are built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from infra.data.adapters import ADAPTERS
from infra.data.adapters.pairs import INPUTS, QUESTIONS, RESPONSES
from infra.data.columns import ID_COLUMNS, RESPONSE_COLUMNS, TRACE_COLUMNS
from infra.data.turns import FLAGS, THINKING

_HEAD = """# Data schemas, and what happens to every column

Infra recognises a file's schema by the fields of its first row: the schema is the first below that fits. This page is
written from the adapters when the site is built. A test changes every column of every published row, to see that what
is said here happens. In every schema:

- `weight` multiplies the record's loss.
- A response in a column of its own, of which the schema says nothing, takes the place of the reference solution, or
  follows a question that has none: {responses}.
- A trace in a column of its own, of which the schema says nothing, goes before the response as `<think>`:
  {traces}. A row with a question, a trace and an answer, and no response, is answered by the trace and the answer.
- The row's own id is the record's id: {ids}. A row without one is named by its
  file and line, such as `train.jsonl:17`.
- Any other text, number or truth value becomes an attribute of the same name.
- Lists and objects that the schema does not name are not read. `read_records(...).unread` and `infra data` list them
  once, as they do keys of turns that are not read.

In a turn of a conversation:

- {flags}: 0 or false takes the turn out of the loss. Two flags that contradict each
  other are refused, and so is a flag that asks for loss on a turn of anyone but the assistant.
- {thinking}, or a part of type `thinking`: goes before the turn's text as `<think>`.
- `tool_calls`, `tool_call_id`, `name` of a tool's turn, OpenAI's first `function_call`, ShareGPT's turns from
  `function_call`: calls of tools.
"""


def schemas_page() -> str:
    """The page's text."""
    head = _HEAD.format(
        responses=_names(RESPONSE_COLUMNS),
        traces=_names(TRACE_COLUMNS),
        ids=_names(ID_COLUMNS),
        flags=_names(FLAGS),
        thinking=_names(THINKING),
    )
    return "\n".join([head.rstrip(), *_sections(), ""])


def _sections() -> Iterator[str]:
    pairs = []
    for adapter in ADAPTERS:
        if "/" in adapter.name or adapter.name in QUESTIONS:
            pairs.append(adapter)
            continue
        yield from _section(f"`{adapter.name}`", adapter.published, adapter.columns)
    columns = {name: what for adapter in pairs for name, what in adapter.columns.items()}
    general = {n: w for n, w in columns.items() if n not in QUESTIONS + RESPONSES + INPUTS}
    yield from _section(
        "`QUESTION/RESPONSE`, `QUESTION`",
        "two columns under the usual names; Alpaca, Dolly, OpenOrca, TRL's prompt/completion; a question alone is a "
        "problem",
        {
            "` `".join(QUESTIONS): "the first of these is the question",
            "` `".join(RESPONSES): "the first of these is the response, of a list of texts the first that is finished "
            "(attribute n_generations); `chosen` may be a whole conversation, the rejected one is not trained on",
            "` `".join(INPUTS): "end of the question, beside an instruction",
            **general,
        },
    )


def _section(name: str, published: str, columns: Mapping[str, str]) -> Iterator[str]:
    yield from ("", f"## {name}", "", f"Published as {published}.", "", "| column | becomes |", "|---|---|")
    yield from (f"| `{column}` | {what} |" for column, what in columns.items())


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
