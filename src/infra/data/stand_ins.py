"""The assistant's turns found in a rendered conversation, exactly, by stand-ins (see :mod:`infra.data.chat`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from infra.data.schema import Message
from infra.data.templates import ChatTemplate, render_text
from infra.errors import InputError

Tools = Sequence[Mapping[str, Any]]
Range = tuple[int, int]

THINKING_TAGS = (
    *("<think>", "</think>", "<thinking>", "</thinking>", "[THINK]", "[/THINK]"),
    *("<|begin_of_thought|>", "<|end_of_thought|>", "<|begin_of_solution|>", "<|end_of_solution|>"),
)
"""Tags that set the thinking part apart (Bespoke-Stratos marks the solution too). They are form, not content."""

_TAGS = re.compile(rf"\s*(?:{'|'.join(map(re.escape, THINKING_TAGS))})\s*")
OTHER_TEMPLATE = (
    "give the model's folder a chat_template.jinja that keeps it (from Python: tokenize(..., template='chatml'))"
)


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of an assistant's turn that the template must give back unchanged.

    ``at`` is its place in the turn's content, None for the name of a called tool. ``what`` names it in messages.
    """

    stand_in: str
    words: str
    at: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Turn:
    """An assistant's turn found in the text: its parts, its content, and the end of its closing token."""

    index: int
    parts: tuple[Range, ...]
    content: tuple[Range, ...]
    end: int
    response_start: int


@dataclass(frozen=True, slots=True)
class Conversation:
    messages: tuple[Message, ...]
    template: ChatTemplate
    tools: Tools
    text: str

    def turns(self, wanted: Sequence[int]) -> list[Turn]:
        """The turns of these indices. Raises :class:`InputError` where the rendering does not show them exactly."""
        word = "zqx"
        while word in self.text:
            word += "q"
        replaced = list(self.messages)
        parts: dict[int, list[_Part]] = {}
        for i in wanted:
            replaced[i], parts[i] = _with_stand_ins(self.messages[i], f"{word}{i}n")
        proxy = render_text(replaced, self.template, tools=self.tools)
        places, proxy_ends = self._put_back(proxy, parts)
        out = []
        for i in wanted:
            tail = proxy[proxy_ends[i] :]
            if i < len(self.messages) - 1:  # what follows belongs to the turn as far as it follows without the rest
                alone = render_text(replaced[: i + 1], self.template, tools=self.tools)
                own = alone.rpartition(parts[i][-1].stand_in)[2]
                tail = common(tail, own)
            out.append(self._turn(i, parts[i], places[i], tail))
        return out

    def _put_back(self, proxy: str, parts: Mapping[int, list[_Part]]) -> tuple[dict[int, list[Range]], dict[int, int]]:
        """Where the words stand in the text, and where each turn's last stand-in ends in the proxy."""
        words = {part.stand_in: part.words for turn in parts.values() for part in turn}
        pieces = re.split(f"({'|'.join(words)})", proxy)
        at, proxy_at = 0, 0
        first: dict[str, Range] = {}
        ends: dict[str, int] = {}
        for piece in pieces:
            put = words.get(piece, piece)
            if piece in words and piece not in first:
                first[piece], ends[piece] = (at, at + len(put)), proxy_at + len(piece)
            at, proxy_at = at + len(put), proxy_at + len(piece)
        for i, turn in parts.items():
            for part in turn:
                if part.stand_in not in first:
                    skip = ", or set 'loss': false on that message" if i < len(self.messages) - 1 else ""
                    raise InputError(
                        f"the chat template ({self.template.name}) rewrites the response: it drops {part.what} of "
                        f"message {i + 1}; {OTHER_TEMPLATE}{skip}"
                    )
        order = [first[part.stand_in] for turn in parts.values() for part in turn]
        if order != sorted(order) or "".join(words.get(p, p) for p in pieces) != self.text:
            raise InputError(
                f"the chat template ({self.template.name}) rewrites the response, so that it cannot be told which "
                f"characters are the assistant's; {OTHER_TEMPLATE}"
            )
        places = {i: [first[part.stand_in] for part in turn] for i, turn in parts.items()}
        return places, {i: ends[turn[-1].stand_in] for i, turn in parts.items()}

    def _turn(self, i: int, parts: Sequence[_Part], places: Sequence[Range], tail: str) -> Turn:
        message = self.messages[i]
        text, content = self.text, message.content
        written = [(part.at, place) for part, place in zip(parts, places) if part.at is not None]
        start, stop = (places[0][0], places[-1][1]) if not written else (written[0][1][0], written[-1][1][1])
        shift = start - (written[0][0] or 0) if written else start
        core = content.strip()
        lead = len(content) - len(content.lstrip())
        verbatim = bool(written) and text.startswith(core, shift + lead)
        if written and not verbatim and i == len(self.messages) - 1:
            raise InputError(
                f"the chat template ({self.template.name}) changes the white space around the thinking part, so that "
                "positions in the response would not point at its text; write responses as "
                "'<think>\\n...\\n</think>\\n\\n...' (from Python: infra.data.standard_thinking(record)), or "
                f"{OTHER_TEMPLATE}"
            )
        ranges = [place for _, place in written]
        if verbatim:
            stop = max(stop, shift + lead + len(core))
            ranges = _without_tags(text, shift + lead, shift + lead + len(core))
        end = self._close(i, message, stop if not message.tool_calls else places[-1][1], places[-1][1], tail)
        ranges += _calls(text, message, [p for part, p in zip(parts, places) if part.at is None], end)
        return Turn(i, tuple(places), tuple(ranges), end, shift)

    def _close(self, i: int, message: Message, stop: int, tail_start: int, tail: str) -> int:
        """The end of the turn: just after the special token that closes it, which follows the words at once, or
        after calls is the last one of the turn."""
        rest = tail[stop - tail_start :]
        found = [
            (m.start(), m.end()) for m in re.finditer("|".join(map(re.escape, self.template.ends)) or "(?!)", rest)
        ]
        if message.tool_calls and found:
            return stop + found[-1][1]
        if not message.tool_calls and found and not rest[: found[0][0]].strip():
            return stop + found[0][1]
        raise InputError(
            f"the chat template ({self.template.name}) does not close the assistant's turn (message {i + 1}) with a "
            "special token, so a model would not learn to stop; give the model's folder a chat_template.jinja that does"
        )


