"""The memory of words gives the library's own ids and offsets, or leaves the text to the library."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recipes import families

from infra.records import Message, Record, iter_tokenize
from infra.records.words import MAX_WORDS, WordEncoder, word_encoder

SAMPLE = [
    "Let's check: 12+345 = 357.\n\n  So  we're done; x_1 ≤ √2 and α·β… ÄÖÜ naïve 漢字 １２ ² ½\r\n\t"
    "```python\ndef f(x):\n"
    "    return x**2 - 1  # ok\n```\n <think>\nWait, we'LL see — it’s 5×5=25</think>"
] * 3
PIECES = [
    "'", "'s", "'LL", "'ſ", "x", " x", "the", " the", "12", "345", " ", "  ", "\n", "\r\n", "\t", "+", " =", "é",
    "e\u0301", "√", "²", "漢", "\u00a0", "\u2028", "\x1c", "\x85", "😀", "\U0001d465", "⌊", "ₙ", "ſ", "<|im_end|>",
    "<|im_", "İ", "\x00", "ﬁ", "ǅ", "\u180e", "\u200b", "\ufeff", "\u0345",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=25).map("".join)


@pytest.fixture(scope="module", params=["qwen2", "llama3"])
def core(request: pytest.FixtureRequest) -> Any:
    make = {"qwen2": families.qwen2_tokenizer, "llama3": families.llama3_tokenizer}[request.param]
    return make(SAMPLE).backend_tokenizer


@pytest.fixture(scope="module")
def encode(core: Any) -> WordEncoder:
    made = word_encoder(core)
    assert made is not None
    return made


def check(core: Any, encode: WordEncoder, text: str) -> bool:
    """Compare with the library; True when the memory of words took the text."""
    ours = encode(text)
    if ours is not None:
        theirs = core.encode(text, add_special_tokens=False)
        assert ours[0].tolist() == theirs.ids and [tuple(o) for o in ours[1].tolist()] == theirs.offsets
    return ours is not None


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_any_text_has_the_librarys_ids_and_offsets(core: Any, encode: WordEncoder, text: str) -> None:
    taken = check(core, encode, text)
    assert taken or not text.isascii()


def test_ordinary_text_is_taken_and_unstable_characters_are_not(core: Any, encode: WordEncoder) -> None:
    for text in (*SAMPLE, "", "a", " ", "plain words only"):
        assert check(core, encode, text)
    for text in ("😀", "ₙ", "ſ\U0001d465"):
        assert encode(text) is None


def test_the_memory_is_bounded(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import infra.records.words as words

    monkeypatch.setattr(words, "MAX_WORDS", 10)
    encode = word_encoder(core)
    assert encode is not None and MAX_WORDS > 10
    for i in range(40):
        assert check(core, encode, f"word{i} {'x' * 200} again{i}")
        assert len(encode._ids) <= 10


def test_tokenizers_with_unknown_parts_are_left_to_the_library(core: Any, tokenizer: Any) -> None:
    from tokenizers import AddedToken, normalizers, processors

    assert word_encoder(tokenizer.backend_tokenizer) is None
    for change in (
        lambda c: setattr(c, "normalizer", normalizers.Lowercase()),
        lambda c: setattr(c, "post_processor", processors.ByteLevel(trim_offsets=True)),
        lambda c: c.add_special_tokens([AddedToken("<x>", lstrip=True)]),
        lambda c: c.enable_truncation(5),
    ):
        other = copy.deepcopy(core)
        change(other)
        assert word_encoder(other) is None


def test_tokenising_many_records_is_the_same_on_both_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    import infra.records.tokenizing as tokenizing

    tokenizer = families.qwen2_tokenizer(SAMPLE)
    records = [
        Record(f"r{i}", (Message("user", f"{i}+1? ₙ" if i % 9 == 0 else f"Q{i}"), Message("assistant", s)), "m", "s")
        for i, s in enumerate(SAMPLE[0][: 20 + i] for i in range(150))
    ]  # fmt: skip
    results = []
    for few in (True, False):
        monkeypatch.setattr(tokenizing, "_few_cores", lambda few=few: few)
        results.append(list(iter_tokenize(records, tokenizer, max_length=None)))
    for a, b in zip(*results, strict=True):
        assert a.id == b.id and a.input_ids.dtype == b.input_ids.dtype == np.int64
        assert np.array_equal(a.input_ids, b.input_ids) and np.array_equal(a.offsets, b.offsets)
        assert np.array_equal(a.loss_mask, b.loss_mask) and a.offsets.dtype == b.offsets.dtype
