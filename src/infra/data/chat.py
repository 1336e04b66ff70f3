r"""Where the assistant's words stand in a rendered conversation, and which tokens carry loss.

A template is a program, so we do not guess from its output. We render the conversation twice: as it is, and with
*stand-ins*, made-up words, in place of what the assistant wrote. Putting the words back must give the first rendering,
character by character. So every character is known to come from the assistant or from the template, white space that
the template trims included. A template that drops or rewrites a response fails this check and is refused.

Example (Llama 3 trims contents; ``_`` marks what is under the loss)::

    <|start_header_id|>assistant<|end_header_id|>\n\n5<|eot_id|><|start_header_id|>user...
                                                    ___________

The loss begins where the generation prompt ends, or where a ``{% generation %}`` block does, and ends with the special
token that closes the turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.data.schema import Message
from infra.data.stand_ins import OTHER_TEMPLATE, Conversation, Range, Tools, Turn, common
from infra.data.templates import ChatTemplate as ChatTemplate
from infra.data.templates import render_marked, render_text
from infra.data.templates import resolve_template as resolve_template
from infra.errors import InputError


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as ``text``, and what its characters are.

    ``spans`` are the ``[start, end)`` characters under the loss, end of turn included. ``content`` are those that the
    response's author wrote, without the white space around; the rest of ``spans`` is the template's: end of turn,
    thinking tags, the form of a call.
    ``response_start``: where the last response's first character stands, or would stand if the template had not
    trimmed the white space before it.
    """

    text: str
    spans: tuple[Range, ...]
    response_start: int
    content: tuple[Range, ...] = ()


