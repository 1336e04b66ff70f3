r"""Boxes in a response: ``\boxed{5}``, ``\boxed 5``, ``\fbox{5}``, and sentences that only speak about them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ._clean import closing

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])(?:[ \t]*\n?[ \t]*(?=\{)|[ \t]*)")
_PLACEHOLDER = re.compile(
    r"(?:\s|\\[,;:! ]|~|\.|…|_|\?|\\[lc]?dots|\\cdots?|\\square|\\Box|\\(?:text|mathrm|textbf)\s*(?=\{)|[{}<>\[\]]"
    r"|\\?(?:hphantom|phantom|quad)|(?<![a-z])(?:your|the|final|correct|answer|result|value|here|solution|ans)(?![a-z]))*",
    re.IGNORECASE,
)
_SPOKEN_BEFORE = re.compile(
    r"\b(?:in|inside|within|into|using|uses?|used|with|via|by|through|the|an?|this|called|command|format)"
    r"[\s\"'`“‘$({]*(?:\\\(\s*)?$",
    re.IGNORECASE,
)
_SPOKEN_AFTER = re.compile(
    r"[\s\"'`”’$)}]*(?:\\\)\s*)?(?:notation|format|command|environment|tags?|syntax|macro|brackets?|braces|box|style|form|"
    r"expression|around|as (?:requested|asked|required|instructed))\b",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"\{[^{}\n]*\}|[-+]?\\[dt]?frac\s*(?:\{[^{}]*\}\s*\{[^{}]*\}|\d\s*\d|\{[^{}]*\}\s*\d|\d\s*\{[^{}]*\})|[-+]?\\sqrt\s*(?:\[\d+\])?"
    r"\s*(?:\{[^{}]*\}|\w)|[-+]?\\(?:pi|infty|emptyset|varnothing)(?![a-zA-Z])|[-+]?[$€£]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?%?"
    r"|\([^()\n]*\)|\\text\s*\{[^{}]*\}|[A-Za-z](?![A-Za-z])"
)
_MATH_ENDS = re.compile(r"\$|\\\)|\\\]|\n|\\\\")


@dataclass(frozen=True, slots=True)
class Box:
    """One box. ``content`` is None where the box is never closed; ``spoken_of`` where a sentence only mentions it."""

    content: str | None
    spoken_of: bool = False


def last_box(text: str) -> Box | None:
    r"""The last box that no sentence only speaks about, or None. ``\boxed`` without braces or a value is no box."""
    for match in reversed(list(_BOX.finditer(text))):
        box = _box(text, match)
        if box is not None and not box.spoken_of:
            return box
    return None


def _box(text: str, match: re.Match[str]) -> Box | None:
    start = match.end()
    if text[start : start + 1] != "{":
        bare = _bare(text, match.start(), start)
        return None if bare is None else Box(bare)
    end = closing(text, start)
    if end is None:
        return Box(None)
    content = text[start + 1 : end]
    about = _PLACEHOLDER.fullmatch(content) is not None and (
        _SPOKEN_BEFORE.search(text[max(0, match.start() - 40) : match.start()]) is not None
        or _SPOKEN_AFTER.match(text, end + 1) is not None
        or (text[max(0, match.start() - 1) : match.start()] == "`" and text[end + 1 : end + 2] == "`")
    )
    return Box(content, about)


def _bare(text: str, before: int, start: int) -> str | None:
    r"""What ``\boxed`` without braces holds: the rest of its formula, where that is closed at once, else one value."""
    ends = _MATH_ENDS.search(text, start)
    inside = ends is not None and ends.group() != "\n" and _opens(text, before)
    if inside and ends is not None:
        whole = text[start : ends.start()].strip().rstrip(".,;")
        if whole and (re.search(r"[\d\\]", whole) or len(whole.split()) == 1):
            return whole
    value = _BARE.match(text, start)
    if value is None:
        return None
    if value.group().isalpha() and not inside and not value.group().isupper():
        return None  # "\boxed a" in a sentence is its article
    return value.group()


def _opens(text: str, before: int) -> bool:
    """Whether position ``before`` lies inside a formula of its line."""
    line = text[text.rfind("\n", 0, before) + 1 : before]
    return line.count("$") % 2 == 1 or line.rfind("\\(") > line.rfind("\\)") or line.rfind("\\[") > line.rfind("\\]")
