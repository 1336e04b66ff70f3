"""The tokenizer writes any text, one digit a token, and its chat template marks exactly the assistant's turn."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from infra.world import BASE_MODEL, World


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(BASE_MODEL)


def test_at_most_640_tokens_and_no_token_of_two_digits(tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) == len(tokenizer) <= 640
    for i in vocabulary.values():
        assert len(re.findall(r"\d", tokenizer.decode([i]))) <= 1


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back(text: str) -> None:
    """Up to Unicode's canonical composition, which transformers applies for every Qwen2 model."""
    tokenizer = _cached()
    back = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=False)
    assert back == unicodedata.normalize("NFC", text)


_CACHE: list[PreTrainedTokenizerFast] = []


def _cached() -> PreTrainedTokenizerFast:
    if not _CACHE:
        _CACHE.append(AutoTokenizer.from_pretrained(BASE_MODEL))
    return _CACHE[0]


def test_offsets_give_the_text_of_each_token(tokenizer: PreTrainedTokenizerFast, world: World) -> None:
    for record in world.train[:50]:
        text = record.response or ""
        encoded = tokenizer(text, return_offsets_mapping=True)
        pieces = [text[a:b] for a, b in encoded["offset_mapping"]]
        assert [tokenizer.decode([i]) for i in encoded["input_ids"]] == pieces and "".join(pieces) == text


def test_every_loader_sees_the_same_tokens(tokenizer: PreTrainedTokenizerFast, world: World, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """transformers gives Qwen2 models a pattern of its own; saving and loading must not change a token either."""
    plain = PreTrainedTokenizerFast.from_pretrained(BASE_MODEL)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for record in world.train[:300]:
        text = record.question + "\n" + (record.response or "")
        ids = tokenizer(text)["input_ids"]
        assert ids == plain(text)["input_ids"] == again(text)["input_ids"]


def test_the_mask_covers_the_response_and_its_end_of_turn(tokenizer: PreTrainedTokenizerFast, world: World) -> None:
    record = world.train[0]
    messages = [{"role": m.role, "content": m.content} for m in record.messages]
    out = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    marked = [i for i, m in zip(out["input_ids"], out["assistant_masks"]) if m]
    assert tokenizer.decode(marked, skip_special_tokens=False) == (record.response or "") + "<|im_end|>"
    assert marked[-1] == tokenizer.eos_token_id != tokenizer.pad_token_id
    prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert out["input_ids"][: len(prompt)] == prompt
    assert tokenizer.decode(prompt, skip_special_tokens=False).endswith("<|im_start|>assistant\n")


def test_examples_are_short(tokenizer: PreTrainedTokenizerFast, world: World) -> None:
    lengths = [len(tokenizer(r.question + (r.response or ""))["input_ids"]) for r in world.train]
    assert sum(lengths) / len(lengths) < 135 and max(lengths) < 400
