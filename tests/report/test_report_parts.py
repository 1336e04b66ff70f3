"""Examples as bytes for a browser: exact where they may be, within the stated error else, fitted to a budget."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.report import ExampleView
from infra.report.encode import (
    boundaries,
    displayable,
    encode_example,
    quantise,
    utf16_offsets,
)
from infra.report.page import pack_examples, shared_scales

from . import synthetic


def dequantise(q: np.ndarray, top: np.ndarray, levels: int) -> np.ndarray:
    """What the page makes of int8 scores (assets/codec.js): each share squared, times its row's largest score."""
    ratio = q.astype(np.float32) / levels
    return np.sign(ratio) * ratio**2 * top[:, None]


def unpack(blob: bytes) -> tuple[dict, bytes, bytes]:
    """Header, rest of the head and scores of a blob, read from its documented layout alone."""
    (first,) = struct.unpack_from("<I", blob)
    head, body = zlib.decompress(blob[4 : 4 + first]), zlib.decompress(blob[8 + first :])
    (size,) = struct.unpack_from("<I", head)
    return json.loads(head[4 : 4 + size]), head[4 + size :], body


def test_blob_keeps_text_boundaries_and_exact_scores():
    view = synthetic.example(3, np.random.default_rng(1))
    header, rest, body = unpack(encode_example(view, None))
    text = rest[: header["text"]].decode()
    n = header["n"]
    gaps = np.frombuffer(rest, "<u2", n, header["text"]).astype(int)
    lengths = np.frombuffer(rest, "<u2", n, header["text"] + 2 * n).astype(int)
    ends = np.cumsum(gaps + lengths)
    assert text == view.text
    assert [text[e - w : e] for e, w in zip(ends, lengths)] == [view.text[a:b] for a, b in view.token_offsets]
    stored = np.frombuffer(body, "<f4").reshape(2, len(view.targets), n)
    np.testing.assert_array_equal(stored[0], view.scores["loss"])
    np.testing.assert_array_equal(stored[1], view.scores["position"])


@given(st.integers(0, 2**32 - 1), st.sampled_from([15, 31, 63, 127]))
@settings(max_examples=40, deadline=None)
def test_int8_error_is_within_the_stated_bound(seed, levels):
    rng = np.random.default_rng(seed)
    scores = (rng.standard_t(2, size=(3, 50)) * 10.0 ** rng.integers(-8, 3)).astype(np.float32)
    q, top = quantise(scores, levels)
    error = np.abs(dequantise(q, top, levels) - scores)
    assert (error <= 1.0001 * top[:, None] / levels).all()
    small = np.abs(scores) <= top[:, None] / (4 * levels**2)
    assert (error[small] <= np.broadcast_to(top[:, None] / (4 * levels**2), error.shape)[small]).all()


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_utf16_offsets_cut_the_same_pieces(text):
    text = displayable(text)
    offsets = np.array([[i, i + 1] for i in range(len(text))], dtype=np.int64).reshape(-1, 2)
    units = text.encode("utf-16-le")
    cut = [units[2 * a : 2 * b].decode("utf-16-le") for a, b in utf16_offsets(text, offsets)]
    assert cut == list(text)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12))
def test_boundaries_are_monotone_and_cover_no_character_twice(pairs):
    gaps, lengths = boundaries(np.array(pairs, dtype=np.int64).reshape(-1, 2))
    assert (gaps >= 0).all() and (lengths >= 0).all()
    assert (gaps + lengths).sum() <= 30


def test_tokens_that_share_an_emoji_get_it_once():
    gaps, lengths = boundaries(np.array([[0, 1], [1, 3], [1, 3], [3, 4]]))
    assert gaps.tolist() == [0, 0, 0, 0]
    assert lengths.tolist() == [1, 2, 0, 1]


def test_a_budget_coarsens_scores_before_it_drops_examples():
    rng = np.random.default_rng(0)
    views = [synthetic.example(i, rng, sentences=60) for i in range(6)]
    exact, levels = pack_examples(views, 10**9)
    assert levels is None and len(exact) == 6
    size = sum(map(len, exact))
    coarse, levels = pack_examples(views, size // 2)
    assert levels is not None and len(coarse) == 6 and sum(map(len, coarse)) <= size // 2
    few, levels = pack_examples(views, size // 12)
    assert levels == 15 and 0 < len(few) < 6 and sum(map(len, few)) <= size // 12
    assert unpack(base64.b64decode(few[0]))[0]["id"] == views[0].id


def test_shared_scale_is_over_tokens_under_the_loss():
    view = synthetic.example(0, np.random.default_rng(0))
    spiked = {"loss": np.where(view.loss_mask, 1.0, 99.0)[None].repeat(4, 0).astype(np.float32)}
    assert shared_scales([replace(view, scores=spiked)])["loss"]["math"] == 1.0


def test_a_single_token_line_of_a_megabyte_is_encoded():
    text = "x" * 1_000_000
    view = ExampleView(
        "big",
        {},
        text,
        np.array([[0, len(text)]]),
        np.array([True]),
        {"loss": np.ones((1, 1), np.float32)},
        ["m"],
    )
    header, rest, _ = unpack(encode_example(view, 127))
    assert header["length"] == "uint32"
    assert np.frombuffer(rest, "<u4", 1, header["text"] + 2)[0] == len(text)
