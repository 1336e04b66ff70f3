"""Null control and planted effects: the table finds nothing in noise and what is there."""

import numpy as np
import pytest

from infra.analysis import permutation_test
from tests.analysis.made import made
from tests.analysis.null_and_power import null_control, power_curve, shuffle_attributes

ATTRIBUTES = ("difficulty", "style", "has_verification")


def test_shuffling_keeps_the_attributes_of_a_domain_together_and_the_lengths_in_place():
    examples, _, _ = made()
    shuffled = shuffle_attributes(examples, ATTRIBUTES, np.random.default_rng(0))
    for domain in ("math", "code"):
        before, after = (e[e.domain == domain][list(ATTRIBUTES)] for e in (examples, shuffled))
        assert sorted(map(tuple, before.to_numpy())) == sorted(map(tuple, after.to_numpy()))
    assert shuffled.n_response_tokens.equals(examples.n_response_tokens)
    assert not shuffled.difficulty.equals(examples.difficulty)


def test_shuffled_attributes_find_nothing_in_a_few_tables():
    found = null_control(*made(n=240, n_folds=6), attributes=("difficulty",), n_shuffles=25, n_boot=50)
    assert found.passes and found.n_rows == 2 * 2 * 5 * 3


def test_a_large_planted_effect_is_found_and_none_is_not():
    curve = power_curve(
        *made(n=400), attribute="difficulty", value="5", domain="math", sizes=(0.0, 1.5), n_shuffles=6, n_boot=50
    )
    assert curve.power.tolist()[0] <= 0.34 and curve.power.tolist()[1] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("fold_noise", [0.3, 2.0])
def test_null_control_over_two_hundred_shuffles(fold_noise):
    data = made(n=600, n_folds=10, by_length=0.02, effect=1.0, fold_noise=fold_noise)
    found = null_control(*data, attributes=ATTRIBUTES, n_shuffles=200, n_boot=200)
    assert found.passes, found


@pytest.mark.slow
def test_power_grows_with_the_planted_effect():
    curve = power_curve(
        *made(n=1000, n_folds=10), attribute="difficulty", value="5", domain="math", sizes=(0.1, 0.3, 0.5, 0.8)
    )
    assert curve.power.is_monotonic_increasing and curve.power.iloc[-1] > 0.95


def test_permutation_p_values_are_uniform_without_an_effect_even_where_length_is_one():
    p = []
    for s in range(60):
        data = made(n=120, n_folds=4, seed=s, by_length=0.05, domains=("math",))
        table = permutation_test(*data, n_permutations=60, seed=s)
        p.append(table[table.target == "(table)"].p.iloc[0])
    assert np.mean(np.array(p) <= 0.1) <= 0.1 + 2.5 * np.sqrt(0.1 * 0.9 / 60)
    assert min(p) >= 1 / 61


def test_permutation_finds_a_planted_effect_and_names_its_cell():
    table = permutation_test(*made(n=400, effect=1.5), n_permutations=200)
    assert table[table.target == "(table)"].p.iloc[0] == pytest.approx(1 / 201)
    assert (table[table.attribute == "difficulty"].value == "5").all()


def test_permutation_statistic_is_welchs_t():
    from scipy import stats

    examples, scores, folds = made(n=200, domains=("math",))
    table = permutation_test(examples, scores, folds, attributes=("style",), n_permutations=5, within_length=False)
    y = np.average(scores[:, :4].astype(float), axis=1, weights=folds.n_queries[:4])
    symbolic = (examples["style"] == "symbolic").to_numpy()
    t = stats.ttest_ind(y[symbolic], y[~symbolic], equal_var=False).statistic
    assert table[table.target == "math"].statistic.iloc[0] == pytest.approx(abs(t))
