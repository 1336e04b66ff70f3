"""The words that a hypothesis may be answered with, and what earns them."""

import numpy as np
import pandas as pd
import pytest

from infra.analysis import PAPER, hypotheses, with_bands
from infra.analysis.arms import CONTRAST_COLUMNS
from infra.analysis.effects import COLUMNS


def effect_row(**known):
    base = dict.fromkeys(COLUMNS, np.nan) | {
        "target": "code",
        "attribute": "difficulty_band",
        "value": "hard",
        "domain": "math",
        "form": "length_matched",
        "effect": 0.5,
        "low": 0.2,
        "high": 0.8,
        "n": 100,
        "q": 0.01,
        "status": "ok",
        "note": "",
        "validity": "not validated",
    }
    return base | known


def contrast_row(**known):
    base = dict.fromkeys(CONTRAST_COLUMNS, np.nan) | {
        "task": "math",
        "contrast": "flip - same-difficulty-swap",
        "role": "primary",
        "difference": 0.03,
        "low": 0.01,
        "high": 0.05,
        "p": 0.004,
        "p_holm": 0.008,
        "n_problems": 400,
        "n_seeds": 3,
        "mde": 0.02,
        "label": "causal",
        "status": "ok",
        "note": "",
    }
    return base | known


def answer(name, effects=(), contrasts=None, **options):
    table = pd.DataFrame(list(effects), columns=list(COLUMNS))
    made = None if contrasts is None else pd.DataFrame(contrasts, columns=list(CONTRAST_COLUMNS))
    found = hypotheses(table, contrasts=made, **options).set_index("name")
    return found.loc[name]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, "influence suggests yes"),
        ({"effect": -0.5, "low": -0.8, "high": -0.2}, "influence suggests no"),
        ({"q": 0.2}, "undecided"),
        ({"low": -0.1}, "undecided"),
        ({"status": "undecided", "note": "overlap n 12 is under 30"}, "undecided"),
    ],
)
def test_influence_alone_never_supports_or_contradicts(known, words):
    found = answer("hard-math-helps-code", [effect_row(**known)])
    assert found.answer == words and found.label == "associational" and found.validity == "not validated"
    assert known.get("note", "") in found.evidence


def test_the_equal_length_row_decides_and_the_others_are_shown():
    rows = [
        effect_row(form="raw", effect=9.0, low=8.0, high=10.0),
        effect_row(form="per_token", effect=7.0),
        effect_row(q=0.5),
    ]
    found = answer("hard-math-helps-code", rows)
    assert found.answer == "undecided" and "raw +9" in found.evidence and found.interval == "[0.2, 0.8]"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, "supported"),
        ({"difference": -0.03, "low": -0.05, "high": -0.01}, "contradicted"),
        ({"p_holm": 0.06}, "undecided"),
        ({"low": -0.01}, "undecided"),
        ({"status": "undecided", "note": "one seed"}, "undecided"),
    ],
)
def test_only_the_primary_contrast_supports_or_contradicts(known, words):
    found = answer("difficulty-flip-improves-math", contrasts=[contrast_row(**known)])
    assert found.answer == words and found.n == 400 and "smallest detectable 2.0 points" in found.evidence


def test_other_contrasts_of_retrained_arms_suggest():
    row = contrast_row(task="code", contrast="reverse-flip - same-difficulty-swap", role="exploratory", p_holm=np.nan)
    assert answer("reverse-flip-hurts-code", contrasts=[row]).answer == "retraining suggests no"


def test_targets_and_tasks_may_have_other_names():
    found = answer("hard-math-helps-code", [effect_row(target="lcb")], targets={"code": "lcb"})
    assert found.answer == "influence suggests yes"
    row = contrast_row(task="world-math")
    assert answer("difficulty-flip-improves-math", contrasts=[row], tasks={"math": "world-math"}).answer == "supported"


def test_what_was_not_measured_says_so_for_every_claim_of_the_paper():
    found = hypotheses(pd.DataFrame(columns=list(COLUMNS)))
    assert set(found.answer) == {"not tested"} and len(found) == len(PAPER) == len(set(found.name))
    assert (found.statement.str.len() > 20).all()


def test_other_tables_answer_their_own_claims():
    steps = pd.DataFrame([effect_row(target="math", attribute="behaviour", value="exploration")])
    tokens = pd.DataFrame(
        [effect_row(target="code", domain="code", attribute="token_class", value="code:punctuation", form="per_token")]
    )
    means = pd.DataFrame([effect_row(attribute="domain", value="math", form="raw")])
    options = {"behaviours": steps, "token_classes": tokens, "domain_means": means}
    for name in ("exploration-helps-math", "code-leans-on-syntax", "math-data-helps-code"):
        assert answer(name, **options).answer == "influence suggests yes"


def test_bands_name_the_levels():
    examples = pd.DataFrame({"difficulty": [1, 2, 3, 4, 5, None]})
    assert with_bands(examples).difficulty_band.tolist()[:5] == ["easy", "easy", "middle", "hard", "hard"]
    assert with_bands(examples).difficulty_band.isna().tolist() == [False] * 5 + [True]
