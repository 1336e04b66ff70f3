"""Steps: a lossless partition of a chain of thought.

Mask, split, unmask: protected regions (code, mathematics) become filler of the same length, a sentence
splitter sees plain ASCII of the same length, and its boundaries are carried back to the text, so offsets
never move.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import sentencex

from infra.errors import RecipeError
from infra.spans.lexicon import OPENING
from infra.spans.parts import parts
from infra.spans.regions import Region, regions

Rule = Literal["sentences", "blank_lines", "connectives"]
RULES: tuple[Rule, ...] = ("sentences", "blank_lines", "connectives")

_BLANK = re.compile(r"\n[ \t\r]*\n\s*")
_NEWLINE = re.compile(r"\n\s*")
_TAGS = re.compile(r"(?:</?answer>|<\|(?:begin|end)_of_solution\|>)\s*", re.IGNORECASE)
# Where the splitter takes a variable or a unit for an abbreviation: "so y = m. Then", "is 7 cm. So".
_MISSED = re.compile(
    r"(?:(?<=[=+\-*/<>^] [A-Za-z])|(?<=[=+\-*/<>^][A-Za-z])|(?<=\d [a-z])|(?<=\d[a-z])|(?<=\d [a-z]{2})|(?<=\d[a-z]{2})"
    r"|(?<=\d [a-z]{3})|(?<= [b-hj-z])|(?<=\b(?:to|is|of|by|be|at) [A-Za-z])|(?<=\bpoint [A-Z]))\.\s+(?=[A-Z])"
)
_FULL_WIDTH = re.compile(r"[。！？](?=[^\s。！？」』”’)])")
_CLOSERS = re.compile(r"[*_\"'”’)\]]+\s*")
# A segment that is only a list marker or a step number belongs to what it announces.
_MARKER = re.compile(
    r"[\s*_#>(\[-]*(?:(?:step|case|part|method|approach|option)\s+)?(?:\d{1,3}|[ivx]{1,4}|[A-Za-z])?"
    r"[.):*_\s\]-]*",
    re.IGNORECASE,
)
_LIST_MARKER = re.compile(
    r"^[ \t]*(?:[-*+]|\(?\w{1,3}[.)])(?=\s)|(?<=\s)\(\w{1,3}\)(?=\s)|(?<=\s)\w{1,3}\)\s", re.MULTILINE
)
_INLINE_ITEM = re.compile(r"(?<=:)\s+(?=\(?1\)\s)")
_OPENING_TAG = re.compile(r"\s*(?:<\w+>|<\|begin_of_\w+\|>)\s*")
_CLOSING_TAG = re.compile(r"\s*(?:</\w+>|<\|end_of_\w+\|>)\s*")
_TRAILING_OFF = re.compile(r"(?:\.\.+|…)\s*$")


class _Ascii(dict[int, int]):
    """``str.translate`` table: every character outside ASCII to an ASCII one of the same kind.

    The splitter indexes bytes and panics on some multi-byte characters (U+2028 after a full stop); with ASCII
    its bytes are our characters.
    """

    def __missing__(self, code: int) -> int:
        c = chr(code)
        if code < 128:
            stand_in = c
        elif c.isspace():
            stand_in = " "
        elif c == "…":
            stand_in = ","
        else:
            kind = unicodedata.category(c)
            stand_in = {"Lu": "X", "Lt": "X", "Nd": "7"}.get(kind, "x" if kind[0] in "LNMS" else ",")
        self[code] = ord(stand_in)
        return ord(stand_in)


_ASCII = _Ascii()


def steps(text: str, rule: Rule = "sentences") -> list[tuple[int, int]]:
    """Split ``text`` into steps ``[start, end)`` in characters: in order, none empty, joined they are
    ``text``.

    ``rule``: ``sentences`` (sentences, list items and lines), ``blank_lines`` (paragraphs) or ``connectives``
    (a new step where a sentence opens with a discourse connective). Whatever the rule, code and formulas stay
    whole, the borders between thinking and solution and around ``<answer>`` are borders of steps, and white
    space belongs to the step before it. Raises :class:`RecipeError` for another rule.
    """
    if rule not in RULES:
        raise RecipeError(f"unknown step rule {rule!r}: use one of {', '.join(RULES)}")
    if not text:
        return []
    protected = regions(text)
    forced = {start for start, _, _ in parts(text)}
    forced |= _tag_borders(text)
    cuts = {m.end() for m in _BLANK.finditer(text)}
    if rule != "blank_lines":
        cuts |= _sentence_cuts(text, protected)
    cuts |= _block_cuts(text, protected)
    cuts = _outside(cuts | forced, protected)
    spans = _tidy(text, sorted({0, len(text)} | cuts), forced)
    return spans if rule != "connectives" else _join_unless_opening(text, spans, forced)


def _sentence_cuts(text: str, protected: list[Region]) -> set[int]:
    masked = _mask(text, protected)
    cuts: set[int] = set()
    at = 0
    for sentence in sentencex.segment("en", masked):
        at += len(sentence)
        closers = _CLOSERS.match(text, at)
        if text[at - 1].isspace() or text[(closers.end() if closers else at) - 1].isspace():
            cuts.add(at)
    cuts.update(m.end() for m in _MISSED.finditer(masked))
    cuts.update(m.end() for m in _INLINE_ITEM.finditer(text))
    cuts.update(m.end() for m in _FULL_WIDTH.finditer(text))
    for m in _NEWLINE.finditer(text):
        if _line_begins_step(text, m.start(), m.end(), protected):
            cuts.add(m.end())
    moved: set[int] = set()
    for cut in cuts:
        closers = _CLOSERS.match(text, cut)
        if closers and not text[cut - 1].isspace():
            cut = closers.end()
        moved.add(cut)
    return {c for c in moved if not (_TRAILING_OFF.search(text, max(0, c - 8), c) and text[c : c + 1].islower())}


def _mask(text: str, protected: list[Region]) -> str:
    """``text`` in ASCII, same length, each protected region a single word (its closing full stop kept).

    The splitter takes ``<...>`` for a quotation, which two inequalities are not, and a run of list items for
    one unit, and even "(130 - 4) / 2" for a list.
    """
    pieces, at = [], 0
    for r in protected:
        pieces.append(text[at : r.start])
        inner = text[r.start : r.end].rstrip("$`)]}\\ ")
        stop = inner[-1:] if inner[-1:] in (".", "?", "!") and r.kind == "inline_math" else "X"
        pieces.append("X" * (r.end - r.start - 1) + stop)
        at = r.end
    pieces.append(text[at:])
    masked = "".join(pieces).replace("<", ",").replace(">", ",")
    masked = masked if masked.isascii() else masked.translate(_ASCII)
    return _LIST_MARKER.sub(lambda m: m[0][:-1] + "X" if m[0][-1].isspace() else "X" * len(m[0]), masked)


def _line_begins_step(text: str, start: int, end: int, protected: list[Region]) -> bool:
    """Whether the line break ``[start, end)`` ends a step: not inside a sentence that wraps or holds a
    formula."""
    before = text[:start].rstrip()[-1:] if start < 64 else text[start - 64 : start].rstrip()[-1:]
    if _starts_with(protected, end, "display_math"):
        return before in ".!?"
    first = text[end : end + 1]
    return before in ".:;!?" or not first.islower()


def _starts_with(protected: list[Region], at: int, kind: str) -> bool:
    i = bisect_right(protected, at, key=lambda r: r.start) - 1
    return i >= 0 and protected[i].start == at and protected[i].kind == kind


def _tag_borders(text: str) -> set[int]:
    """Borders of an answer or solution block: before its opening tag, after its closing one."""
    if "<" not in text:
        return set()
    return {m.end() if m.group().startswith(("</", "<|end")) else m.start() for m in _TAGS.finditer(text)}


def _block_cuts(text: str, protected: list[Region]) -> set[int]:
    """Borders of code blocks: each is a step of its own, with the line break that ends it."""
    cuts: set[int] = set()
    for r in protected:
        if r.kind in ("fence", "code"):
            cuts.add(r.start)
            end = r.end
            while end < len(text) and text[end].isspace():
                end += 1
            cuts.add(end)
    return cuts


def _outside(cuts: Iterable[int], protected: list[Region]) -> set[int]:
    """Cuts that lie inside no protected region."""
    starts = [r.start for r in protected]
    kept = set()
    for cut in cuts:
        i = bisect_right(starts, cut) - 1
        if i < 0 or cut == protected[i].start or cut >= protected[i].end:
            kept.add(cut)
    return kept


def _tidy(text: str, borders: list[int], forced: set[int]) -> list[tuple[int, int]]:
    """Join what is no step by itself: white space and bare punctuation to the step before, markers to the
    next."""
    spans: list[tuple[int, int]] = []
    carry = -1
    for start, end in pairwise(borders):
        piece = text[start:end]
        if carry >= 0 and start not in forced:
            start = carry
        elif carry >= 0:
            spans.append((carry, start))
        carry = -1
        hollow = not any(c.isalnum() for c in piece) or _CLOSING_TAG.fullmatch(piece) is not None
        marker = _MARKER.fullmatch(piece) or _OPENING_TAG.fullmatch(piece)
        if hollow and spans and spans[-1][1] == start and (start not in forced or not piece.strip()):
            spans[-1] = (spans[-1][0], end)
        elif (hollow or marker) and end < borders[-1] and "\n\n" not in piece.strip():
            carry = start
        else:
            spans.append((start, end))
    if carry >= 0:
        spans.append((carry, borders[-1]))
    return spans


def _join_unless_opening(text: str, spans: list[tuple[int, int]], forced: set[int]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start not in forced and not OPENING.match(text, start, end):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
