"""Whatever is wrong with a file is said in one sentence with file, line, record and field; nothing else gets
out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.data import iter_records, read_records
from infra.errors import InfraError, InputError

GOOD = {"prompt": "What is 2 + 3?", "response": "5"}


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "blank.jsonl").write_bytes(b"\n\n")
    (tmp_path / "x.parquet").write_bytes(b"this is not parquet")
    (tmp_path / "folder").mkdir()
    for name, words in {
        "nothere.jsonl": "no such file",
        "empty.jsonl": "the file is empty",
        "blank.jsonl": "no record could be read",
        "x.parquet": "not a Parquet file",
        "folder": "holds no file",
    }.items():
        with pytest.raises(InputError, match=words) as error:
            read_records(tmp_path / name)
        assert name in str(error.value)


def test_truncated_containers(tmp_path: Path) -> None:
    body = "".join(json.dumps(GOOD | {"n": i}) + "\n" for i in range(2000)).encode()
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(body)[:-40])
    (tmp_path / "cut.json").write_text(json.dumps([GOOD, GOOD])[:-30])
    pq.write_table(pa.Table.from_pylist([GOOD] * 50), tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
    (tmp_path / "cut.jsonl").write_bytes(body[:-20])
    for name, words in {
        "cut.jsonl.gz": "breaks off",
        "cut.json": "element 2: not JSON, or the file breaks off",
        "cut.parquet": "damaged or cut off",
        "cut.jsonl": "line 2000: not JSON .* the file breaks off in this line",
    }.items():
        with pytest.raises(InputError, match=words):
            read_records(tmp_path / name)


@pytest.mark.parametrize(
    ("row", "field", "words"),
    [
        ({"messages": [{"role": "usr", "content": "x"}], "id": "q7"}, "messages[0]", "unknown role 'usr'"),
        ({"messages": [], "id": "q7"}, "messages", "at least one turn"),
        ({"messages": [{"role": "assistant", "content": "x"}], "id": "q7"}, "messages", "no user turn"),
        ({"messages": [{"role": "user", "content": None}], "id": "q7"}, "messages[0]", "must be a text"),
        ({"messages": "hi", "id": "q7"}, "messages", "a list of turns"),
        ({"conversations": [{"value": "x"}], "id": "q7"}, "conversations[0]", "unknown role None"),
        ({"prompt": "  ", "response": "x", "id": "q7"}, "prompt", "empty"),
        ({"prompt": "x", "response": 3, "id": "q7"}, "response", "a text is expected, found int"),
        ({"prompt": "x", "response": "y", "weight": -1, "id": "q7"}, "weight", "at least 0"),
        ({"prompt": "x", "response": "y", "tests": "{", "id": "q7"}, "tests", "not JSON"),
        ({"task_id": "q7", "text": "t", "code": "c", "test_list": []}, "test_list", "at least one assert"),
        (
            {"problem_id": "q7", "question": "t", "solutions": "[]", "input_output": "{}", "difficulty": "silly"},
            "difficulty",
            "unknown level 'silly'",
        ),
    ],
)
def test_bad_rows_are_named_or_skipped(row: dict, field: str, words: str, tmp_path: Path) -> None:
    good = {k: v for k, v in row.items() if k == "id"} | {
        "messages": {"messages": [{"role": "user", "content": "q"}]},
        "conversations": {"conversations": [{"from": "human", "value": "q"}]},
        "prompt": GOOD,
        "task_id": {"task_id": 1, "text": "t", "code": "c", "test_list": ["assert True"]},
        "problem_id": {
            "problem_id": 1,
            "question": "t",
            "solutions": "[]",
            "input_output": "",
            "difficulty": "interview",
        },
    }[next(iter(row))]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in (good, row, good)) + "\n")
    with pytest.raises(InputError) as error:
        read_records(path)
    message = str(error.value)
    for part in (str(path), "line 2", "q7", repr(field), words):
        assert part in message
    result = read_records(path, on_error="skip")
    assert len(result.records) == 2
    [bad] = result.skipped
    assert (bad.file, bad.line, bad.id, bad.field) == (str(path), 2, "q7", field)
    assert words in bad.reason


def test_unparsable_lines_are_skipped_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n{oops\n\xff\xfe\n[1]\n" + json.dumps(GOOD).encode())
    with pytest.raises(InputError, match="line 2: not JSON"):
        read_records(path)
    result = read_records(path, on_error="skip")
    assert len(result.records) == 2
    assert [(b.line, b.reason.split(" (")[0].split(",")[0]) for b in result.skipped] == [
        (2, "not JSON"),
        (3, "not UTF-8"),
        (4, "a JSON object is expected"),
    ]


def test_unknown_schema_names_the_fields(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"alpha": 1, "beta": 2}\n')
    with pytest.raises(InputError, match=r"no known schema has the fields found \(alpha, beta\)"):
        read_records(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match=r"no record could be read \(1 rows are bad; the first: .*alpha"):
        read_records(tmp_path / "a.jsonl", on_error="skip")


def test_json_array_is_read_element_by_element(tmp_path: Path) -> None:
    rows = [{"prompt": "q" * n, "response": "ä" * n} for n in (1, 70_000, 3, 200_000, 5)]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False, indent=2))
    assert [r.question for r in read_records(tmp_path / "a.json").records] == [r["prompt"] for r in rows]
    (tmp_path / "b.json").write_text('[{"prompt": "q", "response": "a"} {"prompt": "q", "response": "a"}]')
    with pytest.raises(InputError, match="after element 1: ',' or '\\]' expected"):
        read_records(tmp_path / "b.json")
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(InputError, match="no record could be read"):
        read_records(tmp_path / "c.json")


def test_folder_takes_the_split_and_limit_stops_early(tmp_path: Path) -> None:
    for name in ("train-00000.jsonl", "train-00001.jsonl", "test-00000.jsonl"):
        (tmp_path / name).write_text(json.dumps(GOOD | {"prompt": name}) + "\n")
    assert [r.question for r in iter_records(tmp_path)] == ["train-00000.jsonl", "train-00001.jsonl"]
    assert [r.question for r in iter_records(tmp_path, split="test")] == ["test-00000.jsonl"]
    assert len(read_records(tmp_path, limit=1).records) == 1


@settings(deadline=None, max_examples=60)
@given(body=st.binary(max_size=200))
def test_any_bytes_give_records_or_a_clear_error(body: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_bytes(body)
    try:
        read_records(path)
    except InfraError as error:
        assert str(path) in str(error)


@settings(deadline=None, max_examples=60)
@given(
    row=st.dictionaries(
        st.sampled_from(
            ["messages", "prompt", "response", "conversations", "problem", "answer", "solutions", "weight"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda x: (
                st.lists(x, max_size=2)
                | st.dictionaries(st.sampled_from(["role", "content", "from", "value"]), x, max_size=2)
            ),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_any_row_gives_a_record_or_a_clear_error(row: dict, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    try:
        [record] = read_records(path).records
    except InfraError as error:
        assert "line 1" in str(error)
    else:
        assert record.messages and record.domain
