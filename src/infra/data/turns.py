"""Conversations as data sets publish them: roles, parts, flags of loss, calls of tools, thinking apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from infra.data.fields import Raw, RowProblem, from_json, listing, think
from infra.data.schema import ROLES, Message, ToolCall

ROLE_NAMES = {
    **{role: role for role in ROLES},
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "observation": "tool",
    "function": "tool",
    "tool_response": "tool",
    "ipython": "tool",
    "developer": "system",
}
FLAGS = ("weight", "train", "training", "loss")
"""Whether a turn carries loss: OpenAI's ``weight``, Axolotl's ``train`` and ``training``, ms-swift's ``loss``."""
THINKING = ("reasoning_content", "thinking", "reasoning")
TURN_KEYS = frozenset(
    {
        *("role", "content", "from", "value", "tool_calls", "tool_call_id", "function_call", "name"),
        *FLAGS,
        *THINKING,
    }
)
"""The keys of a turn that are read. ``name`` is kept for a tool's turn."""


def turns(row: Raw, name: str, role_key: str, text_key: str) -> tuple[Message, ...]:
    """A conversation field as messages; role synonyms (human, gpt, ...) are mapped, others refused by
    name."""
    value = from_json(row, name) if isinstance(row.get(name), str) and str(row[name]).startswith("[") else row.get(name)
    if value is None:
        raise RowProblem(name, "missing; every row needs it")
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RowProblem(name, f"a list of turns is expected, found {type(value).__name__}")
    if not value:
        raise RowProblem(name, "empty; a conversation needs at least one turn")
    messages = tuple(_turn(turn, f"{name}[{i}]", role_key, text_key) for i, turn in enumerate(value))
    if all(m.role != "user" for m in messages):
        raise RowProblem(name, "no user turn; a conversation needs a question")
    return messages


def history(row: Raw, name: str = "history") -> tuple[Message, ...]:
    """Earlier turns beside an instruction: pairs of question and answer (LLaMA-Factory's Alpaca), or turns."""
    messages: list[Message] = []
    for i, pair in enumerate(listing(row, name)):
        where = f"{name}[{i}]"
        if isinstance(pair, Mapping):
            messages.append(_turn(pair, where, "role", "content"))
        elif isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(t, str) for t in pair):
            messages += [Message("user", pair[0]), Message("assistant", pair[1])]
        else:
            raise RowProblem(where, "a pair of texts, question and answer, is expected")
    return tuple(messages)


def tools(row: Raw) -> tuple[Mapping[str, Any], ...]:
    """The tools that a conversation offers: ``tools``, or ``functions`` as OpenAI first had it; a list or its JSON."""
    for name in ("tools", "functions"):
        value = from_json(row, name)
        if not value:
            continue
        if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
            raise RowProblem(name, "a list of objects is expected, one for each tool")
        return tuple(_dense(tool) for tool in value)
    return ()


def unread_keys(row: Raw) -> set[str]:
    """Keys of turns that hold something and are not read, as ``messages[].key``."""
    found = set()
    for name, value in row.items():
        if isinstance(value, list):
            for turn in value:
                if isinstance(turn, Mapping) and ("role" in turn or "from" in turn):
                    lost = {k for k, v in turn.items() if k not in TURN_KEYS and v not in (None, "", [], {})}
                    role = ROLE_NAMES.get(str(turn.get("role", turn.get("from"))).lower())
                    lost |= {"name"} if turn.get("name") and role != "tool" else set()
                    found |= {f"{name}[].{key}" for key in lost}
    return found


