"""Small files that are in order, and a guard: whatever loads weights fails the test."""

import hashlib
import json
from pathlib import Path

import pytest

from infra.models import load


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """Nothing in these tests may get as far as loading a model's weights."""

    def refuse(*arguments, **settings):
        pytest.fail("a model's weights were loaded")

    monkeypatch.setattr(load, "all_weights", refuse)


def row(i: int, answer: str = "It is {i} plus one.", **extra) -> dict:
    return {"id": f"r{i}", "prompt": f"What is {i} + 1?", "response": answer.format(i=i), "domain": "math", **extra}


def write(path: Path, rows: list) -> str:
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return str(path)


@pytest.fixture
def good(tmp_path) -> dict[str, str]:
    """A training file of eight records, and one of six queries."""
    return {
        "train": write(tmp_path / "train.jsonl", [row(i, difficulty=1 + i % 3) for i in range(8)]),
        "queries": write(tmp_path / "queries.jsonl", [row(100 + i) for i in range(6)]),
    }


def tree(folder: Path) -> dict[str, str]:
    """Every file under a folder with the hash of its bytes."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
