"""A user's own benchmark and data adapter work from the user's own file, without touching this repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.data import read_records
from infra.errors import InputError
from infra.evals import get_task
from infra.pipeline.recipe import parse_recipe

BENCHMARK = '''
"""Sums below ten. Example row: {"a": 2, "b": 3}"""

import json
from dataclasses import replace

from infra.data import Message, Record
from infra.evals import Task


def load(path, options):
    rows = [json.loads(line) for line in open(path)]
    return [
        Record(f"sum-{i}", (Message("user", f"{row['a']} + {row['b']} = ?"),), "math", "sums", str(row["a"] + row["b"]))
        for i, row in enumerate(rows)
    ]


SUMS = Task("sums", "math", load, "nowhere", "1", "Put the answer in \\\\boxed{}.")
NO_TASK = 3
'''
ADAPTER = '''
"""Example row: {"frage": "2 + 3 = ?", "antwort": "5"}"""

from infra.data.adapters import Adapter
from infra.data.fields import Draft, dialogue, text


def convert(row):
    return Draft(dialogue(text(row, "frage"), text(row, "antwort")), "math", answer=text(row, "antwort"))


GERMAN = Adapter("german", frozenset({"frage", "antwort"}), convert, source="german")
'''


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_benchmark_from_the_users_own_file(tmp_path: Path) -> None:
    file = written(tmp_path, "sums.py", BENCHMARK)
    rows = written(tmp_path, "sums.jsonl", json.dumps({"a": 2, "b": 3}) + "\n")
    task = get_task(f"{file}:SUMS", rows)
    [problem] = task.load()
    assert task.verify(problem, "It is \\boxed{5}.").correct and not task.verify(problem, "It is \\boxed{6}.").correct


def test_a_schema_from_the_users_own_file(tmp_path: Path) -> None:
    file = written(tmp_path, "german.py", ADAPTER)
    rows = written(tmp_path, "rows.jsonl", json.dumps({"frage": "2 + 3 = ?", "antwort": "5"}) + "\n")
    [record] = read_records(rows, schema=f"{file}:GERMAN").records
    assert (record.question, record.response, record.source) == ("2 + 3 = ?", "5", "german")


def test_what_is_wrong_with_a_users_file_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, "sums.py", BENCHMARK)
    broken = written(tmp_path, "broken.py", "1 / 0\n")
    with pytest.raises(InputError, match=r"no file .*missing\.py"):
        get_task(f"{tmp_path / 'missing.py'}:SUMS")
    with pytest.raises(InputError, match=r"does not define 'SUM'; it defines .*SUMS"):
        get_task(f"{file}:SUM")
    with pytest.raises(InputError, match=r"broken\.py cannot be imported \(ZeroDivisionError"):
        get_task(f"{broken}:SUMS")
    with pytest.raises(InputError, match=r"is a int and no infra\.evals\.Task"):
        get_task(f"{file}:NO_TASK")
    with pytest.raises(InputError, match=r"path/to/file\.py:NAME"):
        get_task("nothing-like-it")
    with pytest.raises(InputError, match=r"path/to/file\.py:NAME"):
        read_records(file, schema="nothing-like-it")


def test_a_recipe_finds_a_users_file_beside_itself(tmp_path: Path) -> None:
    file = written(tmp_path, "sums.py", BENCHMARK)
    raw = {
        "name": "mine",
        "data": {"sources": [{"path": "train.jsonl", "schema": "sums.py:GERMAN"}]},
        "tasks": [{"name": "sums.py:SUMS", "path": "sums.jsonl", "target": "math"}],
    }
    recipe = parse_recipe(raw, where="mine.yaml", folder=tmp_path)
    assert recipe.tasks[0].name == f"{file.resolve()}:SUMS"
    assert recipe.data.sources[0].schema_ == f"{file.resolve()}:GERMAN"
