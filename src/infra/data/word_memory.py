"""The words met so far and their tokens, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.data.word_cuts import DIGIT, UNSURE
from infra.data.word_table import WordTable

MAX_WORDS = 400_000
"""Words remembered before the memory starts anew."""
MAX_TOKENS = 2_000_000
"""Tokens of these words, the same."""
LONGEST = 128
"""Characters; a longer word is not remembered."""
_SHORT, _MIDDLE = 8, 16
_COUNT_BITS = 32
# ends[i]: the first i bytes of a little-endian number of eight
_ENDS = np.array([(1 << 8 * i) - 1 for i in range(_SHORT + 1)], dtype=np.uint64)

_Numbers = Sequence[int] | NDArray[np.integer]


class WordMemory:
    """Words -> tokens; a new word is asked of the library's model, one with an unsure character of all its parts.

    A word's tokens stand together in ``ids`` (int64) and ``spans`` (int32 ``[tokens, 2]``), and its place is one
    number: where they begin, and in the last 32 bits how many they are. The two numbers of a span are how many
    characters before the token's end it begins, and how many characters end in it; they differ where a token begins
    inside a character. Words of up to 16 ASCII characters are found in tables, others in a dictionary.
    """

    def __init__(self, core: Any, added: Sequence[tuple[str, int]], single_digits: bool) -> None:
        self._core, self._model, self._added, self._single_digits = core, core.model, added, single_digits
        self._byte = byte_alphabet()
        self._inside = {symbol: None for byte, symbol in self._byte.items() if byte & 0xC0 == 0x80}
        self._short, self._middle = WordTable(1), WordTable(2)
        self._others: dict[bytes, int] = {}
        self.clear()

    def __len__(self) -> int:
        return len(self._short) + len(self._middle) + len(self._others)

    def clear(self) -> None:
        """Forget all words; the places of added tokens and of nothing stay."""
        self._short.clear()
        self._middle.clear()
        self._others.clear()
        self._n = 1  # no place is 0
        self.ids = np.zeros(1 << 12, dtype=np.int64)
        self.spans = np.zeros((1 << 12, 2), dtype=np.int32)
        lengths = [len(token) for token, _ in self._added]
        places = self._keep([i for _, i in self._added], lengths, lengths, [1] * len(lengths))
        self.added = dict(zip((token for token, _ in self._added), places.tolist()))

    def full(self) -> bool:
        """Whether it is time to forget."""
        return len(self) > MAX_WORDS or self._n > MAX_TOKENS

    def places(
        self,
        units: NDArray[np.uint16],
        low: bytes,
        classes: NDArray[np.uint8],
        high: NDArray[np.int64],
        starts: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """int64 ``[W]``: the place of each word of a text given as :func:`~infra.data.word_cuts.classify` and
        :func:`~infra.data.word_cuts.word_starts` give it. A border has place 0."""
        lengths = np.diff(starts, append=len(units))
        eight = np.ndarray(len(low) + 1, dtype="<u8", buffer=low + bytes(_SHORT), strides=(1,))
        first = eight[starts] & _ENDS.take(lengths, mode="clip")
        places = self._short.find([first])
        longer = np.flatnonzero(lengths > _SHORT)
        second = eight[starts[longer] + _SHORT] & _ENDS.take(lengths[longer] - _SHORT, mode="clip")
        places[longer] = self._middle.find([first[longer], second])
        other = np.union1d(longer[lengths[longer] > _MIDDLE], np.searchsorted(starts, high, side="right") - 1)
        places[other] = self._other_places(units, classes, starts[other], lengths[other])

        new = np.flatnonzero(places == 0)
        new = new[(lengths[new] <= _SHORT) & (first[new] != 0)]
        if len(new):
            places[new] = self._learn(self._short, [first[new]], low, classes, starts[new], lengths[new])
        new = np.flatnonzero(places[longer] == 0)
        if len(new):
            at = longer[new]
            keys = [first[at], second[new]]
            places[at] = self._learn(self._middle, keys, low, classes, starts[at], lengths[at])
        return places

    def _learn(
        self,
        table: WordTable,
        keys: list[NDArray[np.uint64]],
        low: bytes,
        classes: NDArray[np.uint8],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Adds the words to the table, frequent ones first, and gives their places."""
        order = np.lexsort(keys)
        distinct = np.ones(len(order), dtype=np.bool_)
        distinct[1:] = np.logical_or.reduce([np.diff(key[order]) != 0 for key in keys])
        at = np.flatnonzero(distinct)
        frequency = np.diff(at, append=len(order))
        once = order[at[np.argsort(-frequency, kind="stable")]]
        words = [low[s : s + n].decode() for s, n in zip(starts[once].tolist(), lengths[once].tolist())]
        table.add([key[once] for key in keys], self._ask(words, classes[starts[once]] == DIGIT))
        return table.find(keys)

    def _other_places(
        self,
        units: NDArray[np.uint16],
        classes: NDArray[np.uint8],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> list[int]:
        """The places of words that are long or not ASCII."""
        text, ends = units.tobytes(), starts + lengths
        keys = [text[2 * a : 2 * b] for a, b in zip(starts.tolist(), ends.tolist())]
        new = {key: at for at, key in enumerate(keys) if key not in self._others}
        unsure = {key for key, at in new.items() if (classes[starts[at] : ends[at]] == UNSURE).any()}
        sure = [key for key in new if key not in unsure]
        numbers = classes[starts[[new[key] for key in sure]]] == DIGIT
        found = dict(zip(sure, self._ask([key.decode("utf-16-le") for key in sure], numbers).tolist())) if sure else {}
        found.update((key, self._ask_all_parts(key.decode("utf-16-le"))) for key in unsure)
        places = [self._others.get(key) or found[key] for key in keys]
        self._others.update((key, place) for key, place in found.items() if len(key) <= 2 * LONGEST)
        return places

    def _ask(self, words: list[str], numbers: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The places of words that are new."""
        split = numbers & self._single_digits
        parts = [part for word, apart in zip(words, split.tolist()) for part in (word if apart else (word,))]
        tokens = [self._model.tokenize(part.encode().decode("latin-1").translate(self._byte)) for part in parts]
        ids = [token.id for some in tokens for token in some]
        values = [token.value for some in tokens for token in some]
        ending = [len(value) for value in values]
        before = ending
        if not all(map(str.isascii, words)):
            ending = [len(value.translate(self._inside)) for value in values]
            before = [n + (ord(value[0]) in self._inside) for n, value in zip(ending, values)]
        first_parts = np.cumsum([0, *(len(word) if apart else 1 for word, apart in zip(words, split.tolist()))])[:-1]
        return self._keep(ids, before, ending, np.add.reduceat([len(some) for some in tokens], first_parts))

    def _ask_all_parts(self, word: str) -> int:
        """The place of several of the library's words in one."""
        encoding = self._core.encode(word, add_special_tokens=False)
        starts, ends = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2).T
        return int(self._keep(encoding.ids, ends - starts, np.diff(ends, prepend=0), [len(ends)])[0])

    def _keep(self, ids: list[int], before: _Numbers, ending: _Numbers, counts: _Numbers) -> NDArray[np.int64]:
        """The places of words whose tokens are given one after the other."""
        end = self._n + len(ids)
        if end > len(self.ids):
            more = max(end, 2 * len(self.ids)) - len(self.ids)
            self.ids = np.concatenate([self.ids, np.zeros(more, dtype=np.int64)])
            self.spans = np.concatenate([self.spans, np.zeros((more, 2), dtype=np.int32)])
        self.ids[self._n : end] = ids
        self.spans[self._n : end, 0] = before
        self.spans[self._n : end, 1] = ending
        count = np.array(counts, dtype=np.int64)
        first = self._n + np.cumsum(count) - count
        self._n = end
        return first << _COUNT_BITS | count


def tokens_at(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where in ``ids`` and ``spans`` the tokens of all words stand, int64 ``[T]``, and the number of tokens up to and
    with each word, int64 ``[W]``."""
    count = places & ((1 << _COUNT_BITS) - 1)
    ends = np.cumsum(count)
    at = np.repeat((places >> _COUNT_BITS) - (ends - count), count)
    at += np.arange(len(at))
    return at, ends


def byte_alphabet() -> dict[int, int]:
    """Byte -> the printable character that stands for it in a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: b for b in printable} | {b: 256 + i for i, b in enumerate(others)}
