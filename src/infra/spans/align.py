"""From characters to tokens: which tokens a span owns, and sums over them.

Every granularity is a way to add up tokens; this is the adding up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infra.errors import InputError

_SPACES = [code for code in range(0x3001) if chr(code).isspace()]


def token_positions(offsets: ArrayLike, text: str | None = None) -> NDArray[np.int64]:
    """The character that decides where each token belongs: its first non-space one, int64 ``[T]``.

    ``offsets``: ``[T, 2]`` characters. Without ``text`` the middle character stands in, which agrees for
    tokens of the usual form (at most one leading space). A token that is all space is placed by its first
    character. Tokens of no width (special tokens at (0, 0), pieces of one character) get the position of the
    token before them if they lie at its border, else -1.
    """
    table = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    start, end = table[:, 0], table[:, 1]
    if text is None:
        position = np.where(end - start > 1, (start + end) // 2, start)
    else:
        solid = _next_solid(text)[np.clip(start, 0, len(text))]
        position = np.where(solid < end, solid, start)
    for t in np.flatnonzero(end <= start):
        inherits = t > 0 and position[t - 1] >= 0 and start[t] in (start[t - 1], end[t - 1])
        position[t] = position[t - 1] if inherits else -1
    return position


def _next_solid(text: str) -> NDArray[np.int64]:
    """Next position at or after each that is no space, ``len(text)`` where none is; int64 ``[n + 1]``."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    here = np.where(np.isin(codes, _SPACES), len(text), np.arange(len(text)))
    return np.append(np.minimum.accumulate(here[::-1])[::-1], len(text)).astype(np.int64)


def spans_to_tokens(
    spans: Sequence[tuple[int, int]], offsets: ArrayLike, shift: int = 0, text: str | None = None
) -> list[tuple[int, int]]:
    """Token range ``[t0, t1)`` of each character span ``[start, end)`` of a response.

    ``offsets``: ``[T, 2]`` characters of the rendered conversation; ``shift``: where the response begins in
    it (``TokenizedExample.response_start``); ``text``: the rendered conversation (``TokenizedExample.text``),
    for exact placing of tokens with several leading spaces. Each token belongs to at most one span, that of
    its first non-space character; spans that partition the response own each of its tokens exactly once. A
    span without tokens (cut off by truncation, or inside one token) gets an empty range. Spans may be in any
    order and leave gaps. Raises :class:`InputError` when spans overlap or run backwards.
    """
    if not spans:
        return []
    table = np.asarray(spans, dtype=np.int64).reshape(-1, 2) + shift
    order = np.lexsort((table[:, 1], table[:, 0]))
    starts, ends = table[order, 0], table[order, 1]
    if (starts > ends).any() or (starts[1:] < ends[:-1]).any():
        raise InputError(f"spans overlap or run backwards: {list(spans)[:8]}; give spans of one partition at a time")
    position = token_positions(offsets, text)
    placed = np.flatnonzero(position >= 0)
    at = position[placed]
    if (np.diff(at) < 0).any():
        raise InputError("token offsets do not increase along the sequence; they must come from one rendered text")
    first, last = np.searchsorted(at, starts), np.searchsorted(at, ends)
    padded = np.append(placed, len(position))
    t0 = padded[first]
    t1 = np.where(last > first, padded[np.maximum(last - 1, 0)] + 1, t0)
    ranges: list[tuple[int, int]] = [(0, 0)] * len(order)
    for rank, original in enumerate(order):
        ranges[int(original)] = (int(t0[rank]), int(t1[rank]))
    return ranges


def sum_over(scores: ArrayLike, ranges: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Sums of token scores over token ranges: ``[K, T]`` and ``S`` ranges -> float64 ``[K, S]``.

    This is the ``mask`` definition of a step's influence: its tokens' scores added, the text kept. Added in
    float64, each range by itself, so a NaN in one step never reaches another. Raises :class:`InputError` for
    a range outside ``[0, T]``.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"scores must be [K, T], got shape {table.shape}")
    tokens = table.shape[1]
    if not ranges:
        return np.zeros((table.shape[0], 0))
    bounds = np.asarray(ranges, dtype=np.int64).reshape(-1, 2)
    if (bounds < 0).any() or (bounds > tokens).any() or (bounds[:, 0] > bounds[:, 1]).any():
        raise InputError(f"token ranges must lie within [0, {tokens}]: {list(ranges)[:8]}")
    padded = np.concatenate([table, np.zeros((table.shape[0], 1))], axis=1)
    sums: NDArray[np.float64] = np.add.reduceat(padded, bounds.reshape(-1), axis=1)[:, ::2]
    sums[:, bounds[:, 0] == bounds[:, 1]] = 0.0
    return sums
