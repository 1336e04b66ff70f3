"""The class of each token: what kind of text it is, in prose, in mathematics and in code.

Classes: ``connective``, ``number``, ``operator``, ``latex``, ``prose``, ``punctuation``, ``tag`` (markup of
the trace such as ``<think>``), ``space``, ``special`` (no characters of its own) and, in code, ``code:`` with
the Pygments token type in small letters (``code:keyword``, ``code:name.function``, ``code:literal.number``
...).
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from infra.spans.align import token_positions
from infra.spans.lexicon import CONNECTIVE
from infra.spans.regions import Region, regions

# Each character gets a class code; a token takes that of its first non-space character.
_PROSE, _PUNCTUATION, _SPACE, _NUMBER, _OPERATOR, _LATEX, _CONNECTIVE, _TAG = range(8)
_NAMES = ("prose", "punctuation", "space", "number", "operator", "latex", "connective", "tag")
CLASSES = (*_NAMES, "special")
"""Every class outside code."""
_OPERATOR_CHARS = "+-*/=<>^%±×÷·⋅≤≥≠≈→⇒∴√∑∏∫∈∪∩−∗∧∨¬∣⁄"
_WORD_OR_NUMBER = re.compile(
    r"(?P<tag></?(?:think|thinking|answer|reasoning)>|<\|\w+\|>)"
    r"|(?P<number>(?<![A-Za-z_])\d+(?:[.,]\d+)*|[²³¹⁰-⁹½⅓⅔¼¾]+)"
    r"|(?P<hyphen>(?<=[A-Za-z])-(?=[A-Za-z]))"
    rf"|(?P<operator>[{re.escape(_OPERATOR_CHARS)}]+)"
    r"|(?P<space>\s+)"
    r"|(?P<punctuation>[^\w\s])"
)
_CODES = {
    "tag": _TAG,
    "number": _NUMBER,
    "hyphen": _PROSE,
    "operator": _OPERATOR,
    "space": _SPACE,
    "punctuation": _PUNCTUATION,
}
_IN_MATH = re.compile(rf"\d+(?:[.,]\d+)*|[{re.escape(_OPERATOR_CHARS)}]+|\s+")
_FENCE_HEAD = re.compile(r"[ \t]{0,3}(?:`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n]*\n?")


def token_classes(text: str, offsets: ArrayLike) -> list[str]:
    """Class of each of ``T`` tokens with character ``offsets`` ``[T, 2]`` into ``text``.

    Code is what stands in a fence or inline ticks, and unfenced Python (a line that begins a definition or an
    import, with the lines that follow it); it is lexed by Pygments in the fence's language, Python where none
    is named. Connectives are phrases of :mod:`infra.spans.lexicon`.
    """
    table = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    position = token_positions(table, text)
    codes, extra = character_classes(text)
    names = [*_NAMES, *extra]
    return [
        "special" if (end <= start and at < 0) or at >= len(text) else names[codes[at]]
        for (start, end), at in zip(table.tolist(), position.tolist())
    ]


def character_classes(text: str) -> tuple[np.ndarray, list[str]]:
    """Class code of each character, int16 ``[len(text)]``, and the names of the codes from 8 on
    (``code:...``)."""
    codes = np.zeros(len(text), dtype=np.int16)
    for m in _WORD_OR_NUMBER.finditer(text):
        codes[m.start() : m.end()] = _CODES[str(m.lastgroup)]
    for m in CONNECTIVE.finditer(text):
        codes[m.start() : m.end()] = _CONNECTIVE
    extra: dict[str, int] = {}
    for region in regions(text):
        if region.kind in ("fence", "code", "inline_code"):
            _code(text, region, codes, extra)
        else:
            _mathematics(text, region, codes)
    return codes, list(extra)


def _mathematics(text: str, region: Region, codes: np.ndarray) -> None:
    codes[region.start : region.end] = _LATEX
    for m in _IN_MATH.finditer(text, region.start, region.end):
        c = m.group()[0]
        codes[m.start() : m.end()] = _NUMBER if c.isdigit() else _SPACE if c.isspace() else _OPERATOR


def _code(text: str, region: Region, codes: np.ndarray, extra: dict[str, int]) -> None:
    start, end, language = region.start, region.end, "python"
    codes[start:end] = _PUNCTUATION
    if region.kind == "fence":
        head = _FENCE_HEAD.match(text, start, end)
        if head is not None:
            language, start = head[1] or "python", head.end()
        tail = text.rfind("\n", start, end) + 1
        if tail > start and text[tail:end].strip(" \t`~") == "":
            end = tail
    elif region.kind == "inline_code":
        start, end = start + 1, end - 1
    for at, kind, piece in _lexer(language).get_tokens_unprocessed(text[start:end]):
        name = str(kind).removeprefix("Token").lower().lstrip(".") or "text"
        code = extra.setdefault(f"code:{name}", len(_NAMES) + len(extra))
        codes[start + at : start + at + len(piece)] = code


@lru_cache(maxsize=32)
def _lexer(language: str) -> Lexer:
    try:
        return get_lexer_by_name(language.lower())
    except ClassNotFound:
        return get_lexer_by_name("python")
