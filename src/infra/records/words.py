r"""Byte-level BPE through a memory of words: the same ids and offsets as the tokenizers library, at less cost.

A byte-level tokenizer first cuts the text into words by a regular expression and then merges bytes inside each word.
Reasoning traces repeat their words, so here the cut is made by Python's ``re``, every word met before is looked up,
and only new words go to the library's model. Offsets follow from the number of bytes of each token.

Only tokenizers whose parts are known are served (:func:`word_encoder` gives None for any other), and only texts whose
characters have the same class in every version of Unicode since 3.2, because the library's tables and Python's need
not be of one version. Everything else goes through the library.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_WORDS = 400_000
"""Words remembered before the memory starts anew."""
LONGEST = 128
"""Characters; a longer word is not remembered."""
LONGEST_NUMBER = 4
"""Digits; there are too many longer numbers."""

# the expressions of Qwen2, 2.5 and 3, and of Llama 3: they differ in how digits are grouped
_KNOWN = re.compile(
    re.escape(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}")
    + r"(?P<digits>(?:\{1,3\})?)"
    + re.escape(r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
)


class WordEncoder:
    """Ids and offsets of a text without special tokens being added, or None where the library must be asked."""

    def __init__(self, core: Any, digits: str, nfc: bool) -> None:
        letters, numbers, spaces, self._unstable = _classes()
        cut = (
            f"'(?:[sStTmMdD]|[rRvV][eE]|[lL]{{2}})|[^\\r\\n{letters}{numbers}]?[{letters}]+|[{numbers}]+"
            f"| ?[^{spaces}{letters}{numbers}]+[\\r\\n]*|[{spaces}]*[\\r\\n]+|[{spaces}]+(?![^{spaces}])|[{spaces}]+"
        )
        self._cut = re.compile(cut).findall
        added = {t.content: i for i, t in core.get_added_tokens_decoder().items()}
        self._added = re.compile("|".join(re.escape(t) for t in sorted(added, key=len, reverse=True)) or r"(?!)")
        self._nfc = nfc
        table = np.zeros(max(core.get_vocab_size(), 1 + max(core.get_vocab().values())), dtype=np.int32)
        for token, number in core.get_vocab(with_added_tokens=False).items():
            table[number] = len(token)
        for token, number in added.items():
            table[number] = len(token.encode())
        self._n_bytes = table
        # a run of digits is one word here, and cut into the library's words when it is new
        self._ids = _Words(core.model, re.compile(f"[{numbers}]{digits}"))
        self._special = added

    def __call__(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int32]] | None:
        """Ids int64 ``[T]`` and character offsets int32 ``[T, 2]``."""
        plain = text.isascii()
        if not plain and (self._unstable(text) or (self._nfc and not unicodedata.is_normalized("NFC", text))):
            return None
        pieces: list[Any] = []
        at, look = 0, self._ids.__getitem__
        for found in self._added.finditer(text):
            pieces.append(chain.from_iterable(map(look, self._cut(text, at, found.start()))))
            pieces.append((self._special[found[0]],))
            at = found.end()
        pieces.append(chain.from_iterable(map(look, self._cut(text, at))))
        ids = np.fromiter(chain.from_iterable(pieces), dtype=np.int64)
        ends = np.cumsum(self._n_bytes[ids], dtype=np.int32)
        starts = ends - self._n_bytes[ids]
        if not plain:
            raw = np.frombuffer(text.encode(), dtype=np.uint8)
            character = np.cumsum((raw & 0xC0) != 0x80, dtype=np.int32) - 1
            starts, ends = character[starts], character[ends - 1] + 1
        return ids, np.stack([starts, ends], axis=1)


class _Words(dict[str, tuple[int, ...]]):
    """Word -> ids; a new word is asked of the library's model."""

    def __init__(self, model: Any, digits: re.Pattern[str]) -> None:
        super().__init__()
        self._model = model
        self._digits = digits
        self._byte = _byte_alphabet()

    def __missing__(self, word: str) -> tuple[int, ...]:
        if self._digits.match(word) and len(parts := self._digits.findall(word)) > 1:
            ids = tuple(chain.from_iterable(map(self.__getitem__, parts)))
            longest = LONGEST_NUMBER
        else:
            tokens = self._model.tokenize(word.encode().decode("latin-1").translate(self._byte))
            ids, longest = tuple(t.id for t in tokens), LONGEST
        if len(word) <= longest:
            if len(self) >= MAX_WORDS:
                self.clear()
            self[word] = ids
        return ids


