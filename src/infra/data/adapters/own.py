"""This project's own record, as :func:`infra.data.write_records` writes it (JSON Lines or Parquet).

Example row (``tests``, ``attributes`` and ``spans`` may also be JSON texts, as in Parquet)::

    {"id": "r3f0c...", "messages": [{"role": "user", "content": "What is 2 + 3?"},
     {"role": "assistant", "content": "5"}], "domain": "math", "source": "gsm8k", "answer": "5", "tests": null,
     "attributes": {"difficulty": 1}, "spans": [{"start": 0, "end": 1, "labels": ["final_answer"]}], "weight": 1.0}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, from_json, optional_text, text, weight
from infra.data.schema import Span
from infra.data.turns import tools, turns


def convert(row: Raw) -> Draft:
    """All fields as they are; wrong types are refused by name."""
    messages = turns(row, "messages", "role", "content")
    last = messages[-1].content if messages[-1].role == "assistant" else ""
    return Draft(
        id=text(row, "id"),
        messages=messages,
        domain=text(row, "domain"),
        source=text(row, "source"),
        answer=row["answer"] if isinstance(row.get("answer"), str) else optional_text(row, "answer"),
        tests=_mapping(row, "tests"),
        attributes=_attributes(row),
        spans=_spans(row, len(last)),
        weight=weight(row),
        tools=tools(row),
    )


def _mapping(row: Raw, name: str) -> dict[str, Any] | None:
    value = from_json(row, name)
    if value is not None and not isinstance(value, Mapping):
        raise RowProblem(name, f"an object is expected, found {type(value).__name__}")
    return None if value is None else dict(value)


def _attributes(row: Raw) -> dict[str, Any]:
    attributes = _mapping(row, "attributes") or {}
    for key, value in attributes.items():
        if value is not None and not isinstance(value, str | int | float | bool):
            raise RowProblem(
                f"attributes.{key}",
                f"a text, number, truth value or null is expected, found {type(value).__name__}",
            )
    return attributes


def _spans(row: Raw, length: int) -> tuple[Span, ...]:
    values = from_json(row, "spans") or []
    if not isinstance(values, list):
        raise RowProblem("spans", f"a list is expected, found {type(values).__name__}")
    return tuple(_span(value, i, length) for i, value in enumerate(values))


def _span(value: Any, index: int, length: int) -> Span:
    try:
        span = Span(int(value["start"]), int(value["end"]), tuple(str(label) for label in value["labels"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RowProblem(f"spans[{index}]", "an object with 'start', 'end' and 'labels' is expected") from error
    if not 0 <= span.start <= span.end <= length:
        raise RowProblem(
            f"spans[{index}]", f"[{span.start}, {span.end}) lies outside the response of {length} characters"
        )
    return span


ADAPTERS = (
    Adapter(
        "record",
        frozenset({"id", "messages", "domain", "source", "attributes"}),
        convert,
        native_id="id",
        columns={
            "id": "id",
            "messages": "messages",
            "domain": "domain",
            "source": "source",
            "answer": "answer",
            "tests": "tests",
            "attributes": "attributes",
            "spans": "spans",
            "weight": "weight",
            "tools": "tools",
        },
        published="what write_records writes",
    ),
)
