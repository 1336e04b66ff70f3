"""Chat templates: which one is used with a tokenizer, and conversations rendered with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.data.schema import Message
from infra.errors import InputError

CHATML = (
    "{{ turn_start }}"
    "{% set ns = namespace(first=0) %}"
    "{% if tools %}"
    "{{ '<|im_start|>system\\n' }}"
    "{% if messages[0]['role'] == 'system' %}{% set ns.first = 1 %}{{ messages[0]['content'] + '\\n\\n' }}{% endif %}"
    "{{ '<tools>\\n' }}{% for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}"
    "{{ '</tools>' + turn_end + '\\n' }}"
    "{% endif %}"
    "{% for message in messages[ns.first:] %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] or '' }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '\\n' if message['content'] or not loop.first }}"
    "{{ '<tool_call>\\n{\"name\": \"' + call['function']['name'] + '\", \"arguments\": ' }}"
    "{{ call['function']['arguments'] | tojson + '}\\n</tool_call>' }}"
    "{% endfor %}{{ turn_end }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ message['content'] + turn_end + '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML; tools and calls of tools in the JSON form that Hermes made usual."""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template ready to use: its source, a name to report, and what closes a turn.

    ``ends`` are the special tokens that may close a turn, the longest first.
    """

    source: str
    name: str
    marks_generation: bool
    ends: tuple[str, ...]
    variables: dict[str, Any]


def resolve_template(tokenizer: Any, template: str | None = None) -> ChatTemplate:
    """The chat template to use with a tokenizer.

    ChatML closes turns with ``<|im_end|>`` where the vocabulary has it, else with the tokenizer's end-of-sequence
    token. It begins with the beginning-of-sequence token of a tokenizer that puts one before every text (Llama 3).

    Args:
        tokenizer: the model's.
        template: None (the tokenizer's own, else ChatML), ``"chatml"``, the name of one of the tokenizer's templates,
            or the source of a Jinja template.

    Raises:
        InputError: there is nothing to close a turn with.
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


def render_text(
    messages: Sequence[Message],
    template: ChatTemplate,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = False,
) -> str:
    """The conversation as text. Raises :class:`InputError` where the template refuses it."""
    return _render(messages, template, tools, add_generation_prompt, False)[0]


def render_marked(
    messages: Sequence[Message], template: ChatTemplate, *, tools: Sequence[Mapping[str, Any]] = ()
) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as text, and the ``[start, end)`` characters of its ``{% generation %}`` blocks."""
    return _render(messages, template, tools, False, True)


def _render(
    messages: Sequence[Message],
    template: ChatTemplate,
    tools: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool,
    marks: bool,
) -> tuple[str, list[tuple[int, int]]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    calls = any(m.tool_calls for m in messages)
    # most templates take the arguments of a call as an object, as transformers documents it; a few as a text
    for form in (_as_object, _as_text) if calls else (_as_object,):
        try:
            rendered: Any = render_jinja_template(
                conversations=[[form(m) for m in messages]],
                tools=[dict(tool) for tool in tools] or None,
                chat_template=template.source,
                return_assistant_tokens_mask=marks,
                add_generation_prompt=add_generation_prompt,
                **template.variables,
            )
            break
        except Exception as error:  # a template is a program: it may raise anything
            failure = error
    else:
        reason = str(failure) or type(failure).__name__
        raise InputError(f"the chat template ({template.name}) refuses the conversation: {reason}") from failure
    texts, indices = rendered if isinstance(rendered, tuple) else (rendered, [[]])
    return texts[0], [(int(a), int(b)) for a, b in indices[0]] if marks else []


def _as_object(message: Message) -> dict[str, Any]:
    """The message as templates expect it; arguments of calls as JSON objects."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"type": "function", "id": c.id, "function": {"name": c.name, "arguments": json.loads(c.arguments)}}
            for c in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        turn["name"] = message.name
    return turn


def _as_text(message: Message) -> dict[str, Any]:
    """The same with arguments as JSON texts, and no content at all where there is none."""
    turn = _as_object(message)
    for call, given in zip(turn.get("tool_calls", []), message.tool_calls):
        call["function"]["arguments"] = given.arguments
    return turn | {"content": message.content or None}