def _with_stand_ins(message: Message, word: str) -> tuple[Message, list[_Part]]:
    """The turn with a stand-in for its thinking, its answer and the name of each called tool."""
    content = message.content
    parts: list[_Part] = []
    text = ""
    at = 0
    if content.strip() or not message.tool_calls:
        for start, end, what in written(content):
            parts.append(_Part(f"{word}{len(parts)}z", content[start:end], start, what))
            text += content[at:start] + parts[-1].stand_in
            at = end
    calls = []
    for call in message.tool_calls:
        parts.append(_Part(f"{word}{len(parts)}z", call.name, None, "the tool calls"))
        calls.append(replace(call, name=parts[-1].stand_in))
    return replace(message, content=text + content[at:], tool_calls=tuple(calls)), parts


def written(content: str) -> list[tuple[int, int, str]]:
    """The stretches of thinking and answer, without tags and white space around them."""
    close = content.find("</think>")
    opening = re.match(r"\s*<think>", content)
    start = opening.end() if opening else 0
    pieces = [(start, len(content), "the text")]
    if close >= start:
        pieces = [(start, close, "the thinking part"), (close + len("</think>"), len(content), "the answer")]
    found = []
    for a, b, what in pieces:
        core = content[a:b].strip()
        if core:
            a = content.index(core, a)
            found.append((a, a + len(core), what))
    return found or [(len(content), len(content), "the text")]


def common(a: str, b: str) -> str:
    """The longest common beginning."""
    return "".join(x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b)))


def _without_tags(text: str, start: int, end: int) -> list[Range]:
    ranges, at = [], start
    for tag in _TAGS.finditer(text, start, end):
        ranges.append((at, tag.start()))
        at = tag.end()
    return [(a, b) for a, b in (*ranges, (at, end)) if a < b]


def _calls(text: str, message: Message, names: Sequence[Range], end: int) -> list[Range]:
    """Names and arguments of the calls. Where the arguments are rendered in a form of the template's own, all that
    follows the name up to the next call counts."""
    ranges: list[Range] = []
    bounds = [*(start for start, _ in names[1:]), end]
    for call, (start, stop), bound in zip(message.tool_calls, names, bounds):
        ranges.append((start, stop))
        forms = (json.dumps(json.loads(call.arguments), ensure_ascii=False), call.arguments, json.dumps(call.arguments))
        at, form = next(((at, f) for f in forms if (at := text.find(f, stop, bound)) >= 0), (stop, text[stop:bound]))
        ranges.append((at, at + len(form)))
    return ranges
