"""A chat completion read from an answer that may be anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Completion:
    """One assistant turn; ``tokens`` is 0 where the server does not count."""

    text: str
    tokens: int
    finish: str


def read_completion(body: bytes) -> Completion:
    """The first choice of a chat completion. Raises ``ValueError`` with what is wrong with ``body``.

    Thinking that comes apart from the text (``reasoning_content`` or ``reasoning``) is put before it in think tags.
    Text may be a string or OpenAI's list of parts. Half a surrogate pair, which no file can hold, becomes U+FFFD.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON ({str(error)[:80]})") from error
    choice = _first(_dictionary(answer, "it").get("choices"))
    message = _dictionary(choice.get("message"), "its message")
    text = _text(message.get("content"), "content")
    thought = _text(message.get("reasoning_content") or message.get("reasoning"), "reasoning_content")
    finish = "length" if choice.get("finish_reason") == "length" else "stop"
    return Completion((f"<think>{thought}</think>" if thought else "") + text, _count(answer.get("usage")), finish)


def _dictionary(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {_kind(value)} and no JSON object")
    return value


def _first(choices: Any) -> dict[str, Any]:
    if not isinstance(choices, list) or not choices:
        raise ValueError(f"its choices are {_kind(choices)} and no list with something in it")
    return _dictionary(choices[0], "its first choice")


def _text(value: Any, what: str) -> str:
    if isinstance(value, list):
        said = [part.get("text") for part in value if isinstance(part, dict) and part.get("type") in ("text", None)]
        parts = [part for part in said if isinstance(part, str)]
        if len(parts) < len(value):
            raise ValueError(f"its {what} has parts that are no text")
        value = "".join(parts)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"its {what} is {_kind(value)} and no text")
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(usage: Any) -> int:
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens < 1 << 31 else 0


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null") if value != [] else "an empty list"
