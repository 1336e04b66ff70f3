"""Conversations that are not one of the data sets above: messages (OpenAI, TRL) and ShareGPT.

Example row (messages)::

    {"messages": [{"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "5"}]}

Example row (ShareGPT)::

    {"conversations": [{"from": "human", "value": "What is 2 + 3?"}, {"from": "gpt", "value": "5"}]}

A missing domain is guessed from the text and marked ``domain_guessed``.
"""

from __future__ import annotations

from infra.data.adapters._adapter import Adapter
from infra.data.fields import Draft, Raw, RowProblem, dialogue, from_json, guess_domain, optional_text, weight
from infra.data.schema import Message
from infra.data.turns import tools, turns

GENERAL = {
    "domain": "domain; guessed where there is none",
    "source": "source",
    "answer": "answer",
    "tests": "tests",
    "weight": "weight",
    "system": "first message",
    "system_prompt": "first message",
    "tools": "tools",
    "functions": "tools",
    "attributes": "attributes",
}
"""What a general schema reads beside the conversation itself."""


def general_draft(row: Raw, messages: tuple[Message, ...]) -> Draft:
    """A draft from messages and whatever known fields stand beside them."""
    system = optional_text(row, "system") or optional_text(row, "system_prompt")
    if system and messages[0].role != "system":
        messages = (*dialogue("", None, system)[:1], *messages)
    domain = optional_text(row, "domain")
    tests = from_json(row, "tests")
    if tests is not None and not (isinstance(tests, dict) and "kind" in tests):
        raise RowProblem("tests", "an object with 'kind' is expected (asserts, program, stdin or functional)")
    given = from_json(row, "attributes") if isinstance(row.get("attributes"), str) else row.get("attributes")
    items = given.items() if isinstance(given, dict) else ()
    attributes = {k: v for k, v in items if isinstance(v, str | int | float | bool)}
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
        tools=tools(row),
    )


def convert_messages(row: Raw) -> Draft:
    """``messages`` with ``role`` and ``content``."""
    return general_draft(row, turns(row, "messages", "role", "content"))


def convert_sharegpt(row: Raw) -> Draft:
    """``conversations`` with ``from`` and ``value``."""
    return general_draft(row, turns(row, "conversations", "from", "value"))


def _from_role(row: Raw) -> bool:
    turns_ = row.get("conversations")
    return not (isinstance(turns_, list) and turns_ and isinstance(turns_[0], dict) and "role" in turns_[0])


def convert_conversations(row: Raw) -> Draft:
    """``conversations`` with ``role`` and ``content``."""
    return general_draft(row, turns(row, "conversations", "role", "content"))


ADAPTERS = (
    Adapter(
        "messages",
        frozenset({"messages"}),
        convert_messages,
        native_id="id",
        columns={"messages": "messages", **GENERAL},
        published="OpenAI's and TRL's form",
    ),
    Adapter(
        "sharegpt",
        frozenset({"conversations"}),
        convert_sharegpt,
        accepts=_from_role,
        native_id="id",
        columns={"conversations": "messages", **GENERAL},
        published="ShareGPT, as LLaMA-Factory and Axolotl have it",
    ),
    Adapter(
        "conversations",
        frozenset({"conversations"}),
        convert_conversations,
        native_id="id",
        columns={"conversations": "messages", **GENERAL},
        published="conversations with role and content",
    ),
)
