"""The final answer inside a response: the last boxed one, or what the usual closing phrases announce."""

from __future__ import annotations

import re

_BOXED = re.compile(r"\\(?:boxed|fbox|framebox)\s*")
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_HASHES = re.compile(r"####\s*([^\n]+)")
_SAID = re.compile(
    r"(?:(?:final answer|answers?)\s*(?:\*\*)?\s*(?:is|are|:|=)|final answer\s*(?:\*\*)?\s*\n)\s*:?\s*(?:\*\*)?\s*"
    r"(?:(?:therefore|thus|simply|just|equal to|given by)\s+)?(.+?)(?:\*\*)?\s*(?:\.\s*(?=\n|$)|\.\s+[A-Z]|\n|$)",
    re.IGNORECASE,
)


def last_boxed(text: str) -> str | None:
    """Content of the last ``\\boxed{...}`` with balanced braces (``\\boxed 5`` too), or None.

    An unclosed last box is not an answer: the response was cut there, and earlier boxes are not what it
    ends on.
    """
    last = None
    for match in _BOXED.finditer(text):
        last = match
    if last is None:
        return None
    start = last.end()
    if start >= len(text) or text[start] != "{":
        bare = re.match(r"[^\s$\\{}.,;]+", text[start:])
        return bare.group() if bare else None
    depth, i = 0, start
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start + 1 : i]
        i += 1
    return None


def final_answer(text: str) -> str | None:
    """The last boxed answer; without any box the last ``<answer>``, ``####`` or "the answer is"; else None."""
    if _BOXED.search(text):
        return last_boxed(text)
    for pattern in (_TAG, _HASHES, _SAID):
        found = pattern.findall(text)
        if found:
            inside = str(found[-1]).strip()
            return inside or None
    return None
