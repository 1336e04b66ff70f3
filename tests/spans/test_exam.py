"""The exam's files are sound; slow: the targets it sets are met on the world and on the real traces."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from infra.spans import LABELS, RULES, cohen_kappa, regions, steps
from tests.spans.exam import FOLDER, HALVES, read_items, read_labels, score_half, score_world

ITEMS = [json.loads(line) for line in (FOLDER / "items.jsonl").read_text().splitlines()]


def real_data() -> Path:
    """The file of real traces, from the folder that INFRA_TEST_DATA names."""
    path = Path(os.environ.get("INFRA_TEST_DATA", "shared/data")) / "math_cot.jsonl"
    if not path.exists():
        pytest.fail(f"{path} is not there: set INFRA_TEST_DATA to the folder that holds math_cot.jsonl")
    return path


@pytest.mark.parametrize(
    ("half", "labeller"),
    [("dev", "a"), *((half, labeller) for half in ("test", "test2") for labeller in "abc")],
)
def test_every_drawn_step_has_labels_the_guideline_allows(half: str, labeller: str) -> None:
    labels = read_labels(half, labeller)
    drawn = {item["sha256"]: item for item in ITEMS if item["half"] == half}
    assert labels.keys() == drawn.keys()
    for key, rows in labels.items():
        assert len(rows) == len(drawn[key]["spans"])
        for row in rows:
            assert set(row) <= set(LABELS) and len(row) == len(set(row))
            assert not {"plan", "subgoal"} <= set(row) and not {"fact", "final_answer"} <= set(row)


def test_at_least_400_steps_were_labelled_twice_and_no_problem_is_on_both_sides() -> None:
    twice = sum(len(rows) for half in ("test", "test2") for rows in read_labels(half, "c").values())
    assert twice >= 400
    problems = {half: {item["problem"] for item in ITEMS if item["half"] == half} for half in HALVES}
    assert not problems["dev"] & (problems["test"] | problems["test2"])
    traces = [item["sha256"] for item in ITEMS]
    assert len(traces) == len(set(traces))


def test_the_blind_labeller_agrees_with_the_first_beyond_chance() -> None:
    pairs = [
        (tuple(sorted(x)), tuple(sorted(y)))
        for half in ("test", "test2")
        for key, rows in read_labels(half, "a").items()
        for x, y in zip(rows, read_labels(half, "c")[key], strict=True)
    ]
    first, second = zip(*pairs)
    assert len(pairs) == 588 and cohen_kappa(list(first), list(second)) > 0.8


def test_no_text_of_the_data_is_stored() -> None:
    assert {key for item in ITEMS for key in item} == {"line", "problem", "sha256", "half", "stratum", "spans"}


@pytest.mark.slow
@pytest.mark.parametrize("labeller", ["a", "c"])
def test_the_target_on_the_second_test_half_of_real_traces(labeller: str) -> None:
    report = score_half(read_items(real_data()), "test2", labeller)
    assert report.macro_f1 >= 0.75 and len(report.counted) >= 5


@pytest.mark.slow
def test_the_target_on_the_world() -> None:
    report = score_world("default", 0, "pool")
    assert report.macro_f1 >= 0.85 and set(report.counted) == set(LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_steps_are_lossless_on_every_real_trace(rule) -> None:
    texts = [json.loads(line)["response"] for line in real_data().read_text().splitlines()]
    assert len(texts) > 1000
    for text in texts:
        spans = steps(text, rule)
        assert "".join(text[a:b] for a, b in spans) == text
        assert not [a for a, _ in spans for r in regions(text) if r.start < a < r.end]
