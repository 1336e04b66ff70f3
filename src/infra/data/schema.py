"""The one record that every room speaks: a conversation with what is known about it.

Example row (as a JSON object in a file)::

    {"id": "r3f0c...", "messages": [{"role": "user", "content": "What is 2 + 3?"},
     {"role": "assistant", "content": "<think>2 + 3 = 5</think>\\n\\\\boxed{5}"}],
     "domain": "math", "source": "gsm8k", "answer": "5", "tests": null,
     "attributes": {"difficulty": 1, "family": "sum"}, "spans": [], "weight": 1.0}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = ("system", "user", "assistant", "tool")

Attribute = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool by the assistant: its name, its arguments as JSON text, and the id its result refers to."""

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``role`` is one of :data:`ROLES`.

    ``loss`` is False for an assistant's turn that is read but not trained on. ``tool_calls`` are the assistant's;
    ``tool_call_id`` and ``name`` say which call a tool's turn answers.
    """

    role: str
    content: str
    loss: bool = True
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def extras(self) -> dict[str, Any]:
        """What the turn has beside role and text, as JSON values in the form of OpenAI's API."""
        found: dict[str, Any] = {} if self.loss else {"loss": False}
        if self.tool_calls:
            found["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in self.tool_calls
            ]
        for name in ("tool_call_id", "name"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        return found


@dataclass(frozen=True, slots=True)
class Span:
    """A labelled stretch ``[start, end)`` of characters of the last assistant message.

    ``labels`` are the field's behaviour names (``plan``, ``subgoal``, ``computation``, ``fact``,
    ``verification``, ``backtracking``, ``exploration``, ``exploration_after_answer``, ``final_answer``).
    """

    start: int
    end: int
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One training example, pool example or benchmark problem.

    ``id`` is the user's own, or file and line where the data has none (:func:`infra.data.read_records`).
    ``messages`` ends with an assistant turn for training data and with a user turn for a problem. ``tests`` is a JSON
    object for code, one of

    - ``{"kind": "asserts", "setup": str, "asserts": [str]}`` (MBPP),
    - ``{"kind": "program", "entry_point": str, "code": str}`` (HumanEval's ``check``),
    - ``{"kind": "stdin", "cases": [{"input": str, "output": str}]}``,
    - ``{"kind": "functional", "entry_point": str, "cases": [{"input": str, "output": str}]}`` (LiveCodeBench).

    ``attributes`` holds everything to slice by; ``difficulty`` is the native level as an integer when known. ``spans``
    are ground-truth behaviours where the data knows them. ``weight`` multiplies the example's loss. ``tools`` are the
    JSON schemas of the tools that the conversation offers.
    """

    id: str
    messages: tuple[Message, ...]
    domain: str
    source: str
    answer: str | None = None
    tests: Mapping[str, Any] | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    weight: float = 1.0
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the last assistant turn (all of them when there is none)."""
        return self.messages[:-1] if self.messages and self.messages[-1].role == "assistant" else self.messages

    @property
    def response(self) -> str | None:
        """The text of the last assistant turn, or None for a problem."""
        last = self.messages[-1] if self.messages else None
        return last.content if last is not None and last.role == "assistant" else None

    @property
    def question(self) -> str:
        """The text of the last user turn, or ''."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


def record_id(
    messages: tuple[Message, ...],
    answer: str | None = None,
    tests: Any = None,
    tools: tuple[Mapping[str, Any], ...] = (),
) -> str:
    """A stable hash of a record's content.

    Args:
        messages: the conversation.
        answer: the reference answer.
        tests: of code.
        tools: that the conversation offers.

    Returns:
        ``r`` and 20 hex digits of SHA-256 over all of it as canonical JSON.
    """
    turns = [(m.role, m.content, *filter(None, [m.extras()])) for m in messages]
    body = json.dumps(
        [turns, answer, tests, *([list(tools)] if tools else [])],
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    return "r" + hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:20]