def _turn(turn: object, where: str, role_key: str, text_key: str) -> Message:
    if not isinstance(turn, Mapping):
        raise RowProblem(
            where, f"an object with {role_key!r} and {text_key!r} is expected, found {type(turn).__name__}"
        )
    named = turn.get(role_key)
    role = ROLE_NAMES.get(named.lower()) if isinstance(named, str) else None
    if role is None or not isinstance(named, str):
        raise RowProblem(where, f"unknown role {named!r}; use one of {', '.join(ROLES)} (or human, gpt)")
    calls = _calls(turn, where, role)
    content = turn.get(text_key)
    if content is None and calls:
        content = ""
    thinking = next((turn[k] for k in THINKING if isinstance(turn.get(k), str) and turn[k].strip()), "")
    if isinstance(content, list):
        thinking = "".join(_part(part, where, "thinking") for part in content) or thinking
        content = "".join(_part(part, where, "text") for part in content)
    if not isinstance(content, str):
        raise RowProblem(where, f"{text_key!r} must be a text, found {type(content).__name__}")
    if named.lower() in ("function_call", "tool_call"):
        content, calls = _called(content, where)
    if thinking and role == "assistant" and "</think>" not in content:
        content = think(thinking, content)
    return Message(
        role,
        content,
        _loss(turn, where, role),
        calls,
        turn.get("tool_call_id") if isinstance(turn.get("tool_call_id"), str) else None,
        turn.get("name") if role == "tool" and isinstance(turn.get("name"), str) else None,
    )


def _loss(turn: Mapping[str, Any], where: str, role: str) -> bool:
    """What the turn's flags say. Only an assistant's turn can carry loss."""
    given = {name: turn[name] for name in FLAGS if turn.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise RowProblem(
                where,
                f"{name!r} of a turn is {value!r}; use 0 or 1, false or true (a weight between belongs to the record)",
            )
        if role != "assistant" and value and name != "weight":
            raise RowProblem(where, f"{name!r} asks for loss on a turn of {role}; only the assistant's can carry it")
    if len({bool(value) for value in given.values()}) > 1:
        raise RowProblem(where, f"{' and '.join(map(repr, given))} contradict each other; keep one of them")
    return role != "assistant" or all(given.values())


def _calls(turn: Mapping[str, Any], where: str, role: str) -> tuple[ToolCall, ...]:
    calls = turn.get("tool_calls") or []
    if not calls and isinstance(turn.get("function_call"), Mapping):
        calls = [{"function": turn["function_call"]}]  # OpenAI's first form
    if calls and role != "assistant":
        raise RowProblem(where, f"a turn of {role} cannot call tools")
    if isinstance(calls, str):
        calls = from_json({"tool_calls": calls}, "tool_calls")
    if not isinstance(calls, list):
        raise RowProblem(where, f"'tool_calls' must be a list, found {type(calls).__name__}")
    return tuple(_call(call, where) for call in calls)


def _call(call: object, where: str) -> ToolCall:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowProblem(where, "a tool call needs a 'function' with a 'name' and 'arguments'")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise RowProblem(
                where, f"the arguments of the call of {function['name']} are not JSON ({error})"
            ) from error
    else:
        arguments = json.dumps(_dense(arguments), ensure_ascii=False)
    id_ = call.get("id") if isinstance(call, Mapping) else None
    return ToolCall(function["name"], arguments or "{}", id_ if isinstance(id_, str) else None)


def _called(text: str, where: str) -> tuple[str, tuple[ToolCall, ...]]:
    """ShareGPT's turn of calls: one as JSON, or a list of them; anything else stays text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text, ()
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, Mapping) and "name" in call for call in calls):
        return text, ()
    return "", tuple(_call(call, where) for call in calls)


def _part(part: object, where: str, kind: str) -> str:
    if isinstance(part, str):
        return part if kind == "text" else ""
    if isinstance(part, Mapping):
        own = part.get("type", "text")
        if own in ("text", "thinking") and isinstance(part.get(own), str):
            return str(part[own]) if own == kind else ""
    raise RowProblem(where, "only text content can be read; remove images and other parts")


def _dense(value: Any) -> Any:
    """Without the nulls that Parquet puts where other rows have a key."""
    if isinstance(value, Mapping):
        return {k: _dense(v) for k, v in value.items() if v is not None}
    return [_dense(v) for v in value] if isinstance(value, list) else value
