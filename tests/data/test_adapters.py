"""Every published schema is found by its shape and read field for field; the real files read whole."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from schema_rows import EXPECTED, ROWS

from infra.data import ADAPTERS, read_records, write_records
from infra.errors import InputError

DATA = Path(os.environ.get("INFRA_DATA", Path(__file__).parents[3] / "shared" / "data"))
REAL = {
    "HumanEval.jsonl.gz": ("humaneval", 164),
    "aime24.jsonl": ("aime", 30),
    "gsm8k_test.jsonl": ("gsm8k", 660),
    "gsm8k_train.jsonl": ("gsm8k", 7473),
    "math500.jsonl": ("math", 500),
    "math_cot.jsonl": ("math", 1767),
    "math_problems.jsonl": ("math", 7500),
    "mbpp.jsonl": ("mbpp", 974),
}


def write_rows(rows: list[dict], path: Path) -> Path:
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.name.endswith(".json"):
        path.write_text(json.dumps(rows, indent=1))
    else:
        body = "".join(json.dumps(r) + "\n" for r in rows)
        path.write_bytes(gzip.compress(body.encode()) if path.name.endswith(".gz") else body.encode())
    return path


@pytest.mark.parametrize("file", ["a.jsonl", "a.json", "a.parquet", "a.jsonl.gz"])
@pytest.mark.parametrize("schema", ROWS)
def test_published_row_is_detected_and_read(schema: str, file: str, tmp_path: Path) -> None:
    row = ROWS[schema]
    result = read_records(write_rows([row], tmp_path / file))
    [record] = result.records
    question, response, domain, answer, tests, attributes = EXPECTED[schema]
    assert result.schema == schema
    assert result.skipped == []
    assert (record.question, record.response, record.domain, record.answer) == (question, response, domain, answer)
    assert record.tests == tests
    if file == "a.parquet" and schema == "record":
        attributes = {k: v for k, v in attributes.items() if v is not None}
    assert attributes.items() <= dict(record.attributes).items() or file == "a.parquet"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_schema_survives_our_own_format(suffix: str, tmp_path: Path) -> None:
    records = [
        replace(read_records(write_rows([row], tmp_path / "a.jsonl")).records[0], id=name) for name, row in ROWS.items()
    ]
    again = read_records(write_records(records, tmp_path / f"all{suffix}"))
    assert again.schema == "record"
    assert again.records == records


def test_detection_never_falls_to_a_later_adapter_by_accident() -> None:
    for schema, row in ROWS.items():
        assert next(a.name for a in ADAPTERS if a.fits(row)) == schema


def test_explicit_schema_domain_and_source_override(tmp_path: Path) -> None:
    path = write_rows([{"problem": "P", "solution": "S", "level": 2, "type": "x"}], tmp_path / "a.jsonl")
    assert read_records(path).schema == "math"
    result = read_records(path, schema="problem/solution", domain="physics", source="mine")
    assert (result.schema, result.records[0].domain, result.records[0].source) == (
        "problem/solution",
        "physics",
        "mine",
    )
    with pytest.raises(InputError, match="schema 'nope' is not known"):
        read_records(path, schema="nope")


def test_general_forms(tmp_path: Path) -> None:
    rows = {
        "trl": {
            "prompt": [{"role": "user", "content": "Q"}],
            "completion": [{"role": "assistant", "content": "A"}],
        },
        "alpaca": {"instruction": "Add.", "input": "2 3", "output": "5"},
        "parts": {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Q"}]},
                {"role": "assistant", "content": "A", "reasoning_content": "R"},
            ]
        },
        "extra": {"prompt": "Q", "response": "A", "domain": "code", "level": 4, "id": 17, "weight": 0.25},
    }
    got = {k: read_records(write_rows([v], tmp_path / f"{k}.jsonl")).records[0] for k, v in rows.items()}
    assert (got["trl"].question, got["trl"].response) == ("Q", "A")
    assert (got["alpaca"].question, got["alpaca"].response) == ("Add.\n\n2 3", "5")
    assert (got["parts"].question, got["parts"].response) == ("Q", "<think>\nR\n</think>\n\nA")
    assert got["extra"].domain == "code" and got["extra"].weight == 0.25
    assert (got["extra"].id, got["extra"].attributes) == ("17", {"level": 4})


def test_an_id_that_a_file_has_twice_is_counted(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "response": f"A{i}", "id": id_} for i, id_ in enumerate(("7", 7, "7~2", "8"))]
    found = read_records(write_rows(rows, tmp_path / "a.jsonl"))
    assert [r.id for r in found.records] == ["7", "7~2", "7~2~2", "8"]
    assert [p.line for p in found.places] == [1, 2, 3, 4]


def test_two_files_of_a_folder_may_not_give_one_id_to_different_records(tmp_path: Path) -> None:
    row = {"prompt": "Q", "response": "A", "id": 7}
    write_rows([row, row | {"id": 8}], tmp_path / "a.jsonl")
    write_rows([row | {"response": "B"}], tmp_path / "b.jsonl")
    with pytest.raises(
        InputError, match=r"the id '7' names two different records .*a\.jsonl, line 1 and .*b\.jsonl, line 1"
    ):
        read_records(tmp_path)
    assert [r.id for r in read_records(tmp_path, ids="line").records] == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1"]


def test_the_same_record_in_two_files_is_a_copy_and_no_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_rows([{"prompt": "Q", "response": "A", "id": 7}], tmp_path / f"{name}.jsonl")
    assert [r.id for r in read_records(tmp_path).records] == ["7", "7~2"]


def test_without_ids_files_of_one_name_in_a_folder_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_rows([{"prompt": "Q", "response": name}], tmp_path / name / "rows.jsonl")
    assert [r.id for r in read_records(tmp_path).records] == ["a/rows.jsonl:1", "b/rows.jsonl:1"]
    assert [r.id for r in read_records(tmp_path / "a", label="mine").records] == ["mine/rows.jsonl:1"]


@pytest.mark.parametrize("file", [f for f in REAL if (DATA / f).exists()])
def test_real_files_read_whole(file: str) -> None:
    schema, count = REAL[file]
    result = read_records(DATA / file)
    assert (result.schema, len(result.records)) == (schema, count)
    assert len({r.id for r in result.records}) == count
    for record in result.records:
        assert record.question.strip()
        assert (record.domain == "code") == (record.tests is not None)
        if schema == "gsm8k":
            assert record.response is not None and record.response.endswith(f"\\boxed{{{record.answer}}}")
            assert "<<" not in record.response
            assert record.attributes.get("difficulty") in (None, 1, 2, 3, 4, 5)
        if schema == "math":
            assert record.attributes.get("difficulty") in (1, 2, 3, 4, 5, None)
    if file != "math_problems.jsonl":
        assert all(r.answer for r in result.records if r.domain == "math")
    else:  # two of its problems have a blank answer
        assert sum(r.answer is None for r in result.records) == 2
    if schema == "math":  # MATH marks two of its problems "Level ?"
        assert sum("difficulty" not in r.attributes for r in result.records) <= 2
