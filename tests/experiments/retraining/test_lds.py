"""LDS, its ceiling and its intervals, against scipy and against simulations with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from infra.errors import InputError
from infra.experiments.retraining import ceiling, difference, lds, predict, ratio, spearman, split_half, tracking

RNG = np.random.default_rng(0)


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 30), st.integers(0, 10_000), st.booleans())
def test_spearman_is_scipys(n: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n))
    if ties:
        a = np.round(a)
    expected = spearmanr(a, b).statistic if len(set(a)) > 1 else np.nan
    assert np.allclose(spearman(a, b), expected, equal_nan=True)


def test_exact_scores_have_lds_one_and_random_ones_an_interval_over_zero() -> None:
    scores = RNG.standard_normal((40, 6))
    keep = RNG.random((100, 40)) < 0.5
    weights = np.full(6, 1 / 6)
    measured = predict(keep, scores)
    noise = predict(keep, RNG.standard_normal((40, 6)))
    found = lds({"exact": predict(keep, scores), "noise": noise}, measured, weights)
    assert found["exact"].value == pytest.approx(1.0) and found["exact"].low > 0.99
    assert found["noise"].low < 0 < found["noise"].high or abs(found["noise"].value) < 0.4
    gap = difference(found["exact"], found["noise"])
    assert gap.low > 0 and gap.value == pytest.approx(found["exact"].value - found["noise"].value)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Subsets drawn from a population with a known Spearman correlation."""
    rho, hits = 0.6, 0
    truth = 6 / np.pi * np.arcsin(rho / 2)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, e = rng.standard_normal((2, 100, 1))
        y = rho * x + np.sqrt(1 - rho**2) * e
        found = lds({"m": x}, y, np.ones(1), n_boot=200, seed=seed)["m"]
        hits += found.low <= truth <= found.high
    assert hits >= 52


def test_intervals_grow_when_queries_disagree() -> None:
    keep = RNG.random((100, 40)) < 0.5
    scores = RNG.standard_normal((40, 4)) * np.array([1, 1, 1, 6.0])
    measured = predict(keep, np.concatenate([scores[:, :3], RNG.standard_normal((40, 1)) * 6], 1))
    weights = np.full(4, 0.25)
    both = lds({"m": predict(keep, scores)}, measured, weights)["m"]
    fixed = lds({"m": predict(keep, scores) @ weights[:, None]}, (measured @ weights)[:, None], np.ones(1))["m"]
    assert both.high - both.low > 1.2 * (fixed.high - fixed.low)


@pytest.mark.parametrize("seeds", [2, 3, 4, 5])
def test_ceiling_is_the_correlation_of_the_mean_with_the_truth(seeds: int) -> None:
    """measured = truth + seed noise of variance k: the mean of n seeds correlates with truth at 1/sqrt(1 + k/n)."""
    rng = np.random.default_rng(seeds)
    truth = rng.standard_normal((6000, 1, 1))
    noise = 1.5 * rng.standard_normal((6000, seeds, 1))
    top = ceiling(truth + noise, np.ones(1), n_boot=20)
    assert top.value == pytest.approx(1 / np.sqrt(1 + 1.5**2 / seeds), abs=0.025)


def test_ceiling_of_two_seeds_is_the_protocols_formula() -> None:
    measured = RNG.standard_normal((50, 1, 1)) + RNG.standard_normal((50, 2, 1))
    r = spearmanr(measured[:, 0, 0], measured[:, 1, 0]).statistic
    assert float(split_half(measured[..., 0])) == pytest.approx(r)
    assert ceiling(measured, np.ones(1), n_boot=5).value == pytest.approx(np.sqrt(2 * r / (1 + r)))


def test_no_ratio_where_the_ceiling_touches_zero() -> None:
    noise = RNG.standard_normal((60, 3, 1))
    top = ceiling(noise, np.ones(1), n_boot=200)
    score = lds({"m": RNG.standard_normal((60, 1))}, noise.mean(1), np.ones(1), n_boot=200)["m"]
    assert top.touches_zero and ratio(score, top) is None
    sure = RNG.standard_normal((60, 1, 1)) + 0.1 * noise
    score = lds({"m": sure.mean(1)}, sure.mean(1), np.ones(1), n_boot=200)["m"]
    share = ratio(score, ceiling(sure, np.ones(1), n_boot=200))
    assert share is not None and share.value >= 1.0


def test_tracking_follows_accuracy() -> None:
    f = RNG.standard_normal(80)
    assert tracking(f, np.exp(f)).value == pytest.approx(1.0)
    with pytest.raises(InputError, match="two seeds"):
        split_half(np.zeros((4, 1, 1)))
    with pytest.raises(InputError, match="score every unit"):
        predict(np.ones((2, 3), bool), np.ones((4, 1)))
