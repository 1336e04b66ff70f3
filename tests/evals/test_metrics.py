"""Metrics against brute force and hand-worked numbers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import InputError
from infra.evals import (
    accuracy_by,
    accuracy_interval,
    avg_at_k,
    majority_vote,
    paired_difference,
    pass_at_k,
    seed_mean,
)


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_pass_at_k_is_the_share_of_k_subsets_with_a_right_answer(table: list[list[bool]], k: int) -> None:
    shares = [np.mean([any(subset) for subset in combinations(row, k)]) for row in table]
    assert pass_at_k(table, k) == pytest.approx(np.mean(shares), abs=1e-12)


def test_pass_at_k_with_many_samples_stays_exact() -> None:
    row = [[True] * 3 + [False] * 197]
    assert pass_at_k(row, 1) == pytest.approx(3 / 200)
    assert pass_at_k(row, 198) == 1.0
    with pytest.raises(InputError, match="pass@201"):
        pass_at_k(row, 201)


def test_avg_and_majority() -> None:
    answers = [["4", "5", "5"], ["1", None, "2"], [None, None, None]]
    correct = [[True, False, False], [True, False, False], [False] * 3]
    assert avg_at_k(correct) == pytest.approx(2 / 9)
    assert majority_vote(answers, correct) == pytest.approx(1 / 3)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        value, low, high, n = accuracy_interval(rng.random(120) < 0.3, seed=trial, resamples=400)
        assert low <= value <= high and n == 120
        hits += low <= 0.3 <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_samples_of_one_problem_are_not_counted_as_problems() -> None:
    rng = np.random.default_rng(1)
    one = (rng.random(60) < 0.5).astype(float)
    copied = np.repeat(one[:, None], 8, axis=1)
    assert accuracy_interval(copied, seed=3) == accuracy_interval(one, seed=3)


def test_pairing_removes_what_the_problems_share() -> None:
    rng = np.random.default_rng(2)
    a = (rng.random(200) < 0.5).astype(float)
    b = a.copy()
    b[:10] = 1 - b[:10]
    difference = paired_difference(a, b, seed=0)
    assert difference.value == pytest.approx((a - b).mean())
    assert difference.high - difference.low < 0.07
    with pytest.raises(InputError, match="same problems"):
        paired_difference(a, b[:-1])


def test_groups_and_seeds() -> None:
    by = accuracy_by([1, 0, 1, 1], ["easy", "easy", "hard", "hard"])
    assert {k: (v.value, v.n) for k, v in by.items()} == {"easy": (0.5, 2), "hard": (1.0, 2)}
    mean, error = seed_mean([0.5, 0.6, 0.7])
    assert (mean, error) == (pytest.approx(0.6), pytest.approx(0.1 / np.sqrt(3)))
    assert np.isnan(seed_mean([0.5])[1])
    with pytest.raises(InputError, match="not empty"):
        accuracy_interval([])
