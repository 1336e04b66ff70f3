"""What data sets say of single turns is kept: loss, tools, thinking, earlier turns, and the finished generation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from schema_rows import ROWS

from infra.data import Message, Record, ToolCall, iter_records, read_records, to_llamafactory, tokenize, write_records
from infra.errors import InputError


def read(row: dict[str, Any], folder: Path) -> Record:
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
    [record] = read_records(folder / "rows.jsonl").records
    return record


def openai(**flags: Any) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": "What is 2 + 3?"},
            {"role": "assistant", "content": "6", **flags},
            {"role": "user", "content": "Check again."},
            {"role": "assistant", "content": "5"},
        ]
    }


def sharegpt(**flags: Any) -> dict[str, Any]:
    turns = [("human", "What is 2 + 3?"), ("gpt", "6"), ("human", "Check again."), ("gpt", "5")]
    rows = [{"from": role, "value": text} for role, text in turns]
    rows[1] |= flags
    return {"conversations": rows}


OFF = [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False}, {"loss": False}, {"loss": 0}]
ON = [{}, {"weight": 1}, {"weight": 1.0}, {"train": True}, {"loss": True}, {"loss": None, "weight": None}]


@pytest.mark.parametrize("form", [openai, sharegpt])
@pytest.mark.parametrize("flags", OFF)
def test_a_flag_takes_the_turn_out_of_the_loss(form: Any, flags: dict, tokenizer: Any, tmp_path: Path) -> None:
    record = read(form(**flags), tmp_path)
    assert [m.loss for m in record.messages] == [True, False, True, True]
    [example] = tokenize([record], tokenizer, max_length=None).examples
    assert tokenizer.decode(example.input_ids[example.loss_mask]) == "5<|im_end|>"
    assert record.messages != read(form(), tmp_path).messages


@pytest.mark.parametrize("form", [openai, sharegpt])
@pytest.mark.parametrize("flags", ON)
def test_a_turn_carries_loss_where_nothing_or_its_flag_says_so(form: Any, flags: dict, tmp_path: Path) -> None:
    record = read(form(**flags), tmp_path)
    assert all(m.loss for m in record.messages) and record == read(form(), tmp_path)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"weight": 0.5}, r"messages\[1\].*'weight' of a turn is 0\.5; use 0 or 1"),
        ({"loss": "no"}, "'loss' of a turn is 'no'"),
        ({"train": 2}, "'train' of a turn is 2"),
        ({"weight": 1, "loss": False}, "'weight' and 'loss' contradict each other"),
        ({"train": True, "training": False}, "'train' and 'training' contradict"),
    ],
)
def test_a_flag_without_a_clear_meaning_is_refused(flags: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read(openai(**flags), tmp_path)


def test_loss_on_anyone_elses_turn_is_refused_and_a_weight_of_one_is_not(tmp_path: Path) -> None:
    row = openai()
    row["messages"][0]["train"] = True
    with pytest.raises(InputError, match="asks for loss on a turn of user; only the assistant's"):
        read(row, tmp_path)
    row["messages"][0] = {"role": "user", "content": "q", "weight": 1}
    assert read(row, tmp_path).messages[0].loss


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_flags_and_tools_survive_writing(suffix: str, tmp_path: Path) -> None:
    plain, flagged, called = read(openai(), tmp_path), read(openai(weight=0), tmp_path), read(TOOLS, tmp_path)
    many = [Record(f"r{i}", plain.messages, "math", "s") for i in range(1500)]
    records = [*many, flagged, called, plain]
    path = write_records(iter(records), tmp_path / f"out{suffix}")
    assert list(iter_records(path)) == records
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []
    if suffix == ".parquet":
        alone = pq.read_schema(write_records(many, tmp_path / "narrow.parquet"))
        assert alone.field("messages").type == pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
        assert "tools" in pq.read_schema(path).names and "tools" not in alone.names


TOOLS = {
    "messages": [
        {"role": "user", "content": "What is 2 + 3?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a":2,"b":3}'}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "5"},
        {"role": "assistant", "content": "It is 5."},
    ],
    "tools": [{"name": "add"}],
}


def changed(**turn: Any) -> dict[str, Any]:
    return TOOLS | {"messages": [TOOLS["messages"][0], turn, *TOOLS["messages"][2:]]}


CALL = {"name": "add", "arguments": {"a": 2, "b": 3}}


@pytest.mark.parametrize(
    "row",
    [
        TOOLS,
        changed(role="assistant", content=None, tool_calls=TOOLS["messages"][1]["tool_calls"]),
        changed(role="assistant", tool_calls=[{"id": "1", "function": CALL}]),
        changed(role="assistant", content=None, tool_calls=json.dumps([{"id": "1", "function": CALL}])),
        changed(
            role="assistant",
            content="",
            tool_calls=[{"id": "1", "function": CALL | {"arguments": {**CALL["arguments"], "c": None}}}],
        ),
        changed(role="assistant", content=None, function_call={"name": "add", "arguments": '{"a": 2, "b": 3}'}),
        TOOLS | {"tools": json.dumps(TOOLS["tools"])},
        {"messages": TOOLS["messages"], "functions": TOOLS["tools"]},
    ],
)
def test_calls_of_tools_and_the_tools_are_kept(row: dict, tokenizer: Any, tmp_path: Path) -> None:
    record = read(row, tmp_path)
    [call] = record.messages[1].tool_calls
    assert (call.name, json.loads(call.arguments)) == ("add", {"a": 2, "b": 3})
    assert record.messages[1].content == "" and record.messages[2].tool_call_id == "1"
    assert record.tools == ({"name": "add"},)
    [example] = tokenize([record], tokenizer, max_length=None).examples
    under_loss = tokenizer.decode(example.input_ids[example.loss_mask])
    assert '{"name": "add", "arguments": {"a": 2, "b": 3}}' in under_loss and under_loss.endswith("It is 5.<|im_end|>")
    assert '{"name": "add"}' in example.text[: example.text.index("<|im_start|>user")]


def test_sharegpt_has_turns_of_calls_and_what_is_no_call_stays_text(tmp_path: Path) -> None:
    def row(value: str) -> dict[str, Any]:
        turns = [("human", "q"), ("function_call", value), ("observation", "5"), ("gpt", "It is 5.")]
        return {"conversations": [{"from": f, "value": v} for f, v in turns], "tools": json.dumps([{"name": "add"}])}

    record = read(row(json.dumps(CALL)), tmp_path)
    assert record.messages[1] == Message("assistant", "", tool_calls=(ToolCall("add", '{"a": 2, "b": 3}'),))
    assert record.messages[2].role == "tool"
    assert len(read(row(json.dumps([CALL, CALL])), tmp_path).messages[1].tool_calls) == 2
    assert read(row("add(2, 3)"), tmp_path).messages[1] == Message("assistant", "add(2, 3)")
    to_llamafactory([record], tmp_path / "lf", "mine")
    [back] = read_records(tmp_path / "lf" / "mine.json").records
    assert back.messages == record.messages and back.tools == record.tools
    assert json.loads((tmp_path / "lf" / "dataset_info.json").read_text())["mine"]["columns"]["tools"] == "tools"


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ({"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": "{}"}}]}, "needs a 'function'"),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "not JSON",
        ),
        ({"role": "assistant", "content": "", "tool_calls": {"name": "f"}}, "must be a list"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "must be a text"),
        ({"role": "user", "content": "q", "tool_calls": [{"function": CALL}]}, "a turn of user cannot call tools"),
    ],
)
def test_a_broken_call_is_refused_by_name(turn: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read(changed(**turn), tmp_path)


def test_llamafactory_refuses_what_it_cannot_express(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a turn without loss cannot be expressed"):
        to_llamafactory([read(openai(loss=False), tmp_path)], tmp_path)
    said = changed(role="assistant", content="I add.", tool_calls=[{"function": CALL}])
    with pytest.raises(InputError, match="text beside a call of a tool cannot be expressed"):
        to_llamafactory([read(said, tmp_path)], tmp_path)


TRACE = "<think>\nlong trace\n</think>\n\n5"


@pytest.mark.parametrize(
    ("row", "response"),
    [
        ({"question": "Q", "thinking": "long trace", "response": "5"}, TRACE),
        ({"prompt": "Q", "reasoning": "long trace", "completion": "5"}, TRACE),
        ({"instruction": "Q", "input": "", "output": "5", "thought": "long trace"}, TRACE),
        ({"problem": "Q", "reasoning_content": "long trace", "solution": "5"}, TRACE),
        ({"query": "Q", "chain_of_thought": "long trace", "response": "5"}, TRACE),
        ({"question": "Q", "solution": "5", "answer": "5", "reasoning": "long trace"}, TRACE),
        ({"question": "Q", "reasoning": "long trace", "answer": "5"}, TRACE),
        ({"question": "Q", "cot": "long trace"}, "long trace"),
        (
            {
                "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "5"}],
                "thinking": "long trace",
            },
            TRACE,
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "Q"},
                    {"role": "assistant", "content": "5", "reasoning": "long trace"},
                ]
            },
            TRACE,
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "Q"},
                    {
                        "role": "assistant",
                        "content": [{"type": "thinking", "thinking": "long trace"}, {"type": "text", "text": "5"}],
                    },
                ]
            },
            TRACE,
        ),
        ({"question": "Q", "thinking": "long trace", "response": TRACE}, TRACE),
        ({"question": "Q", "thinking": None, "response": "5"}, "5"),
        ({"question": "Q", "thinking": " ", "response": "5"}, "5"),
    ],
)
def test_a_trace_in_a_column_of_its_own_goes_before_the_response(row: dict, response: str, tmp_path: Path) -> None:
    record = read(row, tmp_path)
    assert (record.question, record.response) == ("Q", response)


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        (
            {"instruction": "q2", "input": "", "output": "a2", "history": [["q1", "a1"]], "system": "S"},
            ["S", "q1", "a1", "q2", "a2"],
        ),
        (
            {"instruction": "q3", "output": "a3", "history": [["q1", "a1"], ["q2", "a2"]]},
            ["q1", "a1", "q2", "a2", "q3", "a3"],
        ),
        ({"instruction": "q2", "input": "x", "output": "a2", "history": [["q1", "a1"]]}, ["q1", "a1", "q2\n\nx", "a2"]),
        ({"prompt": "q2", "response": "a2", "history": [["q1", "a1"]]}, ["q1", "a1", "q2", "a2"]),
        (
            {
                "query": "q2",
                "response": "a2",
                "history": [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}],
            },
            ["q1", "a1", "q2", "a2"],
        ),
        ({"instruction": "q", "output": "a", "history": []}, ["q", "a"]),
        ({"instruction": "q", "output": "a", "history": None}, ["q", "a"]),
        ({"instruction": "q", "context": "the text", "response": "a", "category": "qa"}, ["q\n\nthe text", "a"]),
        ({"id": "1", "system_prompt": "S", "question": "q", "response": "a"}, ["S", "q", "a"]),
    ],
)
def test_earlier_turns_and_systems_beside_an_instruction_are_kept(row: dict, messages: list, tmp_path: Path) -> None:
    record = read(row, tmp_path)
    assert [m.content for m in record.messages] == messages
    assert [m.role for m in record.messages if m.role != "system"] == ["user", "assistant"] * (len(messages) // 2)


def test_a_history_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"history\[0\].*a pair of texts"):
        read({"instruction": "q", "output": "a", "history": [["q1"]]}, tmp_path)


OPENR1 = {"problem": "Sum?", "answer": "5", "correctness_math_verify": [False, False], "correctness_llama": None}


@pytest.mark.parametrize(
    ("row", "response"),
    [
        (
            OPENR1
            | {"generations": ["<think>a never ends", "<think>b</think>5"], "is_reasoning_complete": [False, True]},
            "<think>b</think>5",
        ),
        (OPENR1 | {"generations": ["<think>a never ends", "<think>b</think>5"]}, "<think>b</think>5"),
        (
            OPENR1
            | {"generations": ["<think>a</think>cut", "<think>b</think>5"], "finish_reasons": ["length", "stop"]},
            "<think>b</think>5",
        ),
        (OPENR1 | {"generations": ["<think>a", "<think>b"], "is_reasoning_complete": [False, False]}, "<think>a"),
        (
            OPENR1
            | {
                "generations": ["<think>a", "<think>b</think>6", "<think>c</think>5"],
                "correctness_math_verify": [True, False, True],
                "is_reasoning_complete": [False, True, True],
            },
            "<think>c</think>5",
        ),
        ({"problem": "Sum?", "generations": ["<think>a never ends", "<think>b</think>5"]}, "<think>b</think>5"),
        ({"prompt": "Sum?", "responses": ["<think>a", "<think>b", "<think>c</think>5"]}, "<think>c</think>5"),
        (
            {
                "question": "Sum?",
                "final_answer": "5",
                "r1_solution_1": "never ends",
                "r1_solution_2": "so\n</think>\n5",
            },
            "<think>\nso\n</think>\n5",
        ),
    ],
)
def test_a_finished_generation_is_taken_before_an_unfinished_one(row: dict, response: str, tmp_path: Path) -> None:
    record = read(row, tmp_path)
    assert record.response == response
    assert record.attributes.get("complete", True) == (response != "<think>a")


@pytest.mark.parametrize(
    ("row", "response"),
    [
        (
            {"problem": "Q", "generated_solution": "trace \\boxed{5}", "expected_answer": "5", "problem_source": "g"},
            "trace \\boxed{5}",
        ),
        ({"question": "Q", "generation": "G"}, "G"),
        ({"prompt": "Q", "llm_response": "G"}, "G"),
        ({"prompt": "Q", "model_output": "G", "score": 1.0}, "G"),
        ({"problem": "Q", "generated_text": "G", "answer": "5"}, "G"),
        ({"instruction": "Q", "completion": "G"}, "G"),
        ({"query": "Q", "output": "G"}, "G"),
        ({"prompt": "Q", "chosen": "G", "rejected": "B"}, "G"),
        (
            {
                "prompt": "Q",
                "chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "G"}],
                "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "B"}],
            },
            "G",
        ),
    ],
)
def test_a_generation_under_another_name_is_no_problem_without_a_response(
    row: dict, response: str, tmp_path: Path
) -> None:
    record = read(row, tmp_path)
    assert (record.question, record.response) == ("Q", response)


@pytest.mark.parametrize(
    "schema", ["gsm8k", "limo", "aime", "numinamath-cot", "magicoder-oss-instruct", "humaneval", "taco"]
)
@pytest.mark.parametrize("column", ["response", "generation", "model_output", "completions"])
def test_a_models_response_takes_the_place_of_the_reference(schema: str, column: str, tmp_path: Path) -> None:
    given: Any = ["<think>never ends", "<think>\nR\n</think>\n\n6"] if column == "completions" else "the model's own"
    plain = read(ROWS[schema], tmp_path)
    record = read(ROWS[schema] | {column: given}, tmp_path)
    assert record.response == (given if isinstance(given, str) else given[1]) != plain.response
    assert (record.question, record.answer, record.domain, record.tests) == (
        plain.question,
        plain.answer,
        plain.domain,
        plain.tests,
    )
    assert column not in record.attributes


def test_a_response_column_follows_a_conversation_that_asks_and_leaves_one_that_answers(tmp_path: Path) -> None:
    asked = {"messages": [{"role": "user", "content": "q"}], "response": "a"}
    assert [m.content for m in read(asked, tmp_path).messages] == ["q", "a"]
    answered = openai() | {"response": "kept"}
    record = read(answered, tmp_path)
    assert record.response == "5" and record.attributes["response"] == "kept"
