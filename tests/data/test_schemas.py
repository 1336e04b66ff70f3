"""What the list of schemas says of every column is what happens to it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from schema_rows import ROWS, VARIANTS

from infra.data import ADAPTERS, Record, describe, get_adapter, iter_records, read_records, summary_table
from infra.data.adapters.page import schemas_page
from infra.errors import InputError

PUBLISHED = [*ROWS.items(), *VARIANTS]
GENERAL = {"messages", "sharegpt", "prompt/response"}


def read(row: dict[str, Any], schema: str, folder: Path) -> Record | None:
    """The record, its content id aside; None where the row is refused."""
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    try:
        [record] = iter_records(path, schema=schema)
    except InputError:
        return None
    return record


def parts(record: Record | None) -> Any:
    return record and (
        *(record.messages, record.domain, record.source, record.answer, record.tests, dict(record.attributes)),
        *(record.spans, record.weight, record.tools, record.id),
    )


def changes(value: Any) -> list[Any]:
    """Values that differ in kind, so that whatever reads the column must notice one of them."""
    other: Any = {
        str: f"{value} \\boxed{{7}}",
        bool: not value,
        int: 7,
        float: 0.0,
        list: value[::-1] if isinstance(value, list) else None,
        dict: {"other": 7},
        type(None): "Other",
    }[type(value)]
    return [other, None, "", [], "7", True, [True, True, False]]


def test_every_column_of_every_published_row_has_a_fate() -> None:
    for schema, row in PUBLISHED:
        assert set(row) <= set(get_adapter(schema).columns), schema


def test_the_published_rows_show_every_column_that_a_schema_names() -> None:
    for adapter in ADAPTERS:
        rows = [row for schema, row in PUBLISHED if schema == adapter.name]
        if rows and adapter.name not in GENERAL:
            assert set(adapter.columns) <= {name for row in rows for name in row}, adapter.name


def test_every_schema_but_the_pairs_has_a_published_row() -> None:
    named = {schema for schema, _ in PUBLISHED}
    assert {a.name for a in ADAPTERS if "/" not in a.name} - named == {
        *("conversations", "problem", "question", "prompt", "instruction")
    }


@pytest.mark.parametrize("schema", sorted({schema for schema, _ in PUBLISHED}))
def test_a_column_matters_unless_the_list_says_that_it_is_not_kept(schema: str, tmp_path: Path) -> None:
    rows = [row for name, row in PUBLISHED if name == schema]
    for column, fate in get_adapter(schema).columns.items():
        matters = False
        for row in rows:
            if column not in row:
                continue
            before = parts(read(row, schema, tmp_path))
            after = [parts(read(row | {column: value}, schema, tmp_path)) for value in changes(row[column])]
            matters = matters or any(changed != before for changed in after)
        if any(column in row for row in rows):
            assert matters != fate.startswith("not kept"), (column, fate)


def test_the_page_of_schemas_names_every_column_of_every_schema() -> None:
    sections = {part.split("`")[1]: part for part in schemas_page().split("\n## ")[1:]}
    assert len(sections) > 25
    for adapter in ADAPTERS:
        own = sections.get(adapter.name)  # the many pairs of two columns share one section
        for column, fate in adapter.columns.items() if own else ():
            assert f"| `{column}` | {fate} |" in str(own), (adapter.name, column)


@pytest.mark.parametrize(
    ("row", "native", "kept"),
    [
        ({"prompt": "Q", "response": "A", "id": "q7"}, "q7", {}),
        ({"question": "Q", "solution": "S", "answer": "5", "id": 17}, "17", {}),
        ({"question": "Q", "answer": "a\n#### 5", "uuid": "u"}, "u", {}),
        ({"messages": [{"role": "user", "content": "q"}], "prompt_id": "p1"}, "p1", {}),
        ({"problem": "P", "level": 2, "type": "x", "solution": "S", "id": 0}, "0", {}),
        (
            {"query": "Q", "response": "A", "type": "t_x", "original_question": "O", "question_id": 3},
            "3",
            {"type": "t_x"},
        ),
    ],
)
def test_the_users_own_id_is_the_id(row: dict, native: str, kept: dict, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(row) + "\n")
    [record] = read_records(path).records
    assert record.id == native
    assert kept.items() <= record.attributes.items()


@pytest.mark.parametrize(
    "row", [{"prompt": "Q", "response": "A"}, ROWS["limo"], ROWS["gsm8k"], ROWS["s1k"], ROWS["sharegpt"]]
)
def test_rows_without_an_id_are_named_by_file_and_line(row: dict, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(row) + "\n\n" + json.dumps(row) + "\n")
    first, second = read_records(path).records
    assert (first.id, second.id) == ("mine.jsonl:1", "mine.jsonl:3")


def test_what_is_not_understood_is_listed_once(tmp_path: Path) -> None:
    rows = [
        {"question": "Q", "solution": "S", "answer": "5", "embedding": [0.1, 0.2], "note": "kept", "empty": []},
        {"question": "Q2", "solution": "S", "answer": "5", "embedding": [0.3], "extra": {"a": 1}},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    result = read_records(path)
    assert result.schema == "limo" and result.unread == ("embedding", "extra")
    assert result.records[0].attributes["note"] == "kept"
    turn = {"role": "assistant", "content": "A", "audio": {"id": 1}, "refusal": None, "name": "bot"}
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "q"}, turn]}) + "\n")
    assert read_records(path).unread == ("messages[].audio", "messages[].name")


def test_the_summary_shows_what_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "Q", "response": "A", "embedding": [1]}) + "\n")
    out = io.StringIO()
    Console(file=out, width=120).print(summary_table(describe(path)))
    assert "not read (no known meaning)" in out.getvalue() and "embedding" in out.getvalue()


def test_a_weight_is_read_whatever_the_schema(tmp_path: Path) -> None:
    for name in ("limo", "gsm8k", "s1k-1.1", "metamathqa", "apps", "openmathinstruct-2"):
        record = read(ROWS[name] | {"weight": 0.25}, name, tmp_path)
        assert record is not None and record.weight == 0.25 and "weight" not in record.attributes
