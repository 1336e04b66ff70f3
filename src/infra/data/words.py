r"""Byte-level BPE through a memory of words: the same ids and offsets as the tokenizers library, at less cost.

A byte-level tokenizer first cuts the text into words by a regular expression and then merges bytes inside each word.
Reasoning traces repeat their words, so here whole groups of texts are cut by operations on arrays
(:mod:`~infra.data.word_cuts`), every word met before is looked up (:mod:`~infra.data.word_memory`), and only new
words go to the library's model. Offsets follow from the number of characters of each token.

Only tokenizers whose parts are known are served (:func:`word_encoder` gives None for any other). Characters whose
class differs between versions of Unicode since 3.2 are left to the library with the words around them, because its
tables and Python's need not be of one version. Texts that are not normalised go through the library whole.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.data.word_cuts import classify, word_starts
from infra.data.word_memory import WordMemory, byte_alphabet, tokens_at

Encoded = tuple[NDArray[np.int64], NDArray[np.int32]]
"""Ids ``[T]`` and character offsets ``[T, 2]``."""
GROUP = 1 << 18
"""Characters encoded together, at least: the arrays should stay in the processor's cache."""
_BORDER = "\0"

# the expressions of Qwen2, 2.5 and 3, and of Llama 3: they differ in how digits are grouped
_KNOWN = re.compile(
    re.escape(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}")
    + r"(?P<digits>(?:\{1,3\})?)"
    + re.escape(r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
)


class WordEncoder:
    """Ids and offsets of texts without special tokens being added, or None where the library must be asked."""

    def __init__(self, core: Any, single_digits: bool, nfc: bool) -> None:
        added = sorted(((t.content, i) for i, t in core.get_added_tokens_decoder().items()), key=lambda a: -len(a[0]))
        self._split = re.compile("(" + ("|".join(re.escape(token) for token, _ in added) or "(?!)") + ")").split
        self._nfc = nfc
        self._words = WordMemory(core, added, single_digits)

    def __call__(self, texts: Iterable[str]) -> Iterator[Encoded | None]:
        """For each text its ids and offsets, or None."""
        group: list[str] = []
        size = 0
        for text in texts:
            group.append(text)
            size += len(text)
            if size >= GROUP:
                yield from self._encode(group)
                group, size = [], 0
        if group:
            yield from self._encode(group)

    def _encode(self, texts: list[str]) -> list[Encoded | None]:
        """All texts as one, with borders at its ends, between texts, and in place of added tokens."""
        refused = np.array([not _can_be_joined(text) for text in texts])
        pieces = [self._split("" if no else text) for no, text in zip(refused, texts)]
        joined = _BORDER.join(["", *(plain for text in pieces for plain in text[::2]), ""])
        units = np.frombuffer(joined.encode("utf-16-le"), dtype=np.uint16)
        low, classes, high = classify(units)
        starts = word_starts(low, classes)
        borders = np.flatnonzero(units == 0)
        last = np.cumsum([len(text) // 2 + 1 for text in pieces])  # the border after each text
        if self._nfc and len(high):
            refused |= self._changed(texts, units, high)

        places = self._words.places(units, low, classes, high, starts)
        words = np.searchsorted(starts, borders)
        added = [[*(self._words.added[token] for token in text[1::2]), 0] for text in pieces]
        places[words[1:]] = [place for text in added for place in text]
        at, ends = tokens_at(places)
        last_token = [0, *ends[words[last]].tolist()]
        spans = pairwise(last_token)
        encoded = [None if no else self._tokens(at[a:b], len(text)) for no, text, (a, b) in zip(refused, texts, spans)]
        if self._words.full():
            self._words.clear()
        return encoded

    def _tokens(self, at: NDArray[np.int64], length: int) -> Encoded | None:
        """The tokens of a text of so many characters, or None if they are those of another."""
        ids, offsets = self._words.ids.take(at), self._words.spans.take(at, axis=0)
        ends = np.cumsum(offsets[:, 1], out=offsets[:, 1])
        np.subtract(ends, offsets[:, 0], out=offsets[:, 0])
        return (ids, offsets) if (ends[-1] if len(ends) else 0) == length else None

    def _changed(self, texts: list[str], units: NDArray[np.uint16], high: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool ``[texts]``: those that are not normalised. Nothing composes across an ASCII character, so that the
        characters that are not ASCII, each with the one before it, tell whether all are."""
        some = units[np.union1d(high - 1, high)].tobytes().decode("utf-16-le", "replace")
        if unicodedata.is_normalized("NFC", some):
            return np.zeros(len(texts), dtype=np.bool_)
        return np.array([not unicodedata.is_normalized("NFC", text) for text in texts])


def _can_be_joined(text: str) -> bool:
    """False for a text that holds a border or half a character."""
    try:
        text.encode("utf-16-le")
    except UnicodeEncodeError:
        return False
    return _BORDER not in text


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
    alphabet = map(chr, byte_alphabet().values())
    known = (
        pattern is not None
        and (split["type"], split["behavior"], split["invert"]) == ("Split", "Isolated", False)
        and (to_bytes["type"], to_bytes["add_prefix_space"], to_bytes["use_regex"]) == ("ByteLevel", False, False)
        and normaliser in (None, "NFC")
        and type(model).__name__ == "BPE"
        and not model.dropout
        and not (model.continuing_subword_prefix or model.end_of_word_suffix or model.byte_fallback)
        and all(core.token_to_id(symbol) is not None for symbol in alphabet)
        and not _trims(after)
        and core.truncation is None
        and core.padding is None
        and not any(t.lstrip or t.rstrip or t.single_word for t in core.get_added_tokens_decoder().values())
    )
    if not known or pattern is None:
        return None
    return WordEncoder(core, not pattern["digits"], normaliser == "NFC")


def _trims(after: Any) -> bool:
    """True when a post-processor moves offsets off leading spaces."""
    if isinstance(after, dict):
        return bool(after.get("type") in ("ByteLevel", "RobertaProcessing") and after.get("trim_offsets")) or any(
            _trims(v) for v in after.values()
        )
    return isinstance(after, list) and any(_trims(v) for v in after)
