"""What the page says in words: the answer, how far to trust it, what to beware of, what to do next."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from infra.report import TABLE_COLUMNS, ReportData
from infra.report.runinfo import next_steps
from infra.report.sections import SECTIONS, answer, caveats, lead, trust
from infra.report.sections.top import concentrations, reading
from infra.report.tokenmap import excerpt, problem
from infra.report.wording import contrast_name, listing, number, percent, points, set_name, signed

from . import synthetic


def test_primary_contrast_reads_as_in_the_protocol():
    row = dict(
        task="math",
        contrast="flip - same-difficulty-swap",
        role="primary",
        difference=0.012,
        low=-0.008,
        high=0.031,
        p=0.2,
        p_holm=0.4,
        n_problems=400,
        n_seeds=3,
        mde=0.029,
        label="causal",
    )
    data = ReportData("t", tables={"contrasts": pd.DataFrame([row, {**row, "role": "exploratory"}])})
    (only,) = answer(data)
    assert only.text == (
        "Flip minus same-difficulty swap on math: +1.2 points [−0.8, 3.1], undecided; "
        "smallest detectable effect 2.9 points."
    )
    assert "exploratory" in " ".join(caveats(data))


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "verdict"),
    [
        (0.004, 0.03, 0.01, "higher"),
        (0.004, 0.03, 0.2, "undecided"),
        (-0.03, -0.001, None, "lower"),
        (-0.01, 0.03, 0.01, "undecided"),
        (float("nan"), 0.1, 0.01, "undecided"),
    ],
)
def test_a_difference_is_decided_only_by_its_interval_and_corrected_p(low, high, p_holm, verdict):
    row = dict.fromkeys(TABLE_COLUMNS["contrasts"]) | dict(
        task="code", contrast="a - b", role="primary", difference=0.01, low=low, high=high, p_holm=p_holm
    )
    assert answer(ReportData("t", tables={"contrasts": pd.DataFrame([row])}))[0].verdict == verdict


def test_sentences_about_influence_never_claim_support():
    said = " ".join(s.text for s in answer(synthetic.report()) if s.topic == "Which data helps?")
    assert "Influence suggests" in said
    assert "supported" not in said


def test_sign_agreement_counts_pairs_by_hand():
    frame = pd.DataFrame(
        [[a, "math", p, m, 0, 0, 0, 0, 0] for a, p, m in [("flip", 1, 2), ("x", -1, 2), ("y", -1, -1)]],
        columns=TABLE_COLUMNS["arms"],
    )
    (only,) = answer(ReportData("t", tables={"arms": frame}))
    assert "in 2 of 3 pairs of a training set and a target" in only.text


@pytest.mark.parametrize("count", [9, 12])
def test_a_rank_correlation_is_given_from_ten_training_sets_on(count):
    rows = [[f"set-{i}", "math", i, i + 3 * (i % 2), 0, 0, 0, 0, 0] for i in range(count)]
    data = ReportData("t", tables={"arms": pd.DataFrame(rows, columns=TABLE_COLUMNS["arms"])})
    given = [s.text for s in answer(data) if "rank correlation" in s.text]
    refused = [c for c in caveats(data) if "no correlation is given" in c]
    assert (len(given), len(refused)) == ((0, 1) if count < 10 else (1, 0))
    if given:
        rho = stats.spearmanr([r[2] for r in rows], [r[3] for r in rows]).statistic
        assert f"Over {count} training sets" in given[0] and f"correlation of {number(rho)} [" in given[0]


def test_honesty_box_names_each_weakness():
    said = " ".join(caveats(synthetic.report(quick=True)))
    for words in (
        "too small to conclude from",
        "reference solutions: code-easy",
        "Too few responses (under 20) behind code-easy",
        "2.9 points or more",
        "not validated",
        "associational",
        "no correlation is given",
        "A made-up run",
    ):
        assert words in said, words


def test_a_validated_decided_run_has_nothing_to_confess():
    effects = synthetic.tables(np.random.default_rng(0))["effects"]
    effects = effects.assign(validity="LDS 0.4", reliability=0.9, status="ok", label="causal")
    assert caveats(ReportData("t", tables={"effects": effects})) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, "0.0123"),
        (-4.2e-5, "−4.20×10⁻⁵"),
        (None, "–"),
        (float("nan"), "–"),
        (1234.0, "1234"),
        (2, "2"),
        (3.14159, "3.14"),
        (1.5e9, "1.50×10⁹"),
        (True, "–"),
    ],
)
def test_numbers_are_written_for_readers(value, text):
    assert number(value) == text


def test_more_wording():
    assert (signed(0.5), signed(-0.5), points(0.012), points(-0.0004), percent(0.315)) == (
        "+0.500",
        "−0.500",
        "+1.2",
        "0.0",
        "31.5%",
    )
    assert (listing([]), listing(["a"]), listing("abc")) == ("", "a", "a, b and c")


def test_the_first_screen_has_one_sentence_a_target():
    data = synthetic.report()
    said = lead(answer(data))
    assert [s.target for s in said] == list(synthetic.TARGETS)
    assert all(s.text.count(s.target) and s.text.endswith(".") for s in said)
    only_ranked = ReportData("t", tables={"top": data.tables["top"]}, scores=data.scores)
    ranked = lead(answer(only_ranked))
    assert [s.target for s in ranked] == list(synthetic.TARGETS)
    assert "the most helpful of 400 examples is r0000dc0ffee ‘Ana has 42 marbles" in ranked[0].text


def test_the_answer_quotes_the_numbers_of_the_figure_that_is_shown_first():
    data = synthetic.report()
    effects = next(s for s in SECTIONS if s.id == "effects")
    shown = [f for f in effects.figures(data) if f.variant == next(iter(effects.figures(data))).variant]
    tips = " ".join(m for f in shown for p in f.panels for m in synthetic.tips(p))
    quoted = [re.search(r"raises f by (\S+ \[.*?\])", s.text) for s in lead(answer(data))]
    assert sum(q is not None for q in quoted) == 4
    assert all(q[1] in tips for q in quoted if q)


def test_standard_deviations_and_percentiles_are_among_all_training_examples():
    scores = pd.DataFrame({"id": list("abcd"), "domain": "math", "score_math": [1.0, 2.0, 3.0, 10.0]})
    top = pd.DataFrame(
        [["math", "top", 1, "d", 10.0], ["math", "bottom", 1, "a", 1.0]],
        columns=["target", "side", "rank", "id", "influence"],
    )
    section = next(s for s in SECTIONS if s.id == "top")
    shown = section.prepare(ReportData("t", tables={"top": top}, scores=scores))["top"]
    assert shown["percentile"].tolist() == [100.0, 25.0]
    sd = np.std([1, 2, 3, 10], ddof=1)
    np.testing.assert_allclose(shown["standardised"], [(10 - 4) / sd, (1 - 4) / sd])


@pytest.mark.parametrize(
    ("side", "high", "word"),
    [
        ("bottom", -0.1, "harmful"),
        ("bottom", 0.1, "least helpful"),
        ("bottom", None, "least helpful"),
        ("top", -0.1, "most helpful"),
    ],
)
def test_harmful_is_said_only_below_zero_with_the_interval(side, high, word):
    row = pd.Series({"side": side, "influence": -1.0} | ({} if high is None else {"high": high}))
    assert reading(row) == word


def concentrated(view, place, share):
    """``view`` with one token holding ``share`` of its absolute score, the rest spread evenly."""
    under = np.flatnonzero(view.loss_mask)
    values = np.zeros(len(view.token_offsets), np.float32)
    values[under] = (1 - share) / (len(under) - 1)
    values[under[place]] = -share
    return replace(view, scores={"loss": np.tile(values, (len(view.targets), 1))})


def test_what_carries_more_than_a_third_of_the_score_is_named():
    rng = np.random.default_rng(0)
    views = [synthetic.example(i, rng) for i in range(6)]
    held = concentrations(ReportData("t", examples=[concentrated(v, -1, 0.6) for v in views]))
    assert len(held) == 4 and "60.0% in the last token of the response" in held[0]
    first = concentrations(ReportData("t", examples=[concentrated(v, 0, 0.5) for v in views]))
    assert "50.0% in the first token of the response" in first[0]
    assert concentrations(ReportData("t", examples=[concentrated(v, 9, 0.3) for v in views])) == []


def test_a_class_or_an_example_that_carries_the_score_is_named():
    rng = np.random.default_rng(0)
    view = concentrated(synthetic.example(0, rng), 5, 0.5)
    names = ["prose"] * len(view.token_offsets)
    names[int(np.flatnonzero(view.loss_mask)[5])] = "number"
    views = [replace(view, token_classes=names) for _ in range(5)]
    assert "in tokens of the class ‘number’" in concentrations(ReportData("t", examples=views))[0]
    scores = pd.DataFrame({"id": list("abcdef"), "domain": "math", "score_math": [1.0, -8.0, 1, 1, 1, 1]})
    (said,) = concentrations(ReportData("t", scores=scores))
    assert "example b alone carries 61.5% of all 6 examples' absolute score" in said
    even = scores.assign(score_math=1.0)
    assert concentrations(ReportData("t", scores=even)) == []


def test_validity_and_reliability_stand_beside_the_answer():
    data = synthetic.report()
    said = dict(trust(data))
    assert said["Validity"].startswith("Not validated for math, code, math-hard and code-easy")
    effects = data.tables["effects"]
    expected = pd.to_numeric(effects[effects["target"] == "math"]["reliability"]).median()
    assert f"math {number(expected, 2)}" in said["Reliability"]
    lds = effects.assign(validity="LDS 0.41 [0.30, 0.50]")
    assert "LDS 0.41" in dict(trust(ReportData("t", tables={"effects": lds})))["Validity"]
    assert "Not validated" in dict(trust(ReportData("t")))["Validity"]
    means = effects[effects["target"] == "math"]  # a scored file without attributes has means of domains only
    assert "math" in dict(trust(ReportData("t", tables={"domain_means": means})))["Reliability"]


def test_the_next_command_is_what_this_run_lacks():
    data = synthetic.report()
    assert "infra validate . --minutes 20" in [c for _, c in next_steps(data)]
    done = {**data.tables, "effects": data.tables["effects"].assign(validity="LDS 0.4")}
    assert [c for _, c in next_steps(ReportData("t", tables=done))] == ["infra view ."]
    scored = ReportData("t", tables={"top": data.tables["top"]})
    assert [c for _, c in next_steps(scored)] == ["infra select . --keep 0.8 --control length", "infra view ."]


def test_words_of_the_workshop_are_spelled_out():
    assert contrast_name("flip - same-difficulty-swap") == "flip minus same-difficulty swap"
    assert (set_name("sft"), set_name("random-swap")) == ("original data", "random swap")
    said = " ".join(s.text for s in answer(synthetic.report())) + " ".join(caveats(synthetic.report()))
    assert not re.search(r"\barms?\b|same-diff\.", said)


def test_a_preview_is_the_problem_and_never_the_system_prompt():
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    text = f"{system}<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\nIt is 4.<|im_end|>"
    start = text.index("It is")
    offsets = np.array([[0, start], [start, len(text)]])
    view = synthetic.example(0, np.random.default_rng(0))
    made = replace(view, text=text, token_offsets=offsets, loss_mask=np.array([False, True]), steps=())
    assert problem(made) == "What is 2 + 2?"
    assert problem(replace(made, preview="How many?")) == "How many?"


def test_the_excerpt_is_the_best_example_at_its_best_step():
    rng = np.random.default_rng(3)
    views = [synthetic.example(i, rng, sentences=30) for i in range(5)]
    found = excerpt(views, "code")
    k = synthetic.TARGETS.index("code")
    best = max(views, key=lambda v: v.totals()[k])
    assert found.id == best.id
    sums = [best.scores["loss"][k][a:b].sum() for a, b, _ in best.steps]
    a, b, _ = best.steps[int(np.argmax(sums))]
    shown = "".join(text for text, _, _ in found.pieces)
    step = best.text[best.token_offsets[a][0] : best.token_offsets[b - 1][1]]
    assert step in shown and shown in best.text and len(shown) <= 420
    top = max(range(len(found.pieces)), key=lambda i: abs(_value(found.pieces[i][2])))
    assert found.pieces[top][1].startswith("s10")
    assert all(("p" in mark.split()) == (_value(value) > 0) for _, mark, value in found.pieces if value)


def _value(text: str) -> float:
    base, _, power = text.replace("−", "-").partition("×10")
    return float(base or 0) * 10 ** int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
