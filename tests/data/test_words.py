"""The memory of words gives the library's own ids and offsets, or leaves the text to the library."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recipes import families

from infra.data import Message, Record, iter_tokenize
from infra.data.word_table import WordTable
from infra.data.words import WordEncoder, word_encoder

SAMPLE = [
    "Let's check: 12+345 = 357.\n\n  So  we're done; x_1 ≤ √2 and α·β… ÄÖÜ naïve 漢字 １２ ² ½\r\n\t"
    "```python\ndef f(x):\n"
    "    return x**2 - 1  # ok\n```\n <think>\nWait, we'LL see — it’s 5×5=25</think>"
] * 3
PIECES = [
    "'",
    "'s",
    "'LL",
    "'ſ",
    "x",
    " x",
    "the",
    " the",
    "12",
    "345",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "+",
    " =",
    "é",
    "e\u0301",
    "√",
    "²",
    "漢",
    "\u00a0",
    "\u2028",
    "\x1c",
    "\x85",
    "😀",
    "\U0001d465",
    "⌊",
    "ₙ",
    "ſ",
    "<|im_end|>",
    "<|im_",
    "İ",
    "\x00",
    "ﬁ",
    "ǅ",
    "\u180e",
    "\u200b",
    "\ufeff",
    "\u0345",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=25).map("".join)
# few characters, so that every order of classes comes up: runs of white space, signs before letters, contractions
DENSE = st.text("'sSlLrRvVeEdmt" + "  \t\n\n\r\x0b\x0c" + "(.-" + "0123", max_size=40)
CLASSES = st.text("'sLe1 \t\n\r.\x1c\x1f\x85\xa0\u2028\u3000é’²１漢\u200bₙ😀\U0001d465", max_size=40)
LONG = st.lists(
    st.tuples(
        st.sampled_from(["a", "É", "-", " ", "\n", "1", "２", "é", "ₙ", "\t", "'", "x" * 7]), st.integers(1, 150)
    ),
    max_size=8,
).map(lambda runs: "".join(piece * n for piece, n in runs))


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
    [ours] = encode([text])
    if ours is not None:
        theirs = core.encode(text, add_special_tokens=False)
        assert ours[0].tolist() == theirs.ids and [tuple(o) for o in ours[1].tolist()] == theirs.offsets
    return ours is not None


@settings(deadline=None, max_examples=300)
@given(text=TEXTS | DENSE | CLASSES | LONG)
def test_any_text_has_the_librarys_ids_and_offsets(core: Any, encode: WordEncoder, text: str) -> None:
    taken = check(core, encode, text)
    assert taken or not text.isascii() or "\0" in text


@settings(deadline=None, max_examples=300)
@given(text=DENSE)
def test_every_order_of_ascii_classes(core: Any, encode: WordEncoder, text: str) -> None:
    assert check(core, encode, text)


@settings(deadline=None, max_examples=300)
@given(text=CLASSES)
def test_every_order_of_all_classes(core: Any, encode: WordEncoder, text: str) -> None:
    assert check(core, encode, text)


@settings(deadline=None, max_examples=100)
@given(texts=st.lists(TEXTS | CLASSES | LONG, max_size=12))
def test_texts_encoded_together_do_not_touch(core: Any, encode: WordEncoder, texts: list[str]) -> None:
    together = list(encode(texts))
    assert len(together) == len(texts)
    for text, found in zip(texts, together):
        [alone] = encode([text])
        assert (found is None) == (alone is None)
        if found is not None and alone is not None:
            assert np.array_equal(found[0], alone[0]) and np.array_equal(found[1], alone[1])


def test_ordinary_text_is_taken_and_unsure_characters_go_to_the_library_alone(core: Any, encode: WordEncoder) -> None:
    for text in (*SAMPLE, "", "a", " ", "plain words only", "yes ✅ 😀!", "xₙ₊₁ = ₙ", "ſ\U0001d465 2\u200b3"):
        assert check(core, encode, text)
    for text in ("half \ud83d of it", "zero \0", "\0"):
        found, whole = encode([text, "whole"])
        assert found is None and whole is not None
    assert (list(encode(["e\u0301"])) == [None]) == (core.normalizer is not None)


def test_groups_of_texts_and_texts_larger_than_a_group(
    core: Any, encode: WordEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import infra.data.words as words

    texts = [SAMPLE[0][:k] for k in range(0, 200, 7)]
    whole = list(encode(texts))
    monkeypatch.setattr(words, "GROUP", 50)
    for one, other in zip(whole, encode(texts), strict=True):
        assert one is not None and other is not None
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def test_the_memory_is_bounded(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import infra.data.word_memory as memory

    assert memory.MAX_WORDS > 10
    monkeypatch.setattr(memory, "MAX_WORDS", 10)
    encode = word_encoder(core)
    assert encode is not None
    for i in range(40):
        assert check(core, encode, f"word{i} {'x' * 200} again{i} é{i}é incomprehensible{i}")
        assert len(encode._words) <= 10
    monkeypatch.setattr(memory, "MAX_WORDS", 1000)
    monkeypatch.setattr(memory, "MAX_TOKENS", 300)
    for i in range(40):
        assert check(core, encode, f"{'y' * (200 + i)} <|im_end|>")
        assert encode._words._n <= 300


def test_a_table_finds_what_was_added_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    for width in (1, 2):
        table = WordTable(width)
        keys = [rng.integers(1, 200, 5000).astype(np.uint64) << np.uint64(8 * k) for k in (7, 0)[:width]]
        keys = list(np.unique(np.stack(keys), axis=1))
        values = np.arange(1, len(keys[0]) + 1)
        for some in np.array_split(np.arange(len(values)), 7):
            assert not table.find([k[some] for k in keys]).any()
            table.add([k[some] for k in keys], values[some])
        assert len(table) == len(values) and np.array_equal(table.find(keys), values)
        assert not table.find([k + np.uint64(1 << 40) for k in keys]).any()
        table.clear()
        assert len(table) == 0 and not table.find(keys).any()


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
    import infra.data.tokenizing as tokenizing

    tokenizer = families.qwen2_tokenizer(SAMPLE)
    records = [
        Record(f"r{i}", (Message("user", f"{i}+1? ₙ" if i % 9 == 0 else f"Q{i}"), Message("assistant", s)), "m", "s")
        for i, s in enumerate(SAMPLE[0][: 20 + i] for i in range(150))
    ]
    results = []
    for few in (True, False):
        monkeypatch.setattr(tokenizing, "_few_cores", lambda few=few: few)
        results.append(list(iter_tokenize(records, tokenizer, max_length=None)))
    for a, b in zip(*results, strict=True):
        assert a.id == b.id and a.input_ids.dtype == b.input_ids.dtype == np.int64
        assert np.array_equal(a.input_ids, b.input_ids) and np.array_equal(a.offsets, b.offsets)
        assert np.array_equal(a.loss_mask, b.loss_mask) and a.offsets.dtype == b.offsets.dtype
