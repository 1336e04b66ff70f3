"""An example as bytes a browser can open: text, token boundaries and scores, compressed.

A blob is two zlib streams with a length before each (uint32, little-endian)::

    head    JSON header (its length in a uint32 before it), UTF-8 text, gaps[T], lengths[T], mask[T], classes[T]
    body    scores, decomposition by decomposition, ``[K, T]`` row-major

Scores are float32 (exact) or int8 on a square-root scale, ``value = sign(q) (q / levels)^2 max`` with one
``max`` per decomposition and target: the eye and the colour scale see ratios, and a linear int8 would round
most of a heavy-tailed row to nothing. The largest error is ``max / levels`` (at the largest scores; near zero
it is ``max / (4 levels^2)``).
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.report.data import ExampleView

_SURROGATES = {code: "�" for code in range(0xD800, 0xE000)}


def displayable(text: str) -> str:
    """``text`` with lone surrogates replaced one for one by U+FFFD, so that it can be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.translate(_SURROGATES)
    return text


def utf16_offsets(text: str, offsets: NDArray[Any]) -> NDArray[np.int64]:
    """Code-point offsets ``[T, 2]`` as UTF-16 offsets, which is how a browser counts; clipped to the text."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    before = np.concatenate([[0], np.cumsum(points > 0xFFFF)])
    clipped = np.clip(np.asarray(offsets, dtype=np.int64), 0, len(points))
    return clipped + before[clipped]


def boundaries(offsets: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gaps before and lengths of tokens ``[T]``, monotone: tokens that share a character get it once, first
    come.
    """
    if len(offsets) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ends = np.maximum.accumulate(offsets[:, 1])
    previous = np.concatenate([[0], ends[:-1]])
    starts = np.maximum(offsets[:, 0], previous)
    starts = np.minimum(starts, np.maximum(ends, previous))
    return starts - previous, ends - starts


def quantise(scores: NDArray[Any], levels: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """``[K, T]`` scores as int8 on the square-root scale, and ``max [K]``. Error at most ``max / levels``."""
    top = np.abs(scores).max(axis=1, initial=0.0).astype(np.float32)
    ratio = np.abs(scores) / np.where(top > 0, top, 1)[:, None]
    return (np.sign(scores) * np.rint(np.sqrt(ratio) * levels)).astype(np.int8), top


def _small_ints(values: NDArray[np.int64]) -> tuple[str, bytes]:
    kind = "uint16" if len(values) == 0 or values.max() <= 0xFFFF else "uint32"
    return kind, values.astype("<u2" if kind == "uint16" else "<u4").tobytes()


def _deflate(payload: bytes, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 15, 9, strategy)
    return packer.compress(payload) + packer.flush()


def encode_example(view: ExampleView, levels: int | None) -> bytes:
    """The blob of one example; ``levels`` None keeps float32 scores, else int8 with that many steps a side
    (<= 127).
    """
    text = displayable(view.text)
    gaps, lengths = boundaries(utf16_offsets(text, view.token_offsets))
    gap_kind, gap_bytes = _small_ints(gaps)
    length_kind, length_bytes = _small_ints(lengths)
    body, tops = [], []
    for scores in view.scores.values():
        if levels is None:
            body.append(np.asarray(scores, dtype="<f4").tobytes())
            tops.append(np.abs(scores).max(axis=1, initial=0.0).astype(float).tolist())
        else:
            q, top = quantise(np.asarray(scores), levels)
            body.append(q.tobytes())
            tops.append(top.astype(float).tolist())
    names = sorted(set(view.token_classes)) if view.token_classes is not None else []
    codes = {name: i for i, name in enumerate(names)}
    classes = bytes(min(codes[name], 255) for name in view.token_classes or ())
    payload = text.encode("utf-8")
    header = json.dumps(
        {
            "id": displayable(view.id),
            "n": len(gaps),
            "text": len(payload),
            "gap": gap_kind,
            "length": length_kind,
            "levels": levels,
            "decompositions": list(view.scores),
            "targets": list(view.targets),
            "max": tops,
            "classes": names,
            "steps": [[int(a), int(b), list(labels)] for a, b, labels in view.steps],
            "attributes": {str(k): plain(v) for k, v in view.attributes.items()},
            "totals": view.totals().astype(float).tolist(),
        },
        ensure_ascii=True,
        allow_nan=False,
    ).encode()
    mask = np.asarray(view.loss_mask, dtype=np.uint8).tobytes()
    head = _deflate(struct.pack("<I", len(header)) + header + payload + gap_bytes + length_bytes + mask + classes)
    packed = _deflate(b"".join(body), zlib.Z_DEFAULT_STRATEGY if levels is None else zlib.Z_RLE)
    return struct.pack("<I", len(head)) + head + struct.pack("<I", len(packed)) + packed


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numpy scalars as Python's, not-a-number as None, the rest as text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return displayable(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()]
    return displayable(str(value))
