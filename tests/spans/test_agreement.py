"""Agreement figures against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from infra.errors import InputError
from infra.spans import cohen_kappa, label_kappa
from tests.spans.label_scores import score_labels


def test_kappa_of_a_table_worked_by_hand() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p_o = 0.7, p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5, kappa = 0.4.
    a = ["y"] * 25 + ["n"] * 25
    b = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(a, b) == pytest.approx(0.4)
    assert cohen_kappa(a, a) == pytest.approx(1.0)
    assert cohen_kappa(["a", "b"], ["b", "a"]) == pytest.approx(-1.0)
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"]))


@pytest.mark.parametrize(("a", "b"), [([], []), (["a"], ["a", "b"])])
def test_kappa_needs_the_same_items(a: list[str], b: list[str]) -> None:
    with pytest.raises(InputError):
        cohen_kappa(a, b)


def test_kappa_per_label() -> None:
    a = [("plan",), ("fact",), ("plan", "fact"), ()]
    b = [("plan",), ("fact",), ("fact",), ()]
    found = label_kappa(a, b, ["plan", "fact"])
    assert found["fact"] == pytest.approx(1.0) and found["plan"] == pytest.approx(0.5)


def test_scores_of_a_labelling_worked_by_hand() -> None:
    truth = [("plan",)] * 20 + [("fact",)] * 20 + [("rare",)] * 3
    found = [("plan",)] * 15 + [("fact",)] * 5 + [("fact",)] * 20 + [()] * 3
    report = score_labels(truth, found, ["plan", "fact", "rare", "none"], groups=list(range(43)))
    plan, fact, rare, none = report.scores
    assert (plan.n, plan.predicted, plan.precision, plan.recall) == (20, 15, 1.0, 0.75)
    assert plan.f1 == pytest.approx(6 / 7) and fact.f1 == pytest.approx(8 / 9)
    assert rare.recall == 0.0 and math.isnan(rare.precision) and math.isnan(none.f1)
    assert report.counted == ("plan", "fact")
    assert report.macro_f1 == pytest.approx((6 / 7 + 8 / 9) / 2)
    assert report.low < report.macro_f1 < report.high


def test_the_interval_draws_whole_groups_and_is_seeded() -> None:
    truth = ([("plan",)] * 10 + [()] * 10) * 4
    found = [("plan",)] * 20 + truth[20:]
    alone = score_labels(truth, found, ["plan"], seed=1)
    grouped = score_labels(truth, found, ["plan"], groups=[i // 20 for i in range(80)], seed=1)
    assert grouped.high - grouped.low > alone.high - alone.low
    assert grouped == score_labels(truth, found, ["plan"], groups=[i // 20 for i in range(80)], seed=1)


def test_too_few_cases_give_no_macro_figure() -> None:
    report = score_labels([("plan",)] * 3, [("plan",)] * 3, ["plan"])
    assert report.counted == () and math.isnan(report.macro_f1)
    with pytest.raises(InputError):
        score_labels([("plan",)], [], ["plan"])
