"""The small statistics against scipy, hand-worked numbers and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from infra.analysis.statistics import (
    benjamini_hochberg,
    deciles,
    holm,
    minimum_detectable,
    satterthwaite,
    split_half,
    t_interval,
)

shares = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(shares, st.floats(0.01, 0.2))
def test_q_values_reject_what_the_step_up_procedure_rejects(p, level):
    """Benjamini and Hochberg's own words: reject the k smallest, k the largest with p_(k) <= k / m * level."""
    p = np.array(p)
    ranked = np.sort(p)
    passing = [k for k in range(1, len(p) + 1) if ranked[k - 1] <= k / len(p) * level]
    q = benjamini_hochberg(p)
    rejected = p <= ranked[max(passing) - 1] if passing else np.zeros(len(p), dtype=bool)
    assert np.all(((q <= level) == rejected) | np.isclose(q, level))


def test_untested_entries_take_no_part():
    p = np.array([0.01, np.nan, 0.04])
    assert np.allclose(benjamini_hochberg(p), [0.02, np.nan, 0.04], equal_nan=True)
    assert np.allclose(holm(p), [0.02, np.nan, 0.04], equal_nan=True)


def test_holm_by_hand():
    assert np.allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])


@given(shares)
def test_holm_lies_between_the_raw_values_and_bonferroni(p):
    adjusted = holm(np.array(p))
    assert np.all(adjusted >= np.array(p) - 1e-12) and np.all(adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12)


def test_satterthwaite_gives_welchs_degrees_of_freedom():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=7), rng.normal(0, 3, size=12)
    df = satterthwaite(np.array([a.var(ddof=1) / 7, b.var(ddof=1) / 12]), np.array([6.0, 11.0]))
    assert df == pytest.approx(stats.ttest_ind(a, b, equal_var=False).df)


def test_t_interval_is_the_one_sample_t_test():
    x = np.random.default_rng(1).normal(0.3, 1, 15)
    se = np.array(x.std(ddof=1) / np.sqrt(15))
    low, high, p = t_interval(np.array(x.mean()), se, np.array(14.0))
    reference = stats.ttest_1samp(x, 0)
    ends = reference.confidence_interval()
    assert (low, high, p) == pytest.approx((ends.low, ends.high, reference.pvalue))


def test_an_effect_of_the_detectable_size_is_found_four_times_in_five():
    rng = np.random.default_rng(2)
    n, reps = 25, 4000
    x = rng.normal(0, 1, (reps, n)) + minimum_detectable(np.array(1 / np.sqrt(n)), np.array(n - 1.0))
    found = stats.ttest_1samp(x, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=80))
def test_length_bins_keep_order_and_ties_together(values):
    x = np.array(values, dtype=float)
    b = deciles(x)
    assert b.min() >= 0 and b.max() <= 9
    for i in range(len(x)):
        assert np.all(b[x == x[i]] == b[i]) and np.all(b[x > x[i]] >= b[i])


def test_deciles_of_distinct_values_are_equal_tenths():
    assert np.bincount(deciles(np.random.default_rng(0).permutation(1000) * 1.0)).tolist() == [100] * 10


def test_split_half_reliability_recovers_the_reliability_of_the_mean():
    rng = np.random.default_rng(3)
    n, folds, noise = 4000, 10, 2.0
    scores = rng.normal(size=(n, 1)) + noise * rng.normal(size=(n, folds))
    left = np.zeros((folds, 20))
    for s in range(20):
        left[rng.permutation(folds)[:5], s] = 0.2
    right = np.where(left > 0, 0, 0.2)
    assert split_half(scores, left, right) == pytest.approx(1 / (1 + noise**2 / folds), abs=0.03)