def token_masks(rendered: Rendered, offsets: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tokens are under the loss, and which of these carry content.

    Args:
        rendered: The conversation.
        offsets: int32 ``[T, 2]``, each token's ``[start, end)`` in ``rendered.text``.

    Returns:
        Two bool arrays ``[T]``. The first is True for tokens inside ``rendered.spans``, never for token 0, which
        nothing predicts. The second is True for those of them that hold a character of ``rendered.content``; the
        others are template tokens.
    """
    starts, ends = offsets.T.copy()
    loss = np.zeros(len(offsets), dtype=np.bool_)
    content = np.zeros(len(offsets), dtype=np.bool_)
    for start, end in rendered.spans:
        loss |= (starts >= start) & (ends <= end) & (ends > starts)
    loss[:1] = False
    for start, end in rendered.content:
        content |= (starts < end) & (ends > start)
    return loss, content & loss


def render_prompt(
    messages: Sequence[Message],
    tokenizer: Any,
    *,
    add_generation_prompt: bool = True,
    thinking_prefix: str = "",
    system: str | None = None,
    template: str | None = None,
    tools: Tools = (),
) -> list[int]:
    """Token ids to generate from: the same ids that :func:`infra.data.tokenize` puts before a response.

    Args:
        messages: the turns before the response.
        tokenizer: the model's.
        add_generation_prompt: open the assistant's turn.
        thinking_prefix: appended as text, for models that must be made to open a thinking part.
        system: a system prompt, where the messages have none.
        template: as in :func:`resolve_template`.
        tools: that the conversation offers.
    """
    chat = resolve_template(tokenizer, template)
    prompt = with_system(messages, system)
    text = render_text(prompt, chat, tools=tools, add_generation_prompt=add_generation_prompt)
    ids: list[int] = tokenizer(text + thinking_prefix, add_special_tokens=False)["input_ids"]
    return ids


def with_system(messages: Sequence[Message], system: str | None) -> tuple[Message, ...]:
    """Messages under a system prompt; their own, if they have one, stays.

    Args:
        messages: the turns.
        system: the prompt; None changes nothing.
    """
    if system is None or (messages and messages[0].role == "system"):
        return tuple(messages)
    return (Message("system", system), *messages)


def render_conversation(messages: Sequence[Message], template: ChatTemplate, tools: Tools = ()) -> Rendered:
    """Render a conversation that ends with the assistant, and say which of its characters are under the loss.

    An assistant's turn with ``loss`` False is rendered and carries none; the template may rewrite it.

    Args:
        messages: the turns.
        template: from :func:`resolve_template`.
        tools: that the conversation offers.

    Raises:
        InputError: without the record's name, which the caller adds. There is no response; no turn carries loss; the
            template drops, rewrites or does not render something the assistant wrote; no special token closes a turn;
            or it cannot be told where the generation prompt ends.
    """
    if not messages or messages[-1].role != "assistant":
        raise InputError("there is no assistant turn at the end, so nothing to train on or score")
    if not messages[-1].content.strip() and not messages[-1].tool_calls:
        raise InputError("the response is empty, so every token would be masked; remove the record")
    trained = [i for i, m in enumerate(messages) if m.role == "assistant" and m.loss]
    if not trained:
        raise InputError("no turn of the assistant carries loss, so every token would be masked; remove the record")
    if template.marks_generation:
        text, marks = render_marked(messages, template, tools=tools)
        _check_marks(marks, messages)
    else:
        text, marks = render_text(messages, template, tools=tools), []
    if tools and text == render_text(messages, template):
        raise InputError(f"the chat template ({template.name}) does not render the record's tools; {OTHER_TEMPLATE}")
    last = len(messages) - 1
    found = Conversation(tuple(messages), template, tools, text).turns(sorted({*trained, last}))
    turn_of = {i: k for k, i in enumerate(i for i, m in enumerate(messages) if m.role == "assistant")}
    spans, content = [], []
    for turn in found:
        if turn.index in trained:
            mark = marks[turn_of[turn.index]] if marks else None
            start = _start_from_mark(mark, turn) if mark else _start_from_prompt(messages, turn, template, tools, text)
            spans.append((start, turn.end))
            content += [(max(a, start), b) for a, b in turn.content if b > start]
    return Rendered(text, tuple(spans), found[-1].response_start, tuple(content))


def _check_marks(marks: Sequence[Range], messages: Sequence[Message]) -> None:
    turns = sum(m.role == "assistant" for m in messages)
    if len(marks) != turns:
        raise InputError(
            f"the chat template marks {len(marks)} generation blocks for {turns} assistant turns; mend its "
            "{% generation %} blocks"
        )


def _start_from_mark(mark: Range, turn: Turn) -> int:
    if not mark[0] <= turn.parts[0][0] or turn.parts[-1][1] > mark[1]:
        raise InputError(
            f"the generation block of the chat template does not hold the words of message {turn.index + 1}; mend its "
            "{% generation %} blocks"
        )
    return mark[0]


def _start_from_prompt(messages: Sequence[Message], turn: Turn, template: ChatTemplate, tools: Tools, text: str) -> int:
    """Where the prompt that the turn is generated from ends."""
    before = messages[: turn.index]
    words = turn.content[0][0] if turn.content else turn.parts[0][0]
    prompt = render_text(before, template, tools=tools, add_generation_prompt=True)
    if text.startswith(prompt) and len(prompt) <= turn.parts[0][0]:
        return len(prompt)
    # a generation prompt that opens a thinking part, where the finished turn has none (DeepSeek-R1's distilled models)
    bare = render_text(before, template, tools=tools)
    content = messages[turn.index].content
    header = common(text[len(bare) : words], prompt[len(bare) :])
    space = text[len(bare) + len(header) : words]
    if (
        header
        and text.startswith(bare)
        and prompt.startswith(bare)
        and content[: -len(content.lstrip())].endswith(space)
    ):
        return words - len(space)
    raise InputError(
        f"the chat template renders the prompt of message {turn.index + 1} differently with and without the answer, so "
        "the answer cannot be told apart; give the model's folder a chat_template.jinja with {% generation %} blocks"
    )
