"""Effects of steps and token classes, rankings, agreement of targets."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from infra.analysis import span_effects, span_permutation_test, target_agreement, top_bottom
from infra.errors import InputError
from tests.analysis.made import made


def steps(seed=0, effect=1.0, n=200):
    """Steps of 200 examples; a third are verifications, worth ``effect`` more per step."""
    rng = np.random.default_rng(seed)
    examples, _, folds = made(n=n, seed=seed)
    rows = [
        (e, ("computation", "verification")[: 1 + int(rng.random() < 1 / 3)], int(rng.integers(3, 20)))
        for e in examples.id
        for _ in range(rng.integers(2, 7))
    ]
    spans = pd.DataFrame(rows, columns=["id", "group", "n_tokens"])
    has = np.array(["verification" in g for g in spans.group])
    shared = dict(zip(examples.id, rng.normal(size=n)))
    scores = rng.normal(size=(len(spans), 8)) * 0.2 + rng.normal(size=(len(spans), 1))
    scores += effect * has[:, None] + np.array([shared[i] for i in spans.id])[:, None]
    return examples, spans, scores, folds, has


def test_a_behaviours_effect_is_the_mean_of_its_steps_minus_the_mean_of_the_others():
    examples, spans, scores, folds, has = steps()
    table = span_effects(spans, scores, folds, examples=examples, n_boot=100)
    y = np.average(scores[:, :4], axis=1, weights=folds.n_queries[:4])
    math = spans.id.map(dict(zip(examples.id, examples.domain))).to_numpy() == "math"
    found = table[(table.target == "math") & (table.domain == "math") & (table.form == "raw")].iloc[0]
    assert table.value.unique().tolist() == ["verification"]  # every step is a computation: nothing to compare with
    assert found.effect == pytest.approx(y[math & has].mean() - y[math & ~has].mean())
    assert (found.n, found.n_rest) == ((math & has).sum(), (math & ~has).sum())
    assert found.low > 0 and found.attribute == "behaviour"


def test_steps_of_one_example_are_resampled_together():
    examples, spans, scores, folds, _ = steps(effect=0.0)
    alike = scores * 0.05 + (spans.id.str[1:].astype(int) % 7).to_numpy()[:, None]
    long_run = spans.assign(group=np.where(spans.id.str[1:].astype(int) % 2, "plan", "fact"))
    se = span_effects(long_run, alike, folds, examples=examples, n_boot=400)
    one = se[(se.target == "math") & (se.form == "raw") & (se.value == "plan")]
    assert len(one) == 0  # odd examples are all of one domain: a constant label is no comparison
    long_run = spans.assign(group=np.where(spans.id.str[1:].astype(int) % 4 < 2, "plan", "fact"))
    se = span_effects(long_run, alike, folds, examples=examples, n_boot=400)
    found = se[(se.target == "math") & (se.form == "raw") & (se.value == "plan") & (se.domain == "math")].iloc[0]
    math = spans.id.map(dict(zip(examples.id, examples.domain))).to_numpy() == "math"
    plan = (long_run.group == "plan").to_numpy()
    y = alike[:, :4].mean(axis=1)
    naive = np.sqrt(y[math & plan].var() / (math & plan).sum() + y[math & ~plan].var() / (math & ~plan).sum())
    assert found.se > 1.4 * naive


def test_token_classes_compare_per_token_and_at_equal_response_length():
    examples, _, folds = made(n=200)
    rng = np.random.default_rng(0)
    rows = [(e, c, k) for e in examples.id for c, k in (("number", 10), ("prose", 30))]
    spans = pd.DataFrame(rows, columns=["id", "group", "n_tokens"])
    per_token = np.where(spans.group == "number", 0.3, 0.1)
    scores = (per_token * spans.n_tokens).to_numpy()[:, None] + rng.normal(0, 0.01, (len(spans), 8))
    table = span_effects(spans, scores, folds, examples=examples, attribute="token_class", length="response", n_boot=50)
    found = table[(table.form == "per_token") & (table.value == "number")]
    assert np.allclose(found.effect, 0.2, atol=0.01) and (found.low > 0).all()


def test_spans_without_label_belong_to_the_rest_and_unknown_ids_are_refused():
    examples, spans, scores, folds, has = steps()
    none = spans.assign(group=[("verification",) if h else () for h in has])
    a = span_effects(none, scores, folds, examples=examples, n_boot=50)
    b = span_effects(spans, scores, folds, examples=examples, n_boot=50)
    assert np.allclose(a.effect, b.effect)
    with pytest.raises(InputError, match="'x1': the examples have no such id"):
        span_effects(spans.assign(id="x1"), scores, folds, examples=examples)
    with pytest.raises(InputError, match="no column 'group'"):
        span_effects(spans.drop(columns="group"), scores, folds, examples=examples)
    with pytest.raises(InputError, match="length is 'words'"):
        span_effects(spans, scores, folds, examples=examples, length="words")


def test_label_permutation_finds_the_behaviour_and_nothing_without_one():
    examples, spans, scores, folds, _ = steps(effect=1.0, n=100)
    per_token = scores * spans.n_tokens.to_numpy()[:, None]
    table = span_permutation_test(spans, per_token, folds, examples=examples, n_permutations=100)
    assert table[table.target == "(table)"].p.iloc[0] == pytest.approx(1 / 101)
    assert (table.value == "verification").all()
    p = []
    for seed in range(40):
        examples, spans, scores, folds, _ = steps(seed=seed, effect=0.0, n=40)
        table = span_permutation_test(spans, scores, folds, examples=examples, n_permutations=40, seed=seed)
        p.append(table[table.target == "(table)"].p.iloc[0])
    assert np.mean(np.array(p) <= 0.1) <= 0.1 + 2.5 * np.sqrt(0.1 * 0.9 / 40)


def test_top_and_bottom_are_the_ends_of_the_ranking():
    examples, _, _ = made(n=50)
    scores = np.stack([np.arange(50.0), -np.arange(50.0)], axis=1)
    table = top_bottom(examples, scores, ["math", "code"], k=3)
    assert table[(table.target == "math") & (table.side == "top")].id.tolist() == ["r49", "r48", "r47"]
    assert table[(table.target == "math") & (table.side == "bottom")].id.tolist() == ["r0", "r1", "r2"]
    assert table[(table.target == "code") & (table.side == "top")].influence.tolist() == [0, -1, -2]
    assert {"domain", "difficulty"} <= set(table.columns)
    assert top_bottom(examples[:3], scores[:3], ["math", "code"], k=10).id.groupby(
        top_bottom(examples[:3], scores[:3], ["math", "code"], k=10).target
    ).nunique().tolist() == [3, 3]


def test_agreement_of_targets_is_spearmans():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 1)) + rng.normal(size=(300, 3))
    table = target_agreement(scores, ["a", "b", "c"])
    for found in table.itertuples():
        i, j = "abc".index(found.a), "abc".index(found.b)
        assert found.rho == pytest.approx(stats.spearmanr(scores[:, i], scores[:, j]).statistic)
        assert found.low < found.rho < found.high
