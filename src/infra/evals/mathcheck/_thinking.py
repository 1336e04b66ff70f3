"""Thinking set apart: what a model writes between its thinking tags is not its answer."""

from __future__ import annotations

import re

_TAGS = re.compile(
    r"(?P<open><(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|seed:think)>|\[THINK\]|◁think▷"
    r"|<\|begin_of_thought\|>|<\|channel\|>analysis<\|message\|>)"
    r"|(?P<close></(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|seed:think)>|\[/THINK\]|◁/think▷"
    r"|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>)",
    re.IGNORECASE,
)
_END_MARKS = re.compile(
    r"(?:<\|(?:im_end|eot_id|endoftext|end_of_text|end|return|eom_id|end_of_solution)\|>|</s>|<eos>|<end_of_turn>"
    r"|<\|begin_of_solution\|>|<｜end▁of▁sentence｜>)$"
)


def spoken(response: str) -> str | None:
    """The response without its thinking and end-of-turn marks; None where it was cut off while thinking.

    A closing tag whose opening tag was part of the prompt ends the thinking too. A tag in quotation marks or backticks
    is a word about tags.
    """
    kept: list[str] = []
    start, thinking = 0, False
    for tag in _TAGS.finditer(response):
        if not thinking and response[max(0, tag.start() - 1) : tag.start()] in ("`", '"', "'"):
            continue
        if tag.lastgroup == "open":
            if not thinking:
                kept.append(response[start : tag.start()])
            thinking = True
        elif thinking:
            thinking, start = False, tag.end()
        else:
            kept, start = [], tag.end()
    if thinking:
        return None
    text = "".join((*kept, response[start:])).rstrip()
    while (mark := _END_MARKS.search(text, max(0, len(text) - 40))) is not None:
        text = text[: mark.start()].rstrip()
    return text
