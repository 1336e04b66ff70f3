"""Effects: their definition by hand, their intervals by simulation, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from infra.analysis import domain_means, effects
from infra.analysis.cells import Units, group_sums, resampled_sums
from infra.analysis.statistics import deciles
from infra.errors import InputError
from tests.analysis.made import made


def row(table, **wanted):
    found = table
    for key, value in wanted.items():
        found = found[found[key] == value]
    assert len(found) == 1
    return found.iloc[0]


def target_scores(scores, folds, target):
    mine = (folds.target == target).to_numpy()
    return np.average(scores[:, mine].astype(float), axis=1, weights=folds.n_queries[mine])


def test_raw_and_per_token_effects_are_the_defined_differences_of_means():
    examples, scores, folds = made(effect=1.0)
    table = effects(examples, scores, folds, n_boot=20)
    y, tokens = target_scores(scores, folds, "code"), examples.n_response_tokens.to_numpy()
    domain, level = examples.domain.to_numpy(), examples.difficulty.to_numpy()
    cell, rest = (domain == "math") & (level == 2), (domain == "math") & (level != 2)
    here = {"target": "code", "domain": "math", "value": "2"}
    assert row(table, form="raw", **here).effect == pytest.approx(y[cell].mean() - y[rest].mean())
    per_token = y[cell].sum() / tokens[cell].sum() - y[rest].sum() / tokens[rest].sum()
    assert row(table, form="per_token", **here).effect == pytest.approx(per_token)
    assert row(table, form="raw", **here)[["n", "n_rest"]].tolist() == [cell.sum(), rest.sum()]


def test_the_length_matched_effect_is_the_stratified_difference_over_deciles_where_both_sides_are():
    examples, scores, folds = made(effect=0.5, by_length=0.05)
    y, mine = target_scores(scores, folds, "math"), (examples.domain == "code").to_numpy()
    level, length = examples.difficulty.to_numpy()[mine], examples.n_response_tokens.to_numpy(float)[mine]
    y, edges = y[mine], np.quantile(length, np.arange(1, 10) / 10)
    total = weight = overlap = overlap_rest = 0.0
    for low, high in zip([-np.inf, *edges], [*edges, np.inf]):
        inside = (length >= low) & (length < high)
        cell, rest = inside & (level == 5), inside & (level != 5)
        if cell.any() and rest.any():
            h = cell.sum() * rest.sum() / inside.sum()
            total, weight = total + h * (y[cell].mean() - y[rest].mean()), weight + h
            overlap, overlap_rest = overlap + cell.sum(), overlap_rest + rest.sum()
    found = row(
        effects(examples, scores, folds, n_boot=20), target="math", domain="code", value="5", form="length_matched"
    )
    assert found.effect == pytest.approx(total / weight)
    assert found.overlap_n == min(overlap, overlap_rest)


def test_an_effect_that_is_all_length_vanishes_at_equal_length_and_a_real_one_stays():
    examples, scores, folds = made(n=4000, by_length=0.1)
    table = effects(examples, scores, folds, n_boot=100)
    here = {"target": "math", "domain": "math", "value": "5"}
    raw, matched = row(table, form="raw", **here), row(table, form="length_matched", **here)
    assert raw.effect > 1.5 and raw.q < 1e-6
    assert abs(matched.effect) < 0.15 * raw.effect
    examples, scores, folds = made(n=4000, by_length=0.1, effect=1.0)
    real = row(effects(examples, scores, folds, n_boot=100), form="length_matched", **here)
    assert real.effect == pytest.approx(1.0, abs=0.3) and real.low > 0.5  # deciles leave some length inside a bin


def test_intervals_cover_the_truth_when_examples_and_queries_are_both_samples():
    """Examples differ, and each fold has its own true effect: both must enter the interval."""
    rng = np.random.default_rng(5)
    examples, _, folds = made(n=240, n_folds=6, domains=("math",))
    folds = folds.assign(target="math", n_queries=20)
    five = (examples.difficulty == 5).to_numpy()
    covered, widths = [], []
    for _ in range(120):
        scores = rng.normal(size=(240, 1)) + 0.3 * rng.normal(size=(240, 6))
        scores += five[:, None] * (0.8 + 0.5 * rng.normal(size=(1, 6)))
        found = row(
            effects(examples, scores, folds, n_boot=50, seed=int(rng.integers(1e6))),
            value="5",
            form="raw",
        )
        covered.append(found.low <= 0.8 <= found.high)
        widths.append(found.high - found.low)
    assert 0.9 <= np.mean(covered) <= 0.995
    only_examples = 2 * 1.96 * np.sqrt(1.0 / five.sum() + 1.0 / (~five).sum())
    assert np.mean(widths) > 1.2 * only_examples


def test_the_bootstrap_error_of_a_plain_mean_difference_is_the_textbook_one():
    examples, scores, folds = made(n=2000, fold_noise=0.0, domains=("math",))
    found = row(effects(examples, scores, folds, n_boot=2000), target="math", value="3", form="raw")
    y, cell = target_scores(scores, folds, "math"), (examples.difficulty == 3).to_numpy()
    se = np.sqrt(y[cell].var(ddof=1) / cell.sum() + y[~cell].var(ddof=1) / (~cell).sum())
    assert found.se == pytest.approx(se, rel=0.06)


def test_resampled_sums_are_the_sums_of_the_repeated_rows():
    rng = np.random.default_rng(0)
    r, clusters = 60, 25
    cluster = rng.integers(0, clusters, r)
    units = Units(cluster, rng.integers(0, 3, r), rng.integers(0, 4, r), rng.uniform(1, 9, r), rng.normal(size=(r, 2)))
    weights = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=5).T.astype(float)
    sums, counts, tokens = resampled_sums(units, units.scores, weights)
    for b in range(5):
        rows = np.repeat(np.arange(r), weights[cluster, b].astype(int))
        again = Units(cluster[rows], units.value[rows], units.bin[rows], units.tokens[rows], units.scores[rows])
        s, n, t = group_sums(again, again.scores)
        v, d = n.shape
        assert np.allclose(sums[:v, :d, b], s) and np.allclose(counts[:v, :d, b, 0], n)
        assert np.allclose(tokens[:v, :d, b, 0], t)


def test_little_overlap_few_responses_and_a_single_fold_are_undecided_and_say_why():
    examples, scores, folds = made(n=400)
    short = examples.assign(n_response_tokens=np.where(examples.difficulty == 1, 5, 500 + examples.n_response_tokens))
    table = effects(short, scores, folds, n_boot=20)
    matched = table[(table.value == "1") & (table.form == "length_matched")]
    assert (matched.status == "undecided").all() and matched.note.str.contains(r"overlap n \d is under 30").all()
    assert matched.q.isna().all()
    few = effects(examples, scores, folds.assign(n_queries=4), n_boot=20)
    assert few.note.str.contains("too few: the target has 16 responses").any() and (few.status == "undecided").all()
    single = effects(examples, scores[:, :1], folds[:1].assign(n_queries=50), n_boot=20)
    assert single.note.str.contains("one query fold").any() and single.reliability.isna().all()
    small = effects(examples[:60], scores[:60], folds, n_boot=20)
    assert small.note.str.contains(r"^n \d+ is under 30").any()


def test_of_a_yes_no_attribute_only_yes_is_given_and_missing_values_are_on_neither_side():
    examples, scores, folds = made()
    table = effects(examples, scores, folds, attributes=("has_verification",), n_boot=20)
    assert set(table.value) == {"True"}
    style = examples["style"].where(examples.index % 4 != 0)
    table = effects(examples.assign(style=style), scores, folds, attributes=("style",), n_boot=20)
    for domain, rows in table.groupby("domain"):
        assert (rows.n + rows.n_rest == style[examples.domain == domain].notna().sum()).all()


def test_two_sided_attributes_mirror():
    examples, scores, folds = made()
    table = effects(examples, scores, folds, attributes=("style",), n_boot=50)
    a, b = table[table.value == "symbolic"], table[table.value == "conversational"]
    assert np.allclose(a.effect.to_numpy(), -b.effect.to_numpy()) and np.allclose(a.se.to_numpy(), b.se.to_numpy())


def test_targets_can_share_folds_and_carry_weights():
    examples, scores, folds = made()
    given = {"all": ["f0", "f1", "f5"], "first": {"f0": 3.0, "f1": 1.0}}
    table = effects(examples, scores, folds, given, n_boot=20)
    y = (3 * scores[:, 0] + scores[:, 1]) / 4
    cell = (examples.domain == "math") & (examples.difficulty == 4)
    rest = (examples.domain == "math") & (examples.difficulty != 4)
    found = row(table, target="first", domain="math", value="4", form="raw")
    assert found.effect == pytest.approx(float(y[cell].mean() - y[rest].mean()), rel=1e-5)
    assert set(table.target) == {"all", "first"}


def test_seeds_that_disagree_widen_the_interval():
    examples, scores, folds = made(n=600, fold_noise=0.05, domains=("math",))
    rng = np.random.default_rng(0)
    five = (examples.difficulty == 5).to_numpy()[:, None]
    twice = pd.concat([folds.assign(seed=s) for s in range(3)], ignore_index=True)
    agree = np.concatenate([scores] * 3, axis=1)
    differ = np.concatenate([scores + five * rng.normal(0, 1.5) for _ in range(3)], axis=1)
    wide, narrow = (
        row(effects(examples, s, twice, n_boot=200), target="math", value="5", form="raw") for s in (differ, agree)
    )
    assert wide.se > 1.5 * narrow.se and wide.df < narrow.df


def test_reliability_falls_with_the_noise_of_folds():
    low, high = (effects(*made(n=800, fold_noise=noise), n_boot=10).reliability.mean() for noise in (3.0, 0.1))
    assert high > 0.98 > 0.8 > low > 0


def test_domain_means_are_against_zero():
    examples, scores, folds = made(n=400)
    table = domain_means(examples, scores + 0.5, folds, n_boot=200)
    y = target_scores(scores + 0.5, folds, "math")[(examples.domain == "code").to_numpy()]
    found = row(table, target="math", domain="code", form="raw")
    assert found.effect == pytest.approx(y.mean()) and found.low > 0
    assert set(table.form) == {"raw", "per_token"}


def test_only_the_wanted_set_counts():
    examples, scores, folds = made()
    both = pd.concat([examples, examples.assign(set="pool", id="p" + examples.id)], ignore_index=True)
    doubled = np.concatenate([scores, scores + 100])
    assert effects(both, doubled, folds, n_boot=10).equals(effects(examples, scores, folds, n_boot=10))


def test_the_same_seed_gives_the_same_table():
    data = made()
    assert effects(*data, n_boot=50).equals(effects(*data, n_boot=50))
    assert not effects(*data, n_boot=50).equals(effects(*data, n_boot=50, seed=1))


def test_validity_is_what_was_measured_or_the_words_not_validated():
    table = effects(*made(), n_boot=10, validity={"math": "LDS 0.4 [0.3, 0.5], 100 subsets"})
    assert set(table[table.target == "math"].validity) == {"LDS 0.4 [0.3, 0.5], 100 subsets"}
    assert set(table[table.target == "code"].validity) == {"not validated"}
    assert set(table.label) == {"associational"}


def test_decile_edges_belong_to_the_upper_bin():
    assert deciles(np.arange(10.0), 2).tolist() == [0] * 5 + [1] * 5


def broken(change):
    examples, scores, folds = made()
    return change(examples, scores, folds)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e, s, f: (e.drop(columns="domain"), s, f), "no column 'domain'"),
        (lambda e, s, f: (e.drop(columns="difficulty"), s, f), "no column 'difficulty'"),
        (lambda e, s, f: (e, s[:-1], f), "one row of folds each"),
        (lambda e, s, f: (e, s, f[:-1]), "must match"),
        (lambda e, s, f: (e, s, f.drop(columns="n_queries")), "lacks the column"),
        (lambda e, s, f: (e, s, f.assign(n_queries=0)), "has no queries"),
        (lambda e, s, f: (e, s, f.assign(fold="f")), "twice"),
        (lambda e, s, f: (e, np.where(np.arange(8) == 3, np.nan, s), f), "'r0' has a score that is not finite"),
        (lambda e, s, f: (e, s, f, {}), "`targets` is empty"),
        (lambda e, s, f: (e, s, f, {"math": ["f99"]}), r"\['f99'\]"),
        (lambda e, s, f: (e.assign(set="pool"), s, f), "no example is in the set"),
        (lambda e, s, f: (e.assign(domain=e.domain.where(e.index != 7)), s, f), "'r7' has no domain"),
    ],
)
def test_tables_that_do_not_fit_are_refused_in_words(change, words):
    with pytest.raises(InputError, match=words):
        effects(*broken(change), n_boot=5)
