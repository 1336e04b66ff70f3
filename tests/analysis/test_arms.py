"""Contrasts of retrained arms: pairing, variance of both factors, Holm, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from infra.analysis import accuracy_table, arm_contrasts, predicted_vs_measured, swap_correlation
from infra.analysis.arms import crossed_mean, paired
from infra.errors import InputError

ARMS = {"base": 0.2, "sft": 0.5, "flip": 0.6, "same-difficulty-swap": 0.5, "random-swap": 0.5}


def made(n_seeds=3, n_problems=300, seed=0, arms=None, tasks=("math", "code")):
    rng = np.random.default_rng(seed)
    rows = []
    for task in tasks:
        hard = rng.normal(0, 0.15, n_problems)
        for arm, share in (arms or ARMS).items():
            for s in range(1 if arm == "base" else n_seeds):
                right = rng.random(n_problems) < share + hard
                rows += [(arm, s, task, f"{task}{p}", float(c), p % 5 + 1) for p, c in enumerate(right)]
    return pd.DataFrame(rows, columns=["arm", "seed", "task", "problem_id", "correct", "difficulty"])


def test_difference_is_the_mean_of_paired_differences_and_order_of_rows_is_nothing():
    rows = made()
    found = arm_contrasts(rows.sample(frac=1, random_state=0)).iloc[0]
    mean = rows.groupby(["arm", "task"]).correct.mean()
    assert found.difference == pytest.approx(mean["flip", found.task] - mean["same-difficulty-swap", found.task])
    assert (found.n_problems, found.n_seeds, found.role, found.label) == (300, 3, "primary", "causal")


def test_with_one_seed_the_test_is_the_paired_t_test_over_problems_and_is_undecided():
    rows = made(n_seeds=1)
    found = arm_contrasts(rows).set_index("contrast").loc["flip - same-difficulty-swap"].iloc[0]
    wide = rows[rows.task == "math"].pivot(index="problem_id", columns="arm", values="correct")
    reference = stats.ttest_rel(wide["flip"], wide["same-difficulty-swap"])
    assert found.p == pytest.approx(reference.pvalue)
    assert found.status == "undecided" and "one seed" in found.note


@pytest.mark.parametrize(("seed_sd", "problem_sd", "cell_sd"), [(0, 0.2, 0.5), (0.03, 0.2, 0.5), (0.1, 0.1, 0.3)])
def test_intervals_cover_whatever_varies(seed_sd, problem_sd, cell_sd):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(500):
        seeds, problems = seed_sd * rng.normal(size=(4, 1)), problem_sd * rng.normal(size=(1, 100))
        fit = crossed_mean(seeds + problems + cell_sd * rng.normal(size=(4, 100)))
        hits += abs(fit.mean) <= stats.t.ppf(0.975, fit.df) * fit.se
    assert 0.92 <= hits / 500 <= 0.99


def test_the_variance_is_the_two_way_one_that_a_corrected_bootstrap_finds():
    """Bootstraps of rows, of columns and of cells, put together as V_rows + V_columns - V_cells."""
    rng = np.random.default_rng(2)
    table = 0.3 * rng.normal(size=(12, 1)) + 0.4 * rng.normal(size=(1, 80)) + rng.normal(size=(12, 80))
    rows = table.mean(axis=1)[rng.integers(0, 12, (20000, 12))].mean(axis=1).var() * 12 / 11
    columns = table.mean(axis=0)[rng.integers(0, 80, (20000, 80))].mean(axis=1).var() * 80 / 79
    residual = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    cells = (residual**2).sum() / (11 * 79) / table.size
    assert crossed_mean(table).se ** 2 == pytest.approx(rows + columns - cells, rel=0.05)


@pytest.mark.slow
def test_no_difference_is_called_one_in_no_more_than_one_table_in_twenty():
    arms = {"flip": 0.5, "same-difficulty-swap": 0.5}
    found = [(arm_contrasts(made(3, 80, s, arms)).p_holm < 0.05).any() for s in range(150)]
    assert np.mean(found) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)


def test_a_real_difference_is_found_and_holm_counts_the_primary_tests_only():
    table = arm_contrasts(made(n_seeds=5, n_problems=800))
    primary = table[table.role == "primary"]
    assert (primary.p_holm < 0.05).all() and (primary.low > 0).all()
    assert primary.p_holm.max() == pytest.approx(max(primary.p.max(), 2 * primary.p.min()))
    assert table[table.role == "exploratory"].p_holm.isna().all()


def test_one_test_a_domain_and_the_rest_is_exploratory():
    rows = made(tasks=("math", "code", "math-paraphrased"))
    table = arm_contrasts(rows, primary_tasks=["math", "code"])
    assert table[table.role == "primary"].task.tolist() == ["math", "code"]
    again = table[(table.task == "math-paraphrased") & (table.contrast == "flip - same-difficulty-swap")]
    assert again.role.tolist() == ["exploratory"]
    others = set(table[table.role == "exploratory"].contrast)
    assert others == {
        "flip - same-difficulty-swap",
        "random-swap - same-difficulty-swap",
        "flip - sft",
        "same-difficulty-swap - sft",
        "random-swap - sft",
        "sft - base",
    }
    assert set(table[table.control != "same-difficulty-swap"].label) == {"exploratory"}


def test_the_base_model_has_no_seed_and_stands_against_all():
    rows = made()
    table = arm_contrasts(rows)
    lift = table[(table.contrast == "sft - base") & (table.task == "code")].iloc[0]
    assert lift.n_seeds == 3 and 0.2 < lift.low < lift.high < 0.4


def test_only_shared_seeds_and_problems_are_compared():
    rows = made()
    gone = (rows.arm == "flip") & ((rows.seed == 2) | (rows.problem_id == "math7"))
    found = arm_contrasts(rows[~gone]).iloc[0]
    assert (found.n_seeds, found.n_problems) == (2, 299)
    assert paired(rows, "flip", "nobody", "math") is None


def test_several_generations_of_a_problem_are_averaged():
    rows = made()
    twice = pd.concat([rows, rows.assign(correct=1 - rows.correct)])
    assert arm_contrasts(twice).difference.abs().max() == pytest.approx(0)


def test_target_queries_judge_no_data_set():
    rows = made()
    target = rows.assign(split="target", correct=1.0)
    both = pd.concat([rows.assign(split="held-out"), target])
    assert arm_contrasts(both).difference.tolist() == arm_contrasts(rows).difference.tolist()
    with pytest.raises(InputError, match="no held-out"):
        arm_contrasts(target)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda r: r.drop(columns="seed"), {}, r"lack the column\(s\) \['seed'\]"),
        (lambda r: r[r.arm != "flip"], {}, "needs arm 'flip'"),
        (lambda r: r, {"primary_tasks": ["chess"]}, r"\['chess'\] have no evaluation rows"),
        (lambda r: r.assign(correct=2.0), {}, "must lie in 0..1"),
        (lambda r: r.assign(seed=np.where(r.arm == "flip", 9, r.seed)), {}, "share no seed and problem"),
    ],
)
def test_rows_that_cannot_be_contrasted_are_refused_in_words(change, options, words):
    with pytest.raises(InputError, match=words):
        arm_contrasts(change(made(n_problems=20)), **options)


def test_accuracy_per_seed_is_wilsons_and_the_mean_spans_seeds():
    rows = made()
    table = accuracy_table(rows)
    one = table[(table.arm == "flip") & (table.task == "math") & (table.seed == "1")].iloc[0]
    right = rows[(rows.arm == "flip") & (rows.task == "math") & (rows.seed == 1)].correct
    reference = stats.binomtest(int(right.sum()), 300).proportion_ci(method="wilson")
    assert (one.accuracy, one.low, one.high) == pytest.approx((right.mean(), reference.low, reference.high))
    mean = table[(table.arm == "flip") & (table.task == "math") & (table.seed == "mean")].iloc[0]
    seeds = table[(table.arm == "flip") & (table.task == "math") & (table.seed != "mean")]
    assert mean.accuracy == pytest.approx(seeds.accuracy.mean()) and mean.low < mean.accuracy < mean.high
    slope = accuracy_table(rows, ["difficulty"])
    assert slope[(slope.arm == "sft") & (slope.seed == "0") & (slope.task == "code")].n.tolist() == [60] * 5


def test_a_prediction_is_the_influence_put_in_minus_the_influence_taken_out():
    scores = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0]])
    f = pd.DataFrame(
        [("sft", s, t, 1.0) for s in range(3) for t in ("math", "code")]
        + [("flip", s, t, 1.0 + s + (t == "code")) for s in range(3) for t in ("math", "code")],
        columns=["arm", "seed", "target", "f"],
    )
    table = predicted_vs_measured(
        {"flip": {"a": -1, "b": -1, "d": 1, "c": 1}},
        list("abcd"),
        scores,
        ["math", "code"],
        f_values=f,
        eval_rows=made(),
        tasks={"math": "math"},
    )
    math, code = table.iloc[0], table.iloc[1]
    assert (math.predicted, code.predicted) == (9.0, 90.0)
    assert (math.measured_f, code.measured_f, math.n_seeds, math.n_swapped) == (1.0, 2.0, 3, 2)
    half = stats.t.ppf(0.975, 2) * 1 / np.sqrt(3)
    assert (math.f_low, math.f_high) == pytest.approx((1 - half, 1 + half))
    assert 0 < math.measured_accuracy < 0.2 and np.isnan(code.measured_accuracy)


def test_nothing_measured_is_nan_and_an_unscored_swap_is_refused():
    bare = predicted_vs_measured({"flip": {"a": -1, "b": 1}}, ["a", "b"], np.ones((2, 1)), ["math"])
    assert bare.measured_f.isna().all() and bare.predicted.tolist() == [0.0]
    with pytest.raises(InputError, match="record 'c' has no score"):
        predicted_vs_measured({"flip": {"a": -1, "c": 1}}, ["a", "b"], np.ones((2, 1)), ["math"])
    with pytest.raises(InputError, match="shape"):
        predicted_vs_measured({}, ["a", "b"], np.ones((2, 2)), ["math"])
    with pytest.raises(InputError, match="twice"):
        predicted_vs_measured({}, ["a", "a"], np.ones((2, 1)), ["math"])


def test_no_correlation_over_fewer_than_ten_swaps():
    x = np.arange(12.0)
    table = pd.DataFrame({"target": "math", "predicted": x, "measured_f": x + np.tile([0, 3.0], 6)})
    rho = swap_correlation(table).iloc[0]
    assert rho.rho == pytest.approx(stats.spearmanr(x, table.measured_f).statistic)
    assert rho.low < rho.rho < rho.high < 1
    few = swap_correlation(table[:9]).iloc[0]
    assert np.isnan(few.rho) and "no correlation under 10" in few.note


@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("seeds", [1, 3])
def test_none_of_two_problems_is_not_certain_over_seeds_either(right: int, seeds: int) -> None:
    cells = [("sft", s, "gsm8k", p, right) for s in range(seeds) for p in ("a", "b")]
    table = accuracy_table(pd.DataFrame(cells, columns=["arm", "seed", "task", "problem_id", "correct"]))
    reference = stats.binomtest(2 * right, 2).proportion_ci(method="wilson")
    for row in table.itertuples():
        assert (row.low, row.high) == pytest.approx((reference.low, reference.high), abs=1e-9)
