"""What must stay whole, and what is thinking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.spans import parts, regions


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("a $x + 1$ b $$y$$ \\(z\\) \\[w\\]", ["inline_math", "display_math", "inline_math", "display_math"]),
        ("it costs $5 and $6 in all", []),
        ("a price of $5, $x$ units", ["inline_math"]),
        ("\\boxed{\\frac{1}{2}} and \\boxed{open", ["inline_math"]),
        ("```python\nx\n```\n~~~\nopen fence", ["fence", "fence"]),
        ("````\n```\ninner\n```\n````\nout", ["fence"]),
        ("use `x. y` here, a lone ` tick", ["inline_code"]),
        ("text\ndef f(x):\n    return x\n\nprint(f(1))\nThat is it.", ["code"]),
        ("\\begin{cases}a\\end{cases} \\begin{x}", ["display_math"]),
        ("[asy] draw((0,0)); [/asy] ok", ["figure"]),
        ("escaped \\$5 and \\$6", []),
        ("", []),
    ],
)
def test_regions_are_found(text: str, kinds: list[str]) -> None:
    assert [r.kind for r in regions(text)] == kinds


def test_unfenced_code_ends_where_prose_begins() -> None:
    text = "Here:\ndef f(x):\n    y = x\n    return y\n\nThat is all."
    [code] = regions(text)
    assert text[code.start : code.end] == "def f(x):\n    y = x\n    return y"


@given(st.text(alphabet="$`\\[]()~\n ab{}x.", max_size=60))
def test_regions_are_sorted_disjoint_and_inside(text: str) -> None:
    found = regions(text)
    borders = [b for r in found for b in (r.start, r.end)]
    assert borders == sorted(borders) and all(0 <= b <= len(text) for b in borders)
    assert all(r.start < r.end for r in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think>\n b", [("<think>a</think>\n ", "thinking"), ("b", "solution")]),
        (
            "<|begin_of_thought|>a<|end_of_thought|>\n\n<|begin_of_solution|>b<|end_of_solution|>",
            [
                ("<|begin_of_thought|>a<|end_of_thought|>\n\n", "thinking"),
                ("<|begin_of_solution|>b<|end_of_solution|>", "solution"),
            ],
        ),
        ("a</think>b", [("a</think>", "thinking"), ("b", "solution")]),
        ("<think>cut off", [("<think>cut off", "thinking")]),
        ("no tags", [("no tags", "solution")]),
        (
            "Hi. <think>a</think>b<think>c</think>",
            [
                ("Hi. ", "solution"),
                ("<think>a</think>", "thinking"),
                ("b", "solution"),
                ("<think>c</think>", "thinking"),
            ],
        ),
        ("\n<think>a</think>", [("\n<think>a</think>", "thinking")]),
        ("", []),
    ],
)
def test_parts_of_the_usual_formats(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(text[a:b], kind) for a, b, kind in parts(text)] == expected


@given(st.lists(st.sampled_from(["<think>", "</think>", "a ", "\n", "<|end_of_thought|>"]), max_size=9).map("".join))
def test_parts_partition_the_text(text: str) -> None:
    assert "".join(text[a:b] for a, b, _ in parts(text)) == text
