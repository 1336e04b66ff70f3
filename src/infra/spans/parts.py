"""Thinking and solution: the two parts that reasoning traces mark with tags."""

from __future__ import annotations

import re
from typing import Literal

Part = Literal["thinking", "solution"]

# Every pair that common traces use: DeepSeek-R1 and Qwen3, Bespoke-Stratos and OpenThoughts, and two older
# ones.
_TAG = re.compile(
    r"<think>|<thinking>|<reasoning>|<\|begin_of_thought\|>"
    r"|(?P<close></think>|</thinking>|</reasoning>|<\|end_of_thought\|>)"
)


def parts(text: str) -> list[tuple[int, int, Part]]:
    """Partition of ``text`` into thinking and solution: ``(start, end, kind)``, in order, without a gap.

    Tags and the white space around them belong to the thinking they enclose. A closing tag without an opening
    one ends thinking that began at 0 (chat templates that already wrote ``<think>``); an opening tag that
    never closes runs to the end (a truncated trace). Text without tags is all solution.
    """
    spans: list[tuple[int, int, Part]] = []
    done, opened = 0, -1
    for m in _TAG.finditer(text):
        if m["close"] is None:
            if opened < 0:
                opened = m.start()
            continue
        if opened < 0:
            if any(kind == "thinking" for _, _, kind in spans):
                continue
            opened = done
        end = m.end()
        while end < len(text) and text[end].isspace():
            end += 1
        _add(spans, text, done, opened, end)
        done, opened = end, -1
    if opened >= 0:
        _add(spans, text, done, opened, len(text))
        done = len(text)
    if done < len(text):
        spans.append((done, len(text), "solution"))
    return spans


def _add(spans: list[tuple[int, int, Part]], text: str, done: int, opened: int, end: int) -> None:
    """Append thinking ``[opened, end)`` and, when it is not blank, the solution ``[done, opened)`` before
    it."""
    if text[done:opened].strip():
        spans.append((done, opened, "solution"))
    else:
        opened = done
    spans.append((opened, end, "thinking"))
