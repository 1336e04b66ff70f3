"""On public models' templates exactly the assistant's tokens and the end of its turns are under the loss.

The oracle is each format written out by hand (``chat_templates.py``), not the template.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from chat_templates import TEMPLATES, Messages, Rewritten, Segments, tokenizer_of
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.data import Message, Record, Span, ToolCall, render_prompt, standard_thinking, tokenize
from infra.errors import InputError

BITS = (
    "5",
    "4",
    "\n",
    "\n\n",
    " ",
    "user",
    "assistant",
    "model\n",
    "Pick one:",
    "all",
    "ä",
    "😀",
    "</",
    "|>",
    "[INST]",
)

cached_tokenizer = cache(lambda name: tokenizer_of(TEMPLATES[name]))


def texts() -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(BITS), min_size=1, max_size=6).map("".join)


@st.composite
def conversations(draw: Any, name: str) -> Messages:
    published = TEMPLATES[name]
    system = [("system", draw(texts()))] if published.system and draw(st.booleans()) else []
    turns: Messages = []
    for _ in range(draw(st.integers(1, 3))):
        question = draw(texts())
        if draw(st.integers(0, 5)) == 0:  # a user who writes the model's own special tokens
            question += draw(st.sampled_from(published.special)) + "x"
        answer = draw(texts().filter(str.strip))
        if draw(st.integers(0, 3)) == 0:
            inner = draw(texts().filter(str.strip))
            answer = draw(
                st.sampled_from(
                    (
                        f"<think>\n{inner.strip()}\n</think>\n\n{answer.strip()}",
                        f"<think>{inner}</think>{answer}",
                        f"{inner}\n</think>\n\n{answer}",
                    )
                )
            )
        turns += [("user", question), ("assistant", answer)]
    return system + turns


def record_of(messages: Messages) -> Record:
    return Record("r1", tuple(Message(role, text) for role, text in messages), "math", "test")


def kinds_of(segments: Segments) -> tuple[str, str]:
    """The whole text, and the kind of each of its characters."""
    return "".join(t for t, _ in segments), "".join(k * len(t) for t, k in segments)


def check(name: str, messages: Messages) -> None:
    tokenizer = cached_tokenizer(name)
    try:
        text, kinds = kinds_of(TEMPLATES[name].segments(messages))
    except Rewritten:
        with pytest.raises(InputError, match=r"rewrites the response|changes the white space|renders the prompt"):
            tokenize([record_of(messages)], tokenizer, max_length=None)
        return
    [example] = tokenize([record_of(messages)], tokenizer, max_length=None).examples
    assert example.text == text
    for token, (start, end) in enumerate(example.offsets.tolist()):
        own = set(kinds[start:end])
        assert len(own & {"P"}) == 0 or own == {"P"}, f"token {token} straddles the border of prompt and response"
        assert bool(example.loss_mask[token]) == ("P" not in own), (token, text[start:end])
        assert bool(example.content_mask[token]) == ("C" in own), (token, text[start:end])
    assert tokenizer.decode(example.input_ids) == text


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_loss_lies_on_exactly_the_assistants_tokens(name: str, data: Any) -> None:
    check(name, data.draw(conversations(name)))


def tokens(name: str, messages: list[Message], tools: tuple[dict, ...] = ()) -> Any:
    record = Record("r1", tuple(messages), "math", "test", tools=tools)
    return tokenize([record], cached_tokenizer(name), max_length=None).examples[0]


def under_loss(name: str, messages: list[Message], tools: tuple[dict, ...] = ()) -> str:
    example = tokens(name, messages, tools)
    return cached_tokenizer(name).decode(example.input_ids[example.loss_mask])


def content(name: str, messages: list[Message], tools: tuple[dict, ...] = ()) -> str:
    example = tokens(name, messages, tools)
    return cached_tokenizer(name).decode(example.input_ids[example.content_mask])


def talk(*texts: str, **extras: Any) -> list[Message]:
    return [
        Message(("user", "assistant")[i % 2], t, **(extras if i % 2 and i == 1 else {})) for i, t in enumerate(texts)
    ]


OWN = "<think>\nR\n</think>\n\n5"


@pytest.mark.parametrize("name", ["llama-3", "llama-3.1", "gemma-2", "gemma-3"])
@pytest.mark.parametrize(
    "texts",
    [
        ("2+3?", "\n5", "Pick one:\n4\n5", "5"),
        ("What is 2 + 3?", "5\n", "And 4 + 5\nThink first.", "9"),
        ("2+3?", " 5", "Is it 5? Or 6?", "5"),
        ("5", "5 ", "5", " 5"),
        ("a\n\n5", "\n\n5\n\n", "\n\n5\n\n", "5\n\n"),
        ("one", "\ttwo", "three \ttwo", "\ttwo\t"),
        ("model\n5", "\n5", "model\n5", "model\n5"),
    ],
)
def test_no_users_text_is_under_the_loss_where_the_template_trims(name: str, texts: tuple[str, ...]) -> None:
    end = "<|eot_id|>" if name.startswith("llama") else "<end_of_turn>"
    assert under_loss(name, talk(*texts)) == texts[1].strip() + end + texts[3].strip() + end
    assert content(name, talk(*texts)) == texts[1].strip() + texts[3].strip()


@pytest.mark.parametrize("name", ["lfm2.5", "qwen3", "qwen3.5-thinking"])
@pytest.mark.parametrize(
    "first", [OWN, "<think>R</think>5", "R\n</think>\n\n5", "<think>\n5\n</think>\n\n5", "<think>\na\n\nb\n</think>\n5"]
)
def test_a_dropped_earlier_thinking_part_is_refused_or_left_out_by_a_flag(name: str, first: str) -> None:
    with pytest.raises(
        InputError, match=r"drops the thinking part of message 2; .*or set 'loss': false on that message"
    ):
        under_loss(name, talk("2+3?", first, "again?", OWN))
    kept = under_loss(name, talk("2+3?", first, "again?", OWN, loss=False))
    assert kept == (OWN.removeprefix("<think>\n") if name == "qwen3.5-thinking" else OWN) + "<|im_end|>"


@pytest.mark.parametrize(
    ("answer", "want", "words"),
    [
        (OWN, "R\n</think>\n\n5<|im_end|>", "R5"),
        ("R\n</think>\n\n5", "R\n</think>\n\n5<|im_end|>", "R5"),
        ("5", "\n</think>\n\n5<|im_end|>", "5"),
        ("<think>\n\n</think>\n\n5", "\n</think>\n\n5<|im_end|>", "5"),
        ("<think>\na\n\nb 5\n</think>\n\n5\n", "a\n\nb 5\n</think>\n\n5<|im_end|>", "a\n\nb 55"),
        ("<think>\nnever ends", "\n</think>\n\n<think>\nnever ends<|im_end|>", "never ends"),
    ],
)
def test_a_generation_prompt_may_open_the_thinking_part(answer: str, want: str, words: str) -> None:
    messages = talk("2+3?", answer)
    example = tokens("qwen3.5-thinking", messages)
    assert under_loss("qwen3.5-thinking", messages) == want
    assert content("qwen3.5-thinking", messages) == words
    prompt = render_prompt(messages[:1], cached_tokenizer("qwen3.5-thinking"))
    assert example.input_ids[: len(prompt)].tolist() == prompt and not example.loss_mask[: len(prompt)].any()
    assert example.loss_mask[len(prompt)]


def test_our_own_form_keeps_its_positions_where_the_prompt_opens_the_thinking_part() -> None:
    example = tokens("qwen3.5-thinking", talk("2+3?", OWN))
    assert example.text[example.response_start :].startswith(OWN)
    assert not example.loss_mask[example.offsets[:, 0] < example.response_start].any()


OTHER_FORMS = [
    "<think>R</think>5",
    "<think>\nR\n</think>\n5",
    "<think> R </think> 5 ",
    "\n<think>\n\nR\n\n</think>\n\n\n5\n",
    "R</think>5",
]


@pytest.mark.parametrize("answer", OTHER_FORMS)
def test_white_space_changed_inside_a_response_is_refused_with_what_to_write(answer: str) -> None:
    words = r"changes the white space around the thinking part.*<think>\\n\.\.\.\\n</think>.*standard_thinking"
    with pytest.raises(InputError, match=words):
        under_loss("qwen3.5-thinking", talk("2+3?", answer))
    spans = tuple(Span(answer.index(w), answer.index(w) + 1, (w,)) for w in ("R", "5"))
    record = standard_thinking(Record("r1", tuple(talk("2+3?", answer)), "math", "test", spans=spans))
    assert record.response == OWN and record.id == "r1" and standard_thinking(record) is record
    assert [OWN[s.start : s.end] for s in record.spans] == ["R", "5"]
    [example] = tokenize([record], cached_tokenizer("qwen3.5-thinking"), max_length=None).examples
    at = example.response_start
    assert [example.text[at + s.start : at + s.end] for s in record.spans] == ["R", "5"]


@pytest.mark.parametrize("answer", [OWN, "5", "<think>\nnever ends", "5</th", ""])
def test_the_standard_way_leaves_other_responses_alone(answer: str) -> None:
    record = Record("r1", tuple(talk("2+3?", answer)), "math", "test")
    assert standard_thinking(record) is record


def test_advice_names_nothing_that_does_not_exist() -> None:
    with pytest.raises(InputError) as error:
        under_loss("deepseek-r1-distill", talk("2+3?", OWN))
    assert "chat_template.jinja" in str(error.value) and "from Python: tokenize(..., template='chatml')" in str(
        error.value
    )
    record = Record("r1", tuple(talk("2+3?", OWN)), "math", "test")  # and the advice works
    tokenizer = cached_tokenizer("deepseek-r1-distill")
    [example] = tokenize([record], tokenizer, max_length=None, template="chatml").examples
    assert tokenizer.decode(example.input_ids[example.loss_mask]) == OWN + "<｜end▁of▁sentence｜>"


@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - {"qwen3.5-thinking", "mistral-v0.3"}))
def test_a_turn_without_loss_is_read_and_not_trained_on(name: str) -> None:
    full = tokens(name, talk("q", "6", "q2", "5"))
    part = tokens(name, talk("q", "6", "q2", "5", loss=False))
    assert (full.input_ids == part.input_ids).all()
    assert "6" in content(name, talk("q", "6", "q2", "5"))
    assert content(name, talk("q", "6", "q2", "5", loss=False)) == "5"


def test_a_record_without_any_trained_turn_is_refused() -> None:
    with pytest.raises(InputError, match="record r1: no turn of the assistant carries loss"):
        under_loss("chatml", [Message("user", "q"), Message("assistant", "5", loss=False)])


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = ToolCall("add", '{"a": 2, "b": "é"}', "call00001")
USE = [
    Message("user", "What is 2 + 3?"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "5", tool_call_id="call00001"),
    Message("assistant", "It is 5."),
]


def test_calls_of_tools_are_rendered_by_the_template_and_under_the_loss() -> None:
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": "é"}}\n</tool_call><|im_end|>'
    assert under_loss("qwen2.5", USE, (TOOL,)) == call + "It is 5.<|im_end|>"
    assert content("qwen2.5", USE, (TOOL,)) == 'add{"a": 2, "b": "é"}It is 5.'
    assert '"name": "add", "parameters"' in tokens("qwen2.5", USE, (TOOL,)).text
    want = '{"name": "add", "parameters": {"a": 2, "b": "é"}}<|eot_id|>It is 5.<|eot_id|>'
    assert under_loss("llama-3.1", USE, (TOOL,)) == want
    assert content("llama-3.1", USE, (TOOL,)) == 'add{"a": 2, "b": "é"}It is 5.'


def test_a_response_may_be_a_call_with_or_without_text() -> None:
    only = tokens("qwen2.5", USE[:2], (TOOL,))
    assert only.content_mask.any() and under_loss("qwen2.5", USE[:2]).endswith("</tool_call><|im_end|>")
    said = [USE[0], Message("assistant", "I add.", tool_calls=(CALL, ToolCall("add", "{}")))]
    call = '\n<tool_call>\n{"name": "add", "arguments": %s}\n</tool_call>'
    assert under_loss("qwen2.5", said) == "I add." + call % CALL.arguments + call % "{}" + "<|im_end|>"
    quiet = [USE[0], replace(said[1], loss=False), USE[2], USE[3]]
    assert under_loss("qwen2.5", quiet) == "It is 5.<|im_end|>"


def test_the_chatml_of_a_tokenizer_without_a_template_has_tools(tokenizer: Any) -> None:
    record = Record("r1", tuple(USE), "math", "test", tools=(TOOL,))
    [example] = tokenize([record], tokenizer, max_length=None).examples
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": "é"}}\n</tool_call><|im_end|>'
    assert tokenizer.decode(example.input_ids[example.loss_mask]) == call + "It is 5.<|im_end|>"
    assert example.text.startswith('<|im_start|>system\n<tools>\n{"type": "function"')


@pytest.mark.parametrize("name", ["gemma-3", "zephyr", "phi-3", "smollm2", "chatml"])
def test_a_template_without_tools_refuses_them_by_name(name: str) -> None:
    messages = [USE[0], Message("assistant", "So.", tool_calls=(CALL,))]
    with pytest.raises(InputError, match="drops the tool calls of message 2"):
        under_loss(name, messages)
    with pytest.raises(InputError, match="does not render the record's tools"):
        under_loss(name, talk("q", "a"), (TOOL,))


def test_a_template_that_closes_turns_only_at_the_end_is_refused() -> None:
    """Falcon's form: between turns the next special token is the next role's header, and no end of turn."""
    jinja = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% else %}</s>{% endif %}"
    )
    published = replace(TEMPLATES["zephyr"], special=("<|user|>", "<|assistant|>", "</s>"), bos=None)
    record = Record("r1", tuple(talk("q", "a", "q2", "a2")), "math", "test")
    with pytest.raises(InputError, match=r"does not close the assistant's turn \(message 2\)"):
        tokenize([record], tokenizer_of(published, jinja), max_length=None)
    [example] = tokenize(
        [replace(record, messages=tuple(talk("q", "a")))], tokenizer_of(published, jinja), max_length=None
    ).examples
    assert example.n_response_tokens == 2
