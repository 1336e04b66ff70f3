"""Conversations as text: which template is used, where the assistant's words stand, and where they may carry
loss.

Two ways to know what the assistant wrote. A template with ``{% generation %}`` blocks says it. For any other,
the prompt rendered with the generation prompt must be a prefix of the whole rendering; what follows, up to
and with the first special token after the response (the end of turn), is the assistant's. A template that
rewrites the response (some drop the thinking part) is refused, because spans and scores would point at text
that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.data.schema import Message
from infra.errors import InputError

CHATML = (
    "{{ turn_start }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + turn_end }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ message['content'] + turn_end + '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template ready to use: its source, a name to report, and what closes a turn."""

    source: str
    name: str
    marks_generation: bool
    ends: tuple[str, ...]
    variables: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as ``text``; ``spans`` are the ``[start, end)`` characters under the loss, end of turn
    included."""

    text: str
    spans: tuple[tuple[int, int], ...]
    response_start: int


def resolve_template(tokenizer: Any, template: str | None = None) -> ChatTemplate:
    """The template to use with this tokenizer.

    ``template`` is None (the tokenizer's own, else ChatML), ``"chatml"``, the name of one of the tokenizer's
    templates, or the source of a Jinja template. ChatML closes turns with ``<|im_end|>`` where the vocabulary
    has it, else with the tokenizer's end-of-sequence token, and begins with the beginning-of-sequence token of a
    tokenizer that puts one before every text (Llama 3). Raises :class:`InputError` when there is nothing
    to close a turn with.
    """
    variables: dict[str, Any] = {k: v for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    special = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
    special |= {tokenizer.eos_token} if tokenizer.eos_token else set()
    ends = tuple(sorted(special, key=lambda t: (-len(t), t)))
    if template is None and not tokenizer.chat_template:
        return _chatml(tokenizer, variables, ends, "chatml (the tokenizer has no chat template)")
    if template == "chatml":
        return _chatml(tokenizer, variables, ends, "chatml")
    if template is not None and "{" in template:
        source, name = template, "given"
    else:
        source, name = tokenizer.get_chat_template(template), template or "tokenizer"
    return ChatTemplate(source, name, bool(_GENERATION.search(source)), ends, variables)


def _chatml(tokenizer: Any, variables: dict[str, Any], ends: tuple[str, ...], name: str) -> ChatTemplate:
    added = {t.content for t in tokenizer.added_tokens_decoder.values()}
    end = "<|im_end|>" if "<|im_end|>" in added else tokenizer.eos_token
    if not end:
        raise InputError("the tokenizer has neither a chat template nor an end-of-sequence token; set eos_token")
    ids = tokenizer("")["input_ids"]
    start = tokenizer.bos_token if ids and ids[0] == tokenizer.bos_token_id else ""
    return ChatTemplate(
        CHATML,
        name,
        True,
        (end, *(e for e in ends if e != end)),
        {**variables, "turn_end": end, "turn_start": start or ""},
    )


def render_text(messages: Sequence[Message], template: ChatTemplate, *, add_generation_prompt: bool = False) -> str:
    """The conversation as text."""
    return _render(messages, template, add_generation_prompt, False)[0]


def render_prompt(
    messages: Sequence[Message],
    tokenizer: Any,
    *,
    add_generation_prompt: bool = True,
    thinking_prefix: str = "",
    system: str | None = None,
    template: str | None = None,
) -> list[int]:
    """Token ids to generate from: the same ids that :func:`infra.data.tokenize` puts before a response.

    ``thinking_prefix`` is appended as text, for models that must be made to open a thinking part.
    """
    chat = resolve_template(tokenizer, template)
    text = render_text(with_system(messages, system), chat, add_generation_prompt=add_generation_prompt)
    ids: list[int] = tokenizer(text + thinking_prefix, add_special_tokens=False)["input_ids"]
    return ids


def with_system(messages: Sequence[Message], system: str | None) -> tuple[Message, ...]:
    """The messages under a system prompt; their own, if they have one, stays."""
    if system is None or (messages and messages[0].role == "system"):
        return tuple(messages)
    return (Message("system", system), *messages)


def render_conversation(messages: Sequence[Message], template: ChatTemplate) -> Rendered:
    """A conversation that ends with the assistant, with its loss spans.

    Raises :class:`InputError` (without the record's name, which the caller adds) when there is no response,
    when the template rewrites a response, or when no special token closes a turn.
    """
    if not messages or messages[-1].role != "assistant":
        raise InputError("there is no assistant turn at the end, so nothing to train on or score")
    if not messages[-1].content.strip():
        raise InputError("the response is empty, so every token would be masked; remove the record")
    text, marked = _render(messages, template, False, template.marks_generation)
    spans: list[tuple[int, int]] = []
    response_start = 0
    turns = [i for i, m in enumerate(messages) if m.role == "assistant"]
    if template.marks_generation and len(marked) != len(turns):
        raise InputError(
            f"the chat template marks {len(marked)} generation blocks for {len(turns)} assistant turns; mend it or "
            "use template='chatml'"
        )
    at = 0
    for k, i in enumerate(turns):
        if template.marks_generation:
            start, end = marked[k]
            content, stop = _find(text, messages[i].content, start, template)
        else:
            prefix = render_text(messages[:i], template, add_generation_prompt=True)
            if not text.startswith(prefix):
                raise InputError(
                    "the chat template renders the prompt differently with and without the answer, so the answer "
                    "cannot be told apart; use template='chatml' or one with {% generation %} blocks"
                )
            content, stop = _find(text, messages[i].content, max(len(prefix), at), template)
            start, end = min(len(prefix), stop), stop
        end = _close(text, max(end, stop), start, template)
        spans.append((start, end))
        at, response_start = end, content
    return Rendered(text, tuple(spans), response_start)


def _find(text: str, content: str, start: int, template: ChatTemplate) -> tuple[int, int]:
    """Where the response's first character stands, or would stand had the template not trimmed white space
    around it, and where the response ends in the text."""
    at = start if text.startswith(content, start) else text.find(content, start)
    if at >= 0:
        return at, at + len(content)
    stripped = content.strip()
    at = text.find(stripped, start)
    if at < 0:
        raise InputError(
            f"the chat template ({template.name}) rewrites the response (some drop the thinking part of it); "
            "use template='chatml'"
        )
    return at - (len(content) - len(content.lstrip())), at + len(stripped)


def _close(text: str, end: int, start: int, template: ChatTemplate) -> int:
    """The end of the turn: just after the special token that closes it."""
    if any(text[start:end].rstrip().endswith(token) for token in template.ends):
        return len(text[:end].rstrip())
    found = [(text.find(token, end), token) for token in template.ends]
    at, token = min(((at, token) for at, token in found if at >= 0), default=(-1, ""), key=lambda f: (f[0], -len(f[1])))
    if at < 0 or text[end:at].strip():
        raise InputError(
            f"the chat template ({template.name}) does not close the assistant's turn with a special token, so a "
            "model would not learn to stop; use template='chatml'"
        )
    return at + len(token)


def _render(
    messages: Sequence[Message], template: ChatTemplate, add_generation_prompt: bool, marks: bool
) -> tuple[str, list[tuple[int, int]]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered: Any = render_jinja_template(
            conversations=[[{"role": m.role, "content": m.content} for m in messages]],
            chat_template=template.source,
            return_assistant_tokens_mask=marks,
            add_generation_prompt=add_generation_prompt,
            **template.variables,
        )
    except Exception as error:  # a template is a program: it may raise anything
        reason = str(error) or type(error).__name__
        raise InputError(f"the chat template ({template.name}) refuses the conversation: {reason}") from error
    texts, indices = rendered if isinstance(rendered, tuple) else (rendered, [[]])
    return texts[0], [(int(a), int(b)) for a, b in indices[0]] if marks else []
