r"""One way to write a thinking part: ``<think>\\n...\\n</think>\\n\\n`` and the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from infra.data.fields import think
from infra.data.schema import Message, Record, Span
from infra.data.stand_ins import written


def standard_thinking(record: Record) -> Record:
    """The record with the thinking part of every assistant's turn written in the standard way.

    Chat templates that set the thinking part apart (Qwen3, Qwen3.5) write the white space around it themselves, and a
    response that has another could not be found in their text. Words are not changed; spans keep theirs. A record whose
    turns are written so already, or have no closed thinking part, comes back as it is.
    """
    messages = tuple(_standard(m) if m.role == "assistant" else m for m in record.messages)
    if messages == record.messages:
        return record
    old, new = record.response or "", messages[-1].content
    anchors = [0, *(at for start, end, _ in written(old) for at in (start, end)), len(old)]
    moved = [0, *(at for start, end, _ in written(new) for at in (start, end)), len(new)]
    spans = tuple(
        Span(int(np.interp(s.start, anchors, moved)), int(np.interp(s.end, anchors, moved)), s.labels)
        for s in record.spans
    )
    return replace(record, messages=messages, spans=spans)


def _standard(message: Message) -> Message:
    parts = {what: message.content[start:end] for start, end, what in written(message.content)}
    if "</think>" not in message.content or "the text" in parts:
        return message
    return replace(message, content=think(parts.get("the thinking part", ""), parts.get("the answer", "")))
