"""The loss lies on the assistant's tokens and the end of its turns, and nowhere else, whatever the
template."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.data import Message, Record, iter_tokenize, render_prompt, tokenize
from infra.errors import InputError

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMING = PLAIN.replace("m.content", "m.content | trim")
DROPS_THINKING = PLAIN.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
UNMARKED_END = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% else %}{{ m.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_END = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
INCONSISTENT = PLAIN.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>model\n{% endif %}")


def record(*contents: str, system: str | None = None, id: str = "r1", weight: float = 1.0) -> Record:
    messages = [Message("system", system)] if system is not None else []
    messages += [Message(("user", "assistant")[i % 2], c) for i, c in enumerate(contents)]
    return Record(id, tuple(messages), "math", "test", weight=weight)


def masked_text(example: Any, tokenizer: Any) -> str:
    return tokenizer.decode(example.input_ids[example.loss_mask])


@pytest.mark.parametrize("template", [None, "chatml", PLAIN, UNMARKED_END])
def test_mask_is_the_response_and_its_end_of_turn(template: str | None, tokenizer: Any) -> None:
    texts = ["What is 2 + 3?", "<think>\nÄ 2é+3 😀 </think>\n\n5"]
    result = tokenize([record(*texts, system="Be brief.")], tokenizer, max_length=None, template=template)
    [example] = result.examples
    assert masked_text(example, tokenizer) == texts[1] + "<|im_end|>"
    assert example.text[example.response_start :].startswith(texts[1])
    assert example.n_response_tokens == len(texts[1].encode()) - 1 + 1  # a token a byte, two newlines in one, the end
    assert not example.loss_mask[0]


def test_result_names_the_template(tokenizer: Any) -> None:
    assert tokenize([record("a", "b")], tokenizer, max_length=9999).template.startswith("chatml (the tokenizer has no")
    assert tokenize([record("a", "b")], tokenizer, max_length=9999, template=PLAIN).template == "given"


@pytest.mark.parametrize("template", [None, PLAIN, UNMARKED_END])
def test_every_assistant_turn_carries_loss(template: str | None, tokenizer: Any) -> None:
    example = tokenize([record("q1", "a1", "q2", "a2")], tokenizer, max_length=None, template=template).examples[0]
    assert masked_text(example, tokenizer) == "a1<|im_end|>a2<|im_end|>"
    assert example.text[example.response_start :].startswith("a2")


@pytest.mark.parametrize("template", [None, PLAIN])
@settings(max_examples=60, deadline=None)
@given(question=st.text(min_size=1, max_size=20), response=st.text(min_size=1, max_size=30))
def test_generation_prompt_is_a_prefix_and_offsets_point_home(
    template: str | None, question: str, response: str, tokenizer: Any
) -> None:
    try:
        question.encode(), response.encode()
    except UnicodeEncodeError:
        return
    if not response.strip() or "<|" in question + response:
        return
    r = record(question, response)
    example = tokenize([r], tokenizer, max_length=None, template=template).examples[0]
    prompt = render_prompt(r.prompt, tokenizer, template=template)
    assert example.input_ids[: len(prompt)].tolist() == prompt
    assert not example.loss_mask[: len(prompt)].any()
    # to the end of the turn everything is under the loss; the template's last newline is not
    assert example.loss_mask[len(prompt) : -1].all()
    assert masked_text(example, tokenizer) == response + "<|im_end|>"
    covered = np.zeros(len(example.text), dtype=bool)
    for start, end in example.offsets:
        covered[start:end] = True
    assert covered.all()


def test_token_that_straddles_the_border_is_cut_there(tokenizer: Any) -> None:
    """The tokenizer merges two newlines; the prompt ends with one and the response begins with one."""
    assert len(tokenizer("\n\n", add_special_tokens=False)["input_ids"]) == 1
    example = tokenize([record("q", "\nx")], tokenizer, max_length=None).examples[0]
    assert masked_text(example, tokenizer) == "\nx<|im_end|>"
    prompt = render_prompt(record("q").messages, tokenizer)
    assert example.input_ids[: len(prompt)].tolist() == prompt


def test_trimmed_response_keeps_its_coordinates(tokenizer: Any) -> None:
    example = tokenize([record("q", "  two words ")], tokenizer, max_length=None, template=TRIMMING).examples[0]
    assert masked_text(example, tokenizer) == "two words<|im_end|>"
    assert example.text[example.response_start + 2 :].startswith("two words")


@pytest.mark.parametrize(
    ("template", "texts", "words"),
    [
        (DROPS_THINKING, ("q", "<think>x</think>5"), "rewrites the response"),
        (NO_END, ("q", "a"), "does not close the assistant's turn"),
        (INCONSISTENT, ("q", "a"), "differently with and without the answer"),
        (PLAIN, ("q",), "no assistant turn at the end"),
        (PLAIN, ("q", "  "), "response is empty"),
        ("{{ raise_exception('roles must alternate') }}", ("q", "a"), "roles must alternate"),
    ],
)
def test_unusable_conversations_are_refused_by_name(
    template: str, texts: tuple[str, ...], words: str, tokenizer: Any
) -> None:
    with pytest.raises(InputError, match=f"record r9: .*{words}"):
        tokenize([record(*texts, id="r9")], tokenizer, max_length=None, template=template)
    result = tokenize([record(*texts, id="r9")], tokenizer, max_length=None, template=template, on_error="skip")
    assert result.examples == []
    assert result.skipped[0].id == "r9" and words in result.skipped[0].reason


def test_too_long_is_an_error_never_a_silent_cut(tokenizer: Any) -> None:
    long, short = record("q", "a" * 50, id="long"), record("q", "a", id="short")
    with pytest.raises(InputError, match=r"record long: .* more than max_length 40"):
        tokenize([short, long], tokenizer, max_length=40)
    skipped = tokenize([long, short], tokenizer, max_length=40, on_error="skip")
    assert [e.id for e in skipped.examples] == ["short"] and [s.id for s in skipped.skipped] == ["long"]
    cut = tokenize([long, short], tokenizer, max_length=40, truncate="end")
    assert cut.truncated == ["long"]
    assert len(cut.examples[0]) == 40 and cut.examples[0].loss_mask[-1]
    whole = tokenize([long], tokenizer, max_length=None).examples[0]
    assert (cut.examples[0].input_ids == whole.input_ids[:40]).all()
    with pytest.raises(InputError, match="record deep: no response token is left"):
        tokenize([record("q" * 60, "a", id="deep")], tokenizer, max_length=40, truncate="end")


def test_weight_system_prompt_and_thinking_prefix(tokenizer: Any) -> None:
    example = tokenize([record("q", "a", weight=0.5)], tokenizer, max_length=None, system="S").examples[0]
    assert example.weight == 0.5
    assert example.text.startswith("<|im_start|>system\nS<|im_end|>")
    ids = render_prompt(record("q").messages, tokenizer, thinking_prefix="<think>\n")
    assert tokenizer.decode(ids).endswith("<|im_start|>assistant\n<think>\n")


def test_streaming_gives_the_same_examples(tokenizer: Any) -> None:
    records = [record(f"q{i}", "a" * (i % 7 + 1), id=f"r{i}") for i in range(300)]
    listed = tokenize(records, tokenizer, max_length=None).examples
    streamed = list(iter_tokenize(iter(records), tokenizer, max_length=None))
    assert [e.id for e in streamed] == [r.id for r in records]
    assert all((a.input_ids == b.input_ids).all() for a, b in zip(listed, streamed))
