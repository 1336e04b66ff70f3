"""What scores are read by: places in the ranking, shares of the whole, and the sentences made of them."""

import numpy as np
import pandas as pd
import pytest

from infra.data import TokenizedExample
from infra.pipeline.effects import with_standing
from infra.pipeline.shares import Shares
from infra.report import ReportData
from infra.report.sections import answer, caveats, trust
from infra.report.sections.top import concentrations


def example(name: str, words: list[str], template: int = 1) -> TokenizedExample:
    """One token a word; the first is the prompt's, the last ``template`` are the chat template's."""
    text, offsets = "", []
    for word in words:
        offsets.append((len(text), len(text) + len(word)))
        text += word
    n = len(words)
    mask = np.arange(n) > 0
    content = mask & (np.arange(n) < n - template)
    return TokenizedExample(
        name, np.arange(n), mask, np.array(offsets, np.int32), text, len(words[0]), content_mask=content
    )


def test_shares_are_sums_of_absolute_scores_over_all_of_them():
    shares = Shares()
    shares.add(example("a", ["What? ", "so ", "12", "<|im_end|>"]), {"loss_math": np.array([9, 1, -2, 5], np.float32)})
    shares.add(example("b", ["What? ", "12", "so", "<|im_end|>"]), {"loss_math": np.array([9, 1, 0, -3], np.float32)})
    table = shares.table().set_index(["kind", "name"])
    assert (table.target == "math").all() and (table.n_examples == 2).all()
    assert table.share["token", "<|im_end|>"] == pytest.approx(8 / 12) and table.of_tokens["token", "12"] == 2 / 6
    assert table.share["class", "format"] == pytest.approx(8 / 12)
    assert table.share["class", "number"] == pytest.approx(3 / 12)
    assert table.share["position", "last token of the response"] == pytest.approx(8 / 12)
    assert table.share["position", "first token of the response"] == pytest.approx(2 / 12)
    assert table.share["example", "a"] == pytest.approx(4 / 6)


def test_content_shares_leave_the_template_out():
    shares = Shares()
    whole = example("a", ["What? ", "so ", "12", "<|im_end|>"])
    shares.add(whole.counting("content"), {"loss_math": np.array([0, 1, -2, 0], np.float32)})
    table = shares.table().set_index(["kind", "name"])
    assert ("class", "format") not in table.index and table.share["token", "12"] == pytest.approx(2 / 3)


def test_what_holds_over_a_third_is_said_of_all_examples_without_any_shown_one():
    rows = [
        ("math", "class", "format", 0.8, 0.02, 64),
        ("math", "token", "<|im_end|>", 0.7, 0.01, 64),
        ("math", "position", "first token of the response", 0.1, 0.01, 64),
        ("code", "example", "r7", 0.5, None, 64),
        ("code", "class", "prose", 0.3, 0.3, 64),
    ]
    table = pd.DataFrame(rows, columns=["target", "kind", "name", "share", "of_tokens", "n_examples"])
    said = concentrations(ReportData("t", tables={"shares": table}))
    assert said == [
        "For math, the absolute score of all 64 training examples lies to 80.0% in tokens of the class ‘format’ (2.0% "
        "of the tokens) and 70.0% in the token ‘<|im_end|>’ (1.0% of the tokens).",
        "For code, the absolute score of all 64 training examples lies to 50.0% in example r7.",
    ]


def test_a_score_stands_where_it_stands_among_all_examples_and_its_own_domain():
    examples = pd.DataFrame(
        {
            "id": list("abcde"),
            "domain": ["math", "math", "math", "code", "code"],
            "score_math": [1.0, 2.0, 6.0, -4.0, 0.0],
            "format_math": [0.5, 0.25, 0.1, -1.0, 0.0],
        }
    )
    top = pd.DataFrame(
        {"target": ["math", "math"], "side": ["top", "bottom"], "id": ["c", "d"], "influence": [6.0, -4]}
    )
    found = with_standing(top, examples).set_index("id")
    assert found.percentile["c"] == 100 and found.percentile["d"] == 20
    assert found.standardised["c"] == pytest.approx((6 - 1) / np.std([1, 2, 6, -4, 0], ddof=1))
    assert found.relative["c"] == 3 and found.relative["d"] == -2
    assert found.format["d"] == -1 and "cosine" not in found
    flat = with_standing(top, examples.assign(score_math=1.0, cosine_math=0.5)).set_index("id")
    assert np.isnan(flat.standardised["c"]) and flat.cosine["c"] == 0.5


FOUND = {
    "examples": 48,
    "content_loss": 1.2,
    "template_loss": 2.5,
    "alignment": 0.2,
    "largest_alignment": 0.01,
    "holds": False,
}


def test_a_model_far_from_the_end_of_training_is_warned_of_before_everything_else():
    data = ReportData("t", results={"convergence": FOUND})
    first = answer(data)[0]
    assert first.first and "what a first step on this data would teach" in first.text and "--warmup" in first.text
    assert "is not near the end" in dict(trust(data))["Meaning"]
    warmed = ReportData("t", results={"convergence": FOUND, "warmup": {"examples": 64, "steps": 16, "lora_rank": 8}})
    assert "a longer warm-up" in answer(warmed)[0].text
    assert "after a warm-up on 64 of these examples (16 steps with LoRA of rank 8)" in dict(trust(warmed))["Model"]


def test_a_model_near_the_end_and_a_run_that_did_not_look_are_not_warned_of():
    near = ReportData("t", results={"convergence": {**FOUND, "alignment": 0.0, "holds": True}})
    assert answer(near) == [] and "is near the end" in dict(trust(near))["Meaning"]
    for results in ({}, {"convergence": {"examples": 1, "holds": None}}):
        data = ReportData("t", results=results)
        assert answer(data) == [] and "Meaning" not in dict(trust(data))


@pytest.mark.parametrize(("tokens", "words"), [("content", "leave them out"), ("all", "include them")])
def test_a_large_share_of_the_template_is_a_caveat_that_says_whether_scores_hold_it(tokens, words):
    sums = {"tokens": tokens, "template_share": {"train:math": 0.91, "train:code": 0.2, "pool:code": 0.9}}
    said = [s for s in caveats(ReportData("t", results={"token_sums": sums})) if "chat template" in s]
    assert len(said) == 1 and "91.0% for math" in said[0] and "code" not in said[0] and words in said[0]
