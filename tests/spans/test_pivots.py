"""Pivots: openings that behave alike come together, without labels."""

from __future__ import annotations

import random

import pytest

from infra.errors import InputError
from infra.spans import pivots
from infra.spans.pivots import opening


def made_traces(n: int = 60) -> list[str]:
    """Traces of three moves in fixed places: an aim, a calculation, a check."""
    rng = random.Random(0)
    aims = ["To find the total we add. ", "To find the rest we subtract. ", "To find the sum we add. "]
    works = ["Adding them up gives 12. ", "Adding the two gives 7. ", "Adding it all gives 9. "]
    checks = ["Let me check this again. ", "Let me verify the sum. ", "Let me check the total. "]
    return [rng.choice(aims) + rng.choice(works) + rng.choice(works) + rng.choice(checks) for _ in range(n)]


def test_openings() -> None:
    text = "<think> **Let's** say 3,000 apples. $x = 1$ is it. ```\ncode\n```"
    middle = text.index("apples")
    assert opening(text, 0, middle) == ("let's", "say", "#")
    assert opening(text, middle, len(text)) == ("apples", "$", "is")
    assert opening("```\nx\n```", 0, 9) == ("{}",)
    assert opening("...", 0, 3) == ()


def test_moves_that_differ_in_words_and_place_fall_into_different_clusters() -> None:
    found = pivots(made_traces(), clusters=3)
    assert len(found.clusters) == 3
    [row] = set(found.assignment)
    assert len(set(row)) == 3 and row[1] == row[2] == 0
    assert [c.count for c in found.clusters] == [120, 60, 60]
    assert sorted(c.place for c in found.clusters) == pytest.approx([0.0, 0.5, 1.0])


def test_the_same_seed_gives_the_same_clusters() -> None:
    assert pivots(made_traces(), clusters=3, seed=4) == pivots(made_traces(), clusters=3, seed=4)


def test_rare_openings_fall_back_and_then_stay_out() -> None:
    traces = ["So it goes here. "] * 3 + ["So it ends. ", "Never seen. "]
    found = pivots(traces, min_count=3)
    assert found.assignment[:3] == ((found.assignment[0][0],),) * 3 and found.assignment[0][0] >= 0
    assert found.assignment[4] == (-1,)
    with pytest.raises(InputError, match="occurs 3 times in 1 traces"):
        pivots(["One. Two."], min_count=3)
