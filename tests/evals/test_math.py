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
from infra.evals.mathcheck import MathPool, exact_value, final_answer, last_boxed
from infra.evals.mathcheck._pool import quick_outcome
from tests.evals import exam

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "data" / "math_pairs.jsonl").read_text().splitlines()]
SHARED = Path(os.environ.get("INFRA_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{3} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed 7", "7"),
        (r"\boxed{3} and \boxed{4", None),
        (r"\boxed{}", ""),
        ("#### 72", "72"),
        ("<answer> 5 </answer>", "5"),
        ("The answer is 12.", "12"),
        ("nothing", None),
        (r"<think>\boxed{1}</think>\fbox{2}", "2"),
    ],
)
def test_the_last_answer_is_found(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@given(st.text(alphabet="ab\\{}$ 1", max_size=40))
@settings(deadline=None)
def test_extraction_never_fails_and_returns_balanced_boxes(text: str) -> None:
    found = last_boxed("\\boxed{" + text)
    if found is not None:
        plain = found.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
        assert plain.count("{") == plain.count("}")


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
    record = Record("r", (Message("user", "q"),), "math", "t", answer="1,234")
    responses = [r"\boxed{1234}", r"\boxed{1234.0}", r"\boxed{1235}", "none", "The answer is 1234."]
    outcomes = [v.outcome for v in verify_many([record] * 5, responses)]
    assert outcomes == ["correct", "correct", "wrong", "no_answer", "correct"]


def grade(rows: list[dict[str, str]]) -> list[str]:
    answers = [final_answer(row["response"]) for row in rows]
    with MathPool(timeout_s=60) as pool:
        outcomes = pool.grade([(row["gold"], a or "") for row, a in zip(rows, answers)])
    return ["no_answer" if a is None else o for a, o in zip(answers, outcomes)]


@pytest.mark.slow
@pytest.mark.parametrize("half", ["development", "test"])
def test_labelled_pairs(half: str) -> None:
    assert len(PAIRS) >= 300 and min(Counter(p["class"] for p in PAIRS).values()) >= 15
    rows = [p for p in PAIRS if p["half"] == half]
    misses = [r for r, o in zip(rows, grade(rows)) if (o == "correct") != (r["label"] == "correct")]
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
    with MathPool(timeout_s=60) as pool:
        found = pool.grade([(gold, answer) for gold, answer, _ in cases])
    return [case for case, outcome in zip(cases, found) if (outcome == "correct") != case[2]]


def test_a_sample_of_notations() -> None:
    assert misjudged(notations()[5::30]) == []


@pytest.mark.slow
def test_all_notations() -> None:
    assert len(notations()) > 1900 and misjudged(notations()) == []


def test_a_sample_of_hard_shapes() -> None:
    shapes = {"intervals", "matrices", "equations", "complex", "expressions"}
    rows = [p for p in PAIRS if p["half"] == "development" and p["class"] in shapes][::3]
    assert [o == "correct" for o in grade(rows)] == [r["label"] == "correct" for r in rows]


def test_a_check_that_does_not_end_is_killed_and_the_next_one_works() -> None:
    with MathPool(workers=1, timeout_s=3) as pool:
        began = time.monotonic()
        tower = "9^{9^{9^{9^{9}}}}"
        first, second = pool.grade([("x+1", tower + "+x"), ("x+1", "1+x")])
        assert first in ("timeout", "wrong") and second == "correct"
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
