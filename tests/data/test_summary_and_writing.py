"""The summary counts what is there; what is written loads again, here and in the tools it is written for."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.data import (
    Message,
    Record,
    Span,
    ToolCall,
    describe,
    read_records,
    record_from_dict,
    record_to_dict,
    records_from_table,
    records_to_table,
    summary_figure,
    summary_table,
    to_llamafactory,
    write_records,
)
from infra.errors import InputError

plain = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
values = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | plain
solid = plain.filter(str.strip)


@st.composite
def wild_records(draw: Any) -> Record:
    response = draw(plain)
    start = draw(st.integers(0, len(response)))
    end = draw(st.integers(start, len(response)))
    calls = draw(st.lists(st.builds(ToolCall, solid, st.just('{"a": [1, "é"]}'), st.none() | plain), max_size=2))
    first = draw(st.sampled_from((Message("assistant", "a", loss=False), Message("tool", "5", True, (), "c1", "add"))))
    between = draw(st.sampled_from(((), (first, Message("user", "again")))))
    messages = (Message("user", draw(plain)), *between, Message("assistant", response, tool_calls=tuple(calls)))
    return Record(
        id=draw(solid),
        messages=messages,
        domain=draw(solid),
        source=draw(solid),
        answer=draw(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
        tests=draw(st.none() | st.dictionaries(plain, values, max_size=2)),
        attributes=draw(st.dictionaries(plain, values, max_size=3)),
        spans=(Span(start, end, tuple(draw(st.lists(plain, max_size=2)))),),
        weight=draw(st.floats(0, 10)),
        tools=draw(st.sampled_from(((), ({"name": "add", "parameters": {"type": "object"}},)))),
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(wild_records(), min_size=1, max_size=4))
def test_table_and_dictionaries_lose_nothing(records: list[Record]) -> None:
    assert records_from_table(records_to_table(records)) == records
    assert [record_from_dict(json.loads(json.dumps(record_to_dict(r)))) for r in records] == records


def some_records() -> list[Record]:
    return [
        Record(
            f"r{i}",
            (
                Message("system", "S"),
                Message("user", f"Question {i // 2} about twelve"),
                Message("assistant", "a" * (i + 1)),
            ),
            "math" if i < 4 else "code",
            "src",
            answer="1" if i < 4 else None,
            tests=None if i < 4 else {"kind": "asserts", "setup": "", "asserts": []},
            attributes={"difficulty": i % 3 + 1} if i < 5 else {},
        )
        for i in range(6)
    ]


def test_loads_with_datasets_and_keeps_messages(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = write_records(some_records(), tmp_path / "train.parquet")
    loaded = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["messages"] == [{"role": m.role, "content": m.content} for m in some_records()[0].messages]
    assert loaded["weight"][:] == [1.0] * 6


def test_llamafactory_folder(tmp_path: Path) -> None:
    to_llamafactory(some_records(), tmp_path, "mine")
    declared = json.loads((tmp_path / "dataset_info.json").read_text())["mine"]
    rows = json.loads((tmp_path / declared["file_name"]).read_text())
    assert declared["formatting"] == "sharegpt"
    assert rows[1] == {
        "conversations": [{"from": "human", "value": "Question 0 about twelve"}, {"from": "gpt", "value": "aa"}],
        "system": "S",
    }
    assert set(declared["columns"].values()) == set(rows[0])
    with pytest.raises(InputError, match=r"record w: weight 2\.0 cannot be expressed"):
        to_llamafactory([Record("w", some_records()[0].messages, "math", "s", weight=2.0)], tmp_path)
    with pytest.raises(InputError, match="record p: no assistant turn"):
        to_llamafactory([Record("p", (Message("user", "q"),), "math", "s")], tmp_path)


def test_writing_refuses_and_cleans_up(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"written as \.parquet or \.jsonl"):
        write_records(some_records(), tmp_path / "a.csv")
    write_records(some_records()[:1], tmp_path / "a.jsonl")

    def failing() -> Any:
        yield some_records()[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(Exception, match=r"no space left on the disk of .*jsonl") as error:
        write_records(failing(), tmp_path / "a.jsonl")
    assert type(error.value).__name__ == "ResourceError"
    assert len(read_records(tmp_path / "a.jsonl").records) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_describe(tmp_path: Path) -> None:
    from rich.console import Console

    path = write_records(some_records(), tmp_path / "a.jsonl")
    benchmark = [Record("e1", (Message("user", "question 1  about TWELVE"),), "math", "b")]
    summary = describe(path, benchmarks={"bench": benchmark})
    assert (summary.n, summary.schema, summary.with_response, summary.with_answer, summary.with_tests) == (
        6,
        "record",
        6,
        4,
        2,
    )
    assert summary.domains == {"math": 4, "code": 2}
    assert summary.difficulty == {
        ("code", 2): 1,
        ("code", None): 1,
        ("math", 1): 2,
        ("math", 2): 1,
        ("math", 3): 1,
    }
    assert (summary.response.low, summary.response.high, summary.response.total) == (1, 6, 21)
    assert [(d.id, d.of, d.kind) for d in summary.duplicates] == [
        ("r1", "r0", "question"),
        ("r3", "r2", "question"),
        ("r5", "r4", "question"),
    ]
    assert [(o.train_id, o.kind) for o in summary.leaks["bench"]] == [("r2", "exact"), ("r3", "exact")]
    out = io.StringIO()
    Console(file=out, width=160).print(summary_table(summary))
    said = " ".join(out.getvalue().split())  # a title is wrapped where the path is long
    for words in ("6 records, schema record", "math 4 (67%)", "2 exact, 0 by n-gram: r2 = e1", "1 without"):
        assert words in said
    drawn = io.BytesIO()
    summary_figure(summary).savefig(drawn, format="svg")
    assert b"response length in characters" in drawn.getvalue() or b"<svg" in drawn.getvalue()
