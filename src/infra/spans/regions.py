"""Stretches of a text that must stay whole: code fences, unfenced code, mathematics.

One left-to-right scan in linear time. An opener without its closer protects nothing, except a code fence,
which then runs to the end of the text as in CommonMark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KINDS = ("fence", "code", "inline_code", "display_math", "inline_math", "figure")


@dataclass(frozen=True, slots=True)
class Region:
    """Characters ``[start, end)`` of one protected stretch; ``kind`` is one of :data:`KINDS`."""

    start: int
    end: int
    kind: str


_OPENER = re.compile(
    r"^[ \t]{0,3}(?P<fence>`{3,}|~{3,})[^\n]*$"
    r"|(?P<code>^(?:(?:async )?def \w+\(|class \w+[(:]|import \w|from [\w.]+ import |@\w+))"
    r"|(?P<escape>\\[$`\\](?!\[|\())"
    r"|(?P<begin>\\begin\{(?P<env>[A-Za-z]+\*?)\})"
    r"|(?P<bracket>\\\[)|(?P<paren>\\\()"
    r"|(?P<boxed>\\(?:boxed|fbox|text)\{)"
    r"|(?P<asy>\[asy\])"
    r"|(?P<dollars>\$\$)|(?P<dollar>\$(?=[^\s$]))"
    r"|(?P<tick>`(?=[^`\n]))",
    re.MULTILINE,
)
_CODE_LINE = re.compile(
    r"[ \t]+\S|[ \t]*$|(?:async )?def \w+\(|class \w+[(:]|import \w|from [\w.]+ import |@\w+|#|\)|\]|\}"
    r"|(?:if|for|while|with|elif|else|try|except|finally)\b.*:\s*(?:#.*)?$|return\b|assert |print\(|\w+ ?[-+*/|&]?= ?\S"
)
_MARKS = ("`", "~", "\\", "$", "@", "def ", "import ", "class ", "[asy]")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_LONGEST_INLINE = 400


class _Finder:
    """``text.find`` that remembers a closer which does not occur any more, so that a scan stays linear."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.absent: set[str] = set()

    def __call__(self, closer: str, start: int) -> int:
        if closer in self.absent:
            return -1
        at = self.text.find(closer, start)
        if at < 0:
            self.absent.add(closer)
        return at


def regions(text: str) -> list[Region]:
    """Protected stretches of ``text``, sorted, without overlap.

    A ``$`` opens inline mathematics only where a closing ``$`` follows within the paragraph, at most 400
    characters on, with no space before it and no digit after it (so "$5 and $6" is money).
    """
    if not any(mark in text for mark in _MARKS):
        return []
    found: list[Region] = []
    find = _Finder(text)
    at = 0
    while (m := _OPENER.search(text, at)) is not None:
        region = _close(text, m, find)
        if region is None:
            at = max(m.end() if m["fence"] is None else m.end("fence"), at + 1)
        else:
            found.append(region)
            at = region.end
    return found


def _close(text: str, m: re.Match[str], find: _Finder) -> Region | None:
    """The region that the opener ``m`` begins, or None where it opens nothing."""
    start = m.start()
    if m["fence"] is not None:
        return Region(start, _fence_end(text, m), "fence")
    if m["code"] is not None:
        return _unfenced_code(text, start)
    if m["tick"] is not None:
        end = find("`", m.end())
        inside = end >= 0 and "\n" not in text[m.end() : min(end, m.end() + _LONGEST_INLINE)]
        return Region(start, end + 1, "inline_code") if inside and end - start <= _LONGEST_INLINE else None
    if m["boxed"] is not None:
        end = _brace_end(text, m.end()) if find("}", m.end()) >= 0 else -1
        return Region(start, end, "inline_math") if end > 0 else None
    if m["dollar"] is not None:
        return _inline_math(text, start, find)
    for group, closer, kind in (
        ("begin", f"\\end{{{m['env']}}}", "display_math"),
        ("bracket", "\\]", "display_math"),
        ("paren", "\\)", "inline_math"),
        ("dollars", "$$", "display_math"),
        ("asy", "[/asy]", "figure"),
    ):
        if m[group] is not None:
            end = find(closer, m.end())
            return Region(start, end + len(closer), kind) if end >= 0 else None
    return None


def _fence_end(text: str, m: re.Match[str]) -> int:
    """End of the fence: after the closing line's characters, or the end of the text."""
    mark = m["fence"]
    at = m.end()
    while True:
        line = text.find("\n", at) + 1
        if line == 0:
            return len(text)
        stop = text.find("\n", line)
        stop = len(text) if stop < 0 else stop
        body = text[line:stop].strip()
        if body.startswith(mark) and not body.strip(mark[0]):
            return stop
        at = stop


def _unfenced_code(text: str, start: int) -> Region:
    """Consecutive lines that read as Python from ``start`` on, without the blank lines at their end."""
    end = at = start
    while at < len(text):
        stop = text.find("\n", at)
        stop = len(text) if stop < 0 else stop
        line = text[at:stop]
        if not _CODE_LINE.match(line):
            break
        if line.strip():
            end = stop
        at = stop + 1
    return Region(start, max(end, start + 1), "code")


def _brace_end(text: str, at: int) -> int:
    """Position after the ``}`` that closes a group opened just before ``at``; -1 within 400 characters of
    none."""
    depth = 1
    for i in range(at, min(len(text), at + _LONGEST_INLINE)):
        c = text[i]
        if c == "{" and text[i - 1] != "\\":
            depth += 1
        elif c == "}" and text[i - 1] != "\\":
            depth -= 1
            if depth == 0:
                return i + 1
    return -1


def _inline_math(text: str, start: int, find: _Finder) -> Region | None:
    """``$...$`` under the rule of :func:`regions`."""
    end = find("$", start + 1)
    while end > 0 and text[end - 1] == "\\":
        end = find("$", end + 1)
    if end < 0 or end - start > _LONGEST_INLINE or text[end - 1].isspace():
        return None
    if text[end + 1 : end + 2].isdigit() or _BLANK_LINE.search(text, start, end):
        return None
    return Region(start, end + 1, "inline_math")
