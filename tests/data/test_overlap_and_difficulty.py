"""Leaks and copies are found as a brute-force search finds them; splits and bins are what their definitions
say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.data import (
    Message,
    Record,
    difficulty_bins,
    drop,
    duplicates,
    overlaps,
    split_of,
    text_difficulty,
)
from infra.errors import InputError


def record(id: str, question: str, response: str | None = "ok", domain: str = "math") -> Record:
    tail = () if response is None else (Message("assistant", response),)
    return Record(id, (Message("user", question), *tail), domain, "test")


word_lists = st.lists(st.sampled_from("abc"), min_size=0, max_size=14).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(train=st.lists(st.tuples(word_lists, word_lists), max_size=4), evaluation=st.lists(word_lists, max_size=4))
def test_ngram_overlaps_against_substring_search(train: list[tuple[str, str]], evaluation: list[str]) -> None:
    n = 6
    got = overlaps(
        [record(f"t{i}", q, r) for i, (q, r) in enumerate(train)],
        [record(f"e{i}", q, None) for i, q in enumerate(evaluation)],
        n=n,
    )
    expected = set()
    for i, texts in enumerate(train):
        for j, problem in enumerate(evaluation):
            words = problem.split()
            size = min(n, len(words))
            grams = [" ".join(words[k : k + size]) for k in range(len(words) - size + 1)] if size >= 5 else []
            inside = any(f" {g} " in f" {t} " for g in grams for t in texts)
            if inside or texts[0].strip() == problem.strip():
                expected.add((f"t{i}", f"e{j}"))
    assert {(o.train_id, o.eval_id) for o in got} == expected
    assert len(got) == len(expected)


def test_overlap_kinds_and_dropping() -> None:
    problem = "Ann has three red apples and gives two of them to Bob before lunch today"
    train = [
        record("same", problem.upper() + "  "),
        record("inside", "Another one.", f"As in: {problem}! So 1."),
        record("apart", "Nothing in common with it at all, not even a run of words."),
    ]
    found = overlaps(train, [record("e", problem, None)])
    assert [(o.train_id, o.kind) for o in found] == [("same", "exact"), ("inside", "ngram")]
    assert found[1].text == "ann has three red apples and gives two of them to bob before"
    assert [r.id for r in drop(train, [o.train_id for o in found])] == ["apart"]


def test_short_questions_differ_by_their_operators() -> None:
    problem = record("e", "Compute 3 + 4 * 2 now", None)
    train = [record("other", "x", "Compute 3 * 4 + 2 now"), record("same", "x", "First: compute 3+4*2 now.")]
    assert [o.train_id for o in overlaps(train, [problem])] == ["same"]


def test_duplicates() -> None:
    found = duplicates([record("a", "Q", "1"), record("b", " q ", "1"), record("c", "Q", "2"), record("d", "R")])
    assert [(d.id, d.of, d.kind) for d in found] == [("b", "a", "record"), ("c", "a", "question")]


def test_split_is_a_third_by_hash_and_stable() -> None:
    texts = [f"problem number {i}" for i in range(6000)]
    share = np.mean([split_of(t) == "target" for t in texts])
    assert abs(share - 1 / 3) < 0.02
    for text in texts[:50]:
        first = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 16**16
        assert split_of(text) == ("target" if first < 1 / 3 else "held-out")
        assert split_of("  " + text.upper() + "\n") == split_of(text)
    assert split_of("x", 0.0) == "held-out" and split_of("x", 1.0) == "target"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=80).filter(lambda v: len(set(v)) > 1))
def test_bins_follow_the_ranks(values: list[int]) -> None:
    bins = difficulty_bins(values, 5)
    assert set(bins) <= {1, 2, 3, 4, 5}
    for a, x in zip(values, bins):
        for b, y in zip(values, bins):
            assert x <= y if a <= b else x >= y
    if len(set(values)) == len(values) and len(values) % 5 == 0:
        assert [bins.count(k) for k in (1, 2, 3, 4, 5)] == [len(values) // 5] * 5


def test_bins_refuse_what_cannot_be_cut() -> None:
    with pytest.raises(InputError, match="one value cannot be cut"):
        difficulty_bins([2.0, 2.0, 2.0])
    with pytest.raises(InputError, match="finite"):
        difficulty_bins([1.0, float("nan")])


def test_the_text_estimate_counts_operators_numbers_and_keywords() -> None:
    for n in (1, 4):
        math = record("m", "q", "1 + 1 = 2. " * n)
        code = record("c", "q", "no if here\n```python\n" + "if x: x = 1\n" * n + "```", "code")
        assert text_difficulty(math) == pytest.approx(np.log1p(5 * n))  # 1, +, 1, =, 2
        assert text_difficulty(code) == pytest.approx(np.log1p(2 * n))  # if, = inside the fence alone


def test_import_is_light() -> None:
    import subprocess
    import sys

    code = "import sys, infra.data; print('torch' in sys.modules or 'transformers' in sys.modules)"
    where = Path(__file__).parents[2] / "src"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(where)}, check=True
    )
    assert ran.stdout.strip() == "False"
