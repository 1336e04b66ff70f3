"""Tilted sampling and length matching, against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, minimize

from infra.experiments.selection.matching import match_lengths, pair_by_rank
from infra.experiments.selection.plan import quotas
from infra.experiments.selection.sampling import (
    Draw,
    Stratum,
    common_total,
    draw_sample,
    exchange,
    expected_total,
    inclusion,
    range_gap,
    tilt_for,
)


def one(lengths, n):
    return Draw(np.asarray(lengths, float), (Stratum(np.arange(len(lengths)), n),))


def test_inclusion_probabilities_maximise_entropy_given_size_and_mean_length():
    lengths = np.array([1.0, 2.0, 4.0, 7.0, 11.0])
    n, total = 2, 14.0
    draw = one(lengths, n)
    tilt = tilt_for(draw, total)
    p = inclusion(lengths, n, tilt / draw.scale)
    assert p.sum() == pytest.approx(n) and p @ lengths == pytest.approx(total, rel=1e-4)

    def negative_entropy(q):
        q = np.clip(q, 1e-12, 1 - 1e-12)
        return float((q * np.log(q) + (1 - q) * np.log(1 - q)).sum())

    best = minimize(
        negative_entropy,
        np.full(5, 0.4),
        bounds=[(1e-9, 1 - 1e-9)] * 5,
        method="SLSQP",
        constraints=[
            {"type": "eq", "fun": lambda q: q.sum() - n},
            {"type": "eq", "fun": lambda q: q @ lengths - total},
        ],
    )
    assert np.allclose(p, best.x, atol=2e-3)


def test_drawn_samples_have_the_tilted_probabilities_on_average():
    rng = np.random.default_rng(0)
    lengths = rng.gamma(2, 20, 60)
    draw = one(lengths, 20)
    total = 20 * lengths.mean() * 1.2
    drawn = [draw_sample(draw, total, rng)[0] for _ in range(300)]
    assert all(len(set(d)) == 20 for d in drawn)
    assert np.mean([lengths[d].sum() for d in drawn]) == pytest.approx(total, rel=0.01)
    frequency = np.bincount(np.concatenate(drawn), minlength=60) / 300
    p = inclusion(lengths, 20, tilt_for(draw, total) / draw.scale)
    assert np.abs(frequency - p).max() < 0.12


def test_the_common_total_costs_the_least_entropy_together():
    rng = np.random.default_rng(1)
    draws = [one(rng.gamma(3, 10, 40), 15), one(rng.gamma(3, 16, 50), 15)]

    def entropy(total):
        out = 0.0
        for d in draws:
            p = np.clip(inclusion(d.lengths, 15, tilt_for(d, total) / d.scale), 1e-12, 1 - 1e-12)
            out -= float((p * np.log(p) + (1 - p) * np.log(1 - p)).sum())
        return out

    best = common_total(draws)
    assert all(entropy(best) >= entropy(best + step) - 1e-6 for step in (-30, -5, 5, 30))


def test_totals_that_cannot_meet_report_the_gap():
    draws = [one([1, 2, 3], 2), one([10, 11, 12], 2)]
    assert range_gap(draws) == 21 - 5
    assert draws[0].bounds() == (3, 5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(1, 6))
def test_exchange_reaches_a_total_that_some_single_swap_path_can(seed, size, n):
    rng = np.random.default_rng(seed)
    n = min(n, size)
    lengths = rng.integers(1, 30, size).astype(float)
    draw = one(lengths, n)
    totals = {float(lengths[list(c)].sum()) for c in itertools.combinations(range(size), n)}
    goal = float(rng.choice(sorted(totals)))
    start = np.sort(rng.choice(size, n, replace=False))
    found, _ = exchange(draw, start, goal, 0.0)
    assert len(found) == n
    assert abs(lengths[found].sum() - goal) <= abs(lengths[start].sum() - goal)


def test_exchange_of_many_lands_on_the_token():
    rng = np.random.default_rng(2)
    lengths = rng.integers(20, 200, 500).astype(float)
    draw = one(lengths, 150)
    found, steps = exchange(draw, np.arange(150), float(np.sort(lengths)[100:250].sum()), 0.0)
    assert lengths[found].sum() == np.sort(lengths)[100:250].sum() and steps < 400


def test_expected_total_grows_with_the_tilt():
    draw = one(np.arange(1.0, 30), 10)
    totals = [expected_total(draw, t) for t in np.linspace(-30, 30, 21)]
    assert all(b > a for a, b in itertools.pairwise(totals))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_matching_makes_as_many_pairs_as_any_assignment(outs, ins):
    a, b = np.array(outs, float), np.array(ins, float)
    partner = match_lengths(a, b, 0.1)
    allowed = np.abs(b[None, :] - a[:, None]) <= 0.1 * a[:, None] + 1e-9
    rows, columns = linear_sum_assignment(~allowed)
    used = partner[partner >= 0]
    assert len(set(used)) == len(used) == int(allowed[rows, columns].sum())
    assert all(allowed[i, j] for i, j in enumerate(partner) if j >= 0)


def test_partners_are_near_when_there_is_choice():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(50, 150, 100), rng.uniform(50, 150, 1000)
    partner = match_lengths(a, b)
    assert np.abs(b[partner] - a).mean() < 0.5


def test_rank_pairs_have_the_least_summed_difference():
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 99, 7).astype(float), rng.integers(1, 99, 7).astype(float)
    zero = np.zeros(7, dtype=int)
    mine = sum(abs(a[o] - b[i]) for o, i in pair_by_rank(a, b, zero, zero))
    assert mine == min(sum(abs(a - b[list(p)])) for p in itertools.permutations(range(7)))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 60))
def test_quotas_are_proportional_and_capped(counts, n):
    caps = [c // 2 + 1 for c in counts]
    limit = sum(min(c, k) for c, k in zip(counts, caps))
    if limit < n:
        with pytest.raises(ValueError):
            quotas(counts, n, caps)
        return
    share = quotas(counts, n, caps)
    assert sum(share) == n and all(0 <= s <= min(c, k) for s, c, k in zip(share, counts, caps))
    if n * max(counts) / max(sum(counts), 1) <= min(k for c, k in zip(counts, caps) if c) if any(counts) else False:
        assert all(abs(s - n * c / sum(counts)) <= 1 for s, c in zip(share, counts))
