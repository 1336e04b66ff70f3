"""A hash table in arrays: many keys are looked up by a few operations on whole arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Keys = Sequence[NDArray[np.uint64]]
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class WordTable:
    """Key -> value by open addressing. A key is ``width`` uint64 numbers, the first not 0; a value an int64 above 0,
    no two of them equal. Keys are compared whole, so that an answer is never another key's.

    Keys are given as ``width`` arrays uint64 ``[N]``, values as int64 ``[N]``.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self.clear()

    def __len__(self) -> int:
        return self._n

    def clear(self) -> None:
        """Forget all keys."""
        self._n = 0
        self._allot(12)

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """The values, 0 where a key is not there."""
        slots = self._home(keys)
        values = self._values.take(slots)
        at = np.flatnonzero(self._differs(keys, slots))
        while len(at := at[values[at] != 0]):
            slots[at] = self._next(slots[at])
            values[at] = self._values[slots[at]]
            at = at[self._differs([k[at] for k in keys], slots[at])]
        return values

    def add(self, keys: Keys, values: NDArray[np.int64]) -> None:
        """Add keys that are not there, each once; those that come first are found fastest. Values must be larger than
        those added before."""
        self._n += len(values)
        if 2 * self._n > len(self._values):
            used = np.flatnonzero(self._values)
            used = used[np.argsort(self._values[used])]
            keys = [np.concatenate([old[used], new]) for old, new in zip(self._keys, keys)]
            values = np.concatenate([self._values[used], values])
            self._allot(int(4 * self._n - 1).bit_length())
        slots = self._home(keys)
        left = np.arange(len(values))
        while len(left):
            free = left[self._values[slots[left]] == 0][::-1]
            self._values[slots[free]] = values[free]  # of several that want one slot the last written has it
            has = self._values[slots[left]] == values[left]
            placed, left = left[has], left[~has]
            for table, key in zip(self._keys, keys):
                table[slots[placed]] = key[placed]
            slots[left] = self._next(slots[left])

    def _allot(self, bits: int) -> None:
        self._shift = np.uint64(64 - bits)
        self._keys = [np.zeros(1 << bits, dtype=np.uint64) for _ in range(self._width)]
        self._values = np.zeros(1 << bits, dtype=np.int64)

    def _home(self, keys: Keys) -> NDArray[np.int64]:
        mixed = keys[0] * _SPREAD
        for key in keys[1:]:
            mixed = ((mixed >> np.uint64(32)) ^ mixed ^ key) * _SPREAD
        return (mixed >> self._shift).view(np.int64)

    def _next(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        return (slots + 1) & (len(self._values) - 1)

    def _differs(self, keys: Keys, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        differs = self._keys[0].take(slots) != keys[0]
        for table, key in zip(self._keys[1:], keys[1:]):
            differs |= table.take(slots) != key
        return differs
