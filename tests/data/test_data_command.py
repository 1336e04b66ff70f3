"""`infra data` finds duplicates and leaks in real files and writes what is left without them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.command import infra

from infra.data import read_records
from infra.data.splits import normalise

BENCHMARK = [f"Ann has {n} red apples and gives {n - 1} of them to Bob before lunch on day {n}" for n in range(40, 44)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    own = [{"prompt": f"How many legs have {n} cats?", "response": str(4 * n)} for n in range(6)]
    copy = {"prompt": "How many  legs have 3 cats?", "response": "12"}
    exact = {"prompt": BENCHMARK[0].upper(), "response": "38"}
    inside = {"prompt": "Solve it.", "response": f"We know: {BENCHMARK[1]}. So 39."}
    train, bench = tmp_path / "train.jsonl", tmp_path / "bench.jsonl"
    train.write_text("".join(json.dumps(r) + "\n" for r in [*own, copy, exact, inside]))
    bench.write_text("".join(json.dumps({"question": q, "answer": "So.\n#### 1"}) + "\n" for q in BENCHMARK))
    return train, bench


def test_leaks_and_duplicates_are_dropped_and_listed(files: tuple[Path, Path], tmp_path: Path) -> None:
    train, bench = files
    out = tmp_path / "clean.parquet"
    done = infra("data", train, "--benchmarks", f"gsm8k={bench}", "--drop-leaks", "--drop-duplicates", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "1 exact, 1 by n-gram" in done.stdout and "1 whole records" in done.stdout
    kept = read_records(out).records
    assert [normalise(r.question) for r in kept] == [f"how many legs have {n} cats?" for n in range(6)]
    listed = json.loads(Path(f"{out}.dropped.json").read_text())
    assert [d["why"] for d in listed] == ["duplicate", "exact leak", "ngram leak"]
    again = infra("data", out, "--benchmarks", f"gsm8k={bench}")
    assert "0 exact, 0 by n-gram" in again.stdout and "0 whole records" in again.stdout


def test_what_is_asked_for_must_be_whole(files: tuple[Path, Path], tmp_path: Path) -> None:
    train, _ = files
    for arguments, words in (
        (["--drop-leaks", "--out", tmp_path / "x.jsonl"], "--drop-leaks needs --benchmarks"),
        (["--drop-duplicates"], "need --out FILE"),
        (["--out", tmp_path / "x.csv"], "written as .parquet or .jsonl"),
    ):
        done = infra("data", train, *arguments)
        assert done.returncode == 2 and words in done.stderr, done.stderr
