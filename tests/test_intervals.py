"""Intervals of an accuracy against scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from infra.errors import InputError
from infra.intervals import accuracy_interval


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.8, 0.95]))
def test_with_one_sample_a_problem_the_interval_is_scipys_wilson(n: int, share: float, level: float) -> None:
    right = round(share * n)
    value, low, high, count = accuracy_interval([1] * right + [0] * (n - right), level=level)
    reference = stats.binomtest(right, n).proportion_ci(level, method="wilson")
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-9)
    assert value == pytest.approx(right / n) and count == n


@pytest.mark.parametrize("right", [0, 1])
def test_none_of_two_and_two_of_two_are_not_certain(right: int) -> None:
    for table in ([right, right], [[right] * 16] * 2):
        found = accuracy_interval(table)
        assert found.high - found.low == pytest.approx(0.658, abs=1e-3)
        assert found.low <= right <= found.high


def test_copies_of_a_sample_are_not_counted_as_problems() -> None:
    one = (np.random.default_rng(1).random(60) < 0.5).astype(float)
    assert accuracy_interval(np.repeat(one[:, None], 8, axis=1)) == pytest.approx(accuracy_interval(one))


def test_samples_of_equal_problems_count_in_full() -> None:
    whole = accuracy_interval([[1, 0]] * 50)
    reference = stats.binomtest(50, 100).proportion_ci(method="wilson")
    assert (whole.low, whole.high) == pytest.approx((reference.low, reference.high), abs=1e-9) and whole.n == 50


@pytest.mark.parametrize(("n", "k", "a", "b"), [(120, 1, 3, 7), (30, 16, 0.5, 0.5), (30, 1, 1, 9), (100, 4, 2, 8)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(n: int, k: int, a: float, b: float) -> None:
    """Problems' own chances are drawn from Beta(a, b), as where some are nearly always and some never solved."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        chances = rng.beta(a, b, n)
        value, low, high, _ = accuracy_interval(rng.random((n, k)) < chances[:, None])
        assert low <= value <= high
        hits += low <= a / (a + b) <= high
    assert 0.92 <= hits / 1000 <= 0.985


@pytest.mark.parametrize("nothing", [[], [[], []], np.zeros((0, 4)), np.zeros((2, 2, 2))])
def test_no_verdict_is_no_accuracy(nothing: object) -> None:
    with pytest.raises(InputError, match="not empty"):
        accuracy_interval(nothing)  # type: ignore[arg-type]
