"""Steps: lossless, never inside code or a formula, where a reader would put them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import RecipeError
from infra.spans import RULES, parts, regions, steps

PIECES = st.sampled_from(
    [
        "Let x = 3. ",
        "So $a. B$ holds",
        "\n\n",
        "\n",
        " ",
        ". ",
        "```python\nx = 1. \n\nY\n```\n",
        "\\[ a. \n\n B \\]",
        "$$x. Y$$",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "1. ",
        "- item\n",
        "(a) ",
        "$5 and $6. ",
        "e.g. this",
        "\u2028",
        "😀",
        "你好。再见",
        "\\boxed{1. 2}",
        "`a. B`",
        "Wait, no. ",
        "def f(x):\n    return x\n",
        "~~~\ncode",
        "\\begin{align}a. B\\end{align}",
        "é. \u200bÀ",
        "\r\n",
        "\x00",
        "**Bold.** ",
    ]
)
WILD = st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(max_size=80))


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=80, deadline=None)
@given(text=WILD)
def test_joining_the_steps_gives_the_text_back(rule, text: str) -> None:
    spans = steps(text, rule)
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(a < b for a, b in spans)
    assert [a for a, _ in spans[1:]] == [b for _, b in spans[:-1]]


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=80, deadline=None)
@given(text=WILD)
def test_no_border_lies_inside_code_or_a_formula(rule, text: str) -> None:
    borders = [a for a, _ in steps(text, rule)]
    for region in regions(text):
        assert not [b for b in borders if region.start < b < region.end]


@settings(max_examples=80, deadline=None)
@given(text=WILD)
def test_the_border_between_thinking_and_solution_is_a_border_of_steps(text: str) -> None:
    inside = [(r.start, r.end) for r in regions(text)]
    borders = {a for a, _ in steps(text)}
    for start, _, _ in parts(text):
        assert start in borders or any(a < start < b for a, b in inside)


def pieces(text: str, rule="sentences") -> list[str]:
    return [text[a:b].strip() for a, b in steps(text, rule)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So x = 3.5. Then y = 2 < 3. Done > 1. ok", ["So x = 3.5.", "Then y = 2 < 3.", "Done > 1.", "ok"]),
        ("The side is 7 cm. So y = m. Then it is n. End.", ["The side is 7 cm.", "So y = m.", "Then it is n.", "End."]),
        ("See e.g. Dr. Smith vs. Jones. Next.", ["See e.g. Dr. Smith vs. Jones.", "Next."]),
        ("Wait... is it? Yes.", ["Wait... is it?", "Yes."]),
        ("1. Take 8. So it is 9.\n2. Then stop.", ["1. Take 8.", "So it is 9.", "2. Then stop."]),
        ("n = ((130 - 4) / 2) + 1 = 64. Good.", ["n = ((130 - 4) / 2) + 1 = 64.", "Good."]),
        ("**Step 1.** Do it. **Step 2.** Stop.", ["**Step 1.** Do it.", "**Step 2.** Stop."]),
        ("This line is\nwrapped here. Next\n- a point", ["This line is\nwrapped here.", "Next", "- a point"]),
        ("We get\n\\[ x = 5. \\]\nso it holds. End.", ["We get\n\\[ x = 5. \\]\nso it holds.", "End."]),
        ("<think>\nOkay.\n</think>\n\n<answer> 3 </answer>", ["<think>\nOkay.\n</think>", "<answer> 3 </answer>"]),
        ("Code:\n```\na. B\n\nC\n```\nDone. Bye.", ["Code:", "```\na. B\n\nC\n```", "Done.", "Bye."]),
        ("Pay $5. Then pay $6 more.", ["Pay $5.", "Then pay $6 more."]),
        ("它是三。所以停。", ["它是三。", "所以停。"]),
    ],
)
def test_steps_are_where_a_reader_would_put_them(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_the_other_rules_are_coarser() -> None:
    text = "We add. It is 5. However, we forgot one. It is 6.\n\nTherefore six. Fine."
    assert pieces(text, "blank_lines") == ["We add. It is 5. However, we forgot one. It is 6.", "Therefore six. Fine."]
    assert pieces(text, "connectives") == [
        "We add. It is 5.",
        "However, we forgot one. It is 6.",
        "Therefore six. Fine.",
    ]


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(RecipeError, match=r"unknown step rule 'lines'.*blank_lines"):
        steps("a", "lines")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "unit", ["$", "\\[ ", "```\n", "`\n", "\\boxed{", "@a\n", " ", "\n", ". ", "(", "\\begin{a}", "Then x = 5. "]
)
def test_long_and_hostile_texts_take_linear_time(unit: str) -> None:
    text = unit * (30_000 // len(unit))
    start = time.process_time()
    spans = steps(text)
    assert time.process_time() - start < 5
    assert spans[0][0] == 0 and spans[-1][1] == len(text)
