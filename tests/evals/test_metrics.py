"""Metrics against brute force and hand-worked numbers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import InputError
from infra.evals import accuracy_by, accuracy_interval, avg_at_k, majority_vote, pass_at_k


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


def test_groups_have_intervals_of_their_own() -> None:
    by = accuracy_by([1, 0, 1, 1], ["easy", "easy", "hard", "hard"])
    assert {k: (v.value, v.n) for k, v in by.items()} == {"easy": (0.5, 2), "hard": (1.0, 2)}
    assert by["hard"] == accuracy_interval([1, 1])
    with pytest.raises(InputError, match="3 groups for 4"):
        accuracy_by([1, 0, 1, 1], ["a", "b", "c"])
