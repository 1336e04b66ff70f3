r"""The final answer inside a response: its last box, else what a tag, ``####``, a heading or a sentence announces."""

from __future__ import annotations

from typing import NamedTuple

from . import _sentences
from ._boxes import last_box
from ._thinking import spoken


class Extracted(NamedTuple):
    """``answer`` as written, or None with the reason in ``why``."""

    answer: str | None
    why: str


def final_answer(response: str) -> Extracted:
    r"""The answer a response ends on.

    Thinking is set apart first. The last box counts, also before a later sentence; one that is never closed is no
    answer, because the response was cut there, and earlier boxes are not what it ends on. Boxes that a sentence only
    speaks about ("inside \boxed{}") do not count. Without any box it is the last ``<answer>``, else the last ``####``,
    heading or sentence that announces a value, else a last line that is nothing but a value.
    """
    text = spoken(response)
    if text is None:
        return Extracted(None, "the response was cut off while thinking")
    box = last_box(text)
    if box is not None:
        if box.content is None:
            return Extracted(None, "the last box is never closed")
        if not box.content.strip():
            return Extracted(None, "the last box is empty")
        return Extracted(box.content, "the last box")
    inside = _tagged(text)
    if inside is not None:
        return Extracted((_sentences.announced(inside) or inside) or None, "the last <answer> tag")
    announced = _sentences.announced(text) or _sentences.concluded(text)
    if announced is None:
        return Extracted(None, "no box, and no sentence that announces an answer")
    return Extracted(announced, "announced in a sentence")


def _tagged(text: str) -> str | None:
    """What the last closed ``<answer>`` tag holds."""
    lower = text.lower()
    end = lower.rfind("</answer>")
    start = lower.rfind("<answer>", 0, max(end, 0))
    return text[start + len("<answer>") : end].strip() if start >= 0 else None
