"""Conversations that are not one of the data sets above: messages (OpenAI, TRL) and ShareGPT.

Example row (messages)::

    {"messages": [{"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "5"}]}

Example row (ShareGPT)::

    {"conversations": [{"from": "human", "value": "What is 2 + 3?"}, {"from": "gpt", "value": "5"}]}

``domain``, ``source``, ``answer``, ``tests``, ``weight`` and ``system`` are read where a row has them; other
texts and numbers become attributes. A missing domain is guessed from the text and marked ``domain_guessed``.
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.adapters.own import weight
from infra.data.fields import (
    Draft,
    Raw,
    RowProblem,
    dialogue,
    from_json,
    guess_domain,
    optional_text,
    scalars,
    turns,
)
from infra.data.schema import Message

_READ = (
    "id",
    "messages",
    "conversations",
    "domain",
    "source",
    "answer",
    "tests",
    "weight",
    "system",
    "attributes",
)


def general_draft(row: Raw, messages: tuple[Message, ...], used: tuple[str, ...]) -> Draft:
    """A draft from messages and whatever known fields stand beside them."""
    system = optional_text(row, "system")
    if system and messages[0].role != "system":
        messages = (*dialogue("", None, system)[:1], *messages)
    domain = optional_text(row, "domain")
    tests = from_json(row, "tests")
    if tests is not None and not (isinstance(tests, dict) and "kind" in tests):
        raise RowProblem("tests", "an object with 'kind' is expected (asserts, program, stdin or functional)")
    attributes = scalars(row, (*_READ, *used))
    if isinstance(row.get("attributes"), dict):
        attributes |= scalars(row["attributes"], ())
    if row.get("id") is not None:
        attributes["native_id"] = str(row["id"])
    if domain is None:
        attributes["domain_guessed"] = True
    return Draft(
        messages,
        domain or guess_domain(messages),
        answer=optional_text(row, "answer"),
        tests=tests,
        attributes=attributes,
        weight=weight(row),
        source=optional_text(row, "source"),
    )


def convert_messages(row: Raw) -> Draft:
    """``messages`` with ``role`` and ``content``."""
    return general_draft(row, turns(row, "messages", "role", "content"), ())


def convert_sharegpt(row: Raw) -> Draft:
    """``conversations`` with ``from`` and ``value``."""
    return general_draft(row, turns(row, "conversations", "from", "value"), ())


def _from_role(row: Raw) -> bool:
    turns_ = row.get("conversations")
    return not (isinstance(turns_, list) and turns_ and isinstance(turns_[0], dict) and "role" in turns_[0])


def convert_conversations(row: Raw) -> Draft:
    """``conversations`` with ``role`` and ``content``."""
    return general_draft(row, turns(row, "conversations", "role", "content"), ())


ADAPTERS = (
    Adapter("messages", frozenset({"messages"}), convert_messages, native_id="id"),
    Adapter("sharegpt", frozenset({"conversations"}), convert_sharegpt, accepts=_from_role, native_id="id"),
    Adapter("conversations", frozenset({"conversations"}), convert_conversations, native_id="id"),
)