def word_encoder(core: Any) -> WordEncoder | None:
    """The encoder for a ``tokenizers.Tokenizer`` whose parts are all known, else None."""
    try:
        parts = json.loads(core.pre_tokenizer.__getstate__())["pretokenizers"]
        split, to_bytes = parts
        pattern = _KNOWN.fullmatch(split["pattern"]["Regex"])
        normaliser = None if core.normalizer is None else json.loads(core.normalizer.__getstate__())["type"]
        after = [] if core.post_processor is None else json.loads(core.post_processor.__getstate__())
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    model = core.model
    known = (
        pattern is not None
        and (split["type"], split["behavior"], split["invert"]) == ("Split", "Isolated", False)
        and (to_bytes["type"], to_bytes["add_prefix_space"], to_bytes["use_regex"]) == ("ByteLevel", False, False)
        and normaliser in (None, "NFC")
        and type(model).__name__ == "BPE"
        and not model.dropout
        and not (model.continuing_subword_prefix or model.end_of_word_suffix or model.byte_fallback)
        and not _trims(after)
        and core.truncation is None
        and core.padding is None
        and not any(t.lstrip or t.rstrip or t.single_word for t in core.get_added_tokens_decoder().values())
    )
    if not known or pattern is None:
        return None
    return WordEncoder(core, pattern["digits"], normaliser == "NFC")


def _trims(after: Any) -> bool:
    """True when a post-processor moves offsets off leading spaces."""
    if isinstance(after, dict):
        return bool(after.get("type") in ("ByteLevel", "RobertaProcessing") and after.get("trim_offsets")) or any(
            _trims(v) for v in after.values()
        )
    return isinstance(after, list) and any(_trims(v) for v in after)


@cache
def _classes() -> tuple[str, str, str, Callable[[str], Any]]:
    """Letters, numbers and white space as the insides of character sets, and a search for unstable characters."""
    old = unicodedata.ucd_3_2_0
    kinds: dict[str, list[int]] = {"L": [], "N": [], "S": [], "stable": []}
    white = {9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, *range(0x2000, 0x200B)}
    for point in range(0x10000):  # beyond, a set is slow to search
        now, then = unicodedata.category(chr(point)), old.category(chr(point))
        if {now, then} & {"Cn", "Cs", "Co"} or (now[0] != then[0] and {now[0], then[0]} & {"L", "N", "Z"}):
            continue
        kinds["stable"].append(point)
        if now[0] in "LN":
            kinds[now[0]].append(point)
        if point in white:
            kinds["S"].append(point)
    search = re.compile(f"[^{_ranges(kinds['stable'])}]").search
    return _ranges(kinds["L"]), _ranges(kinds["N"]), _ranges(kinds["S"]), search


def _ranges(points: list[int]) -> str:
    """Sorted code points as ranges for a character set."""
    out, start = [], points[0]
    for before, point in zip(points, [*points[1:], sys.maxunicode + 2]):
        if point != before + 1:
            out.append(f"\\u{start:04x}-\\u{before:04x}")
            start = point
    return "".join(out)


def _byte_alphabet() -> dict[int, int]:
    """Byte -> the printable character that stands for it in a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: b for b in printable} | {b: 256 + i for i, b in enumerate(others)}
