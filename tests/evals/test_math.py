"""Math verification: extraction, exact numbers, labelled pairs, killing what does not end."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.data.schema import Message, Record
from infra.evals import get_task, verify_many
from infra.evals.mathcheck import grade_many
from infra.evals.mathcheck._number import exact_value
from infra.evals.mathcheck._pool import quick_outcome
from tests.evals import exam

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "data" / "math_pairs.jsonl").read_text().splitlines()]
SHARED = Path(os.environ.get("INFRA_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


@given(st.integers(), st.integers(1, 10**6))
@settings(deadline=None)
def test_exact_values_round_trip(top: int, bottom: int) -> None:
    value = Fraction(top, bottom)
    assert exact_value(f"{top}/{bottom}") == value
    assert exact_value(f"\\frac{{{top}}}{{{bottom}}}") == value
    assert exact_value(f"{top:,}") == top == exact_value(f"${top}.00$")
    assert quick_outcome(str(top), str(top + 1)) == "wrong"


def test_plain_numbers_never_start_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("infra.evals.mathcheck._pool._Worker", refuse)
    monkeypatch.setattr("infra.evals.mathcheck._pool._shared", {})
    record = Record("r", (Message("user", "q"),), "math", "t", answer="1,234")
    responses = [r"\boxed{1234}", r"\boxed{1234.0}", r"\boxed{1235}", "no idea", "The answer is 1234."]
    outcomes = [v.outcome for v in verify_many([record] * 5, responses)]
    assert outcomes == ["correct", "correct", "wrong", "no_answer", "correct"]


def outcomes_of(rows: list[dict[str, str]]) -> list[str]:
    return [v.outcome for v in grade_many([(row["gold"], row["response"]) for row in rows], timeout_s=60)]


@pytest.mark.slow
@pytest.mark.parametrize("half", ["development", "test"])
def test_labelled_pairs(half: str) -> None:
    assert len(PAIRS) >= 300 and min(Counter(p["class"] for p in PAIRS).values()) >= 15
    rows = [p for p in PAIRS if p["half"] == half]
    misses = [r for r, o in zip(rows, outcomes_of(rows)) if (o == "correct") != (r["label"] == "correct")]
    assert len(misses) <= 0.01 * len(rows) if half == "development" else len(misses) <= 0.03 * len(rows), misses


@pytest.mark.slow
def test_second_exam() -> None:
    rows, others = exam.load("second")
    assert len(rows) >= 300 and min(Counter(r["class"] for r in rows).values()) >= 15
    labels = [r["label"] == "correct" for r in rows]
    assert labels == others  # two labellers
    misses = [r for r, found, label in zip(rows, exam.ours(rows), labels) if found != label]
    assert len(misses) <= 0.01 * len(rows), misses


def notations() -> list[tuple[str, str, bool]]:
    """Answers of our own that say the same as a reference, or something else: what the rules were written for."""
    rows = [json.loads(line) for line in (exam.DATA / "math_notations.jsonl").read_text().splitlines()]
    return [(r["gold"], a, kind == "same") for r in rows for kind in ("same", "different") for a in r[kind]]


def misjudged(cases: list[tuple[str, str, bool]]) -> list[tuple[str, str, bool]]:
    found = grade_many([(gold, f"\\boxed{{{answer}}}") for gold, answer, _ in cases], timeout_s=60)
    return [case for case, verdict in zip(cases, found) if verdict.correct != case[2]]


def test_a_sample_of_notations() -> None:
    assert misjudged(notations()[5::30]) == []


@pytest.mark.slow
def test_all_notations() -> None:
    assert len(notations()) > 1900 and misjudged(notations()) == []


def test_a_sample_of_hard_shapes() -> None:
    shapes = {"intervals", "matrices", "equations", "complex", "expressions"}
    rows = [p for p in PAIRS if p["half"] == "development" and p["class"] in shapes][::3]
    assert [o == "correct" for o in outcomes_of(rows)] == [r["label"] == "correct" for r in rows]


def test_a_check_that_does_not_end_is_killed_and_the_next_one_works() -> None:
    began = time.monotonic()
    tower = "9^{9^{9^{9^{9}}}}"
    pairs = [("x+1", f"\\boxed{{{answer}}}") for answer in (tower + "+x", "1+x")]
    first, second = grade_many(pairs, workers=1, timeout_s=3)
    assert first.outcome in ("timeout", "wrong") and second.correct
    assert time.monotonic() - began < 120


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file"),
    [
        p
        for p in (("aime24", "aime24.jsonl"), ("gsm8k", "gsm8k_test.jsonl"), ("math500", "math500.jsonl"))
        if (SHARED / p[1]).exists()
    ],
)
def test_references_verify_against_themselves_and_against_their_solutions(name: str, file: str) -> None:
    records = get_task(name, SHARED / file).load()
    boxed = verify_many(records, [f"So \\boxed{{{r.answer}}}." for r in records])
    assert [r.answer for r, v in zip(records, boxed) if not v.correct] == []
    solved = verify_many(records, [r.response or "" for r in records])
    assert [r.answer for r, v in zip(records, solved) if not v.correct] == []


def test_the_faults_that_users_met_in_graders() -> None:
    rows, _ = exam.load("kinds")
    assert len(rows) >= 180 and min(Counter(r["class"] for r in rows).values()) >= 5
    misses = [r for r, found in zip(rows, exam.ours(rows)) if found != (r["label"] == "correct")]
    assert misses == []
