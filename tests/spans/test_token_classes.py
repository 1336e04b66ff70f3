"""Token classes: what kind of text each token is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.spans import CLASSES, CONNECTIVES, token_classes


def classes(text: str) -> dict[str, str]:
    """Class of each word-like token, tokens as a byte-level tokenizer cuts them (one leading space)."""
    offsets = [m.span() for m in re.finditer(r"\s?\w+(?:['-]\w+)*|\s?[^\w\s]|\s+", text)]
    return {text[a:b].strip(): c for (a, b), c in zip(offsets, token_classes(text, offsets), strict=True)}


def test_prose() -> None:
    found = classes("However, the sum is 3 + 4 = 7. It follows that the well-known rule holds.")
    assert found["However"] == found["follows"] == found["that"] == "connective"
    assert found["sum"] == found["rule"] == found["well-known"] == "prose"
    assert found["3"] == found["7"] == "number"
    assert found["+"] == found["="] == "operator"
    assert found[","] == found["."] == "punctuation"


def test_mathematics() -> None:
    found = classes("so $\\frac{a}{12} + b$ is it")
    assert found["frac"] == found["a"] == found["{"] == "latex"
    assert found["12"] == "number" and found["+"] == "operator"
    assert found["so"] == "connective" and found["is"] == "prose"


@pytest.mark.parametrize("fence", ["```python\n{}\n```", "~~~\n{}\n~~~", "{}"])
def test_code_inside_and_outside_fences(fence: str) -> None:
    found = classes("Try:\n" + fence.format("def f(xs):\n    return sum(xs) + 12") + "\nIt works.")
    assert found["def"] == "code:keyword" and found["f"] == "code:name.function"
    assert found["sum"].startswith("code:name") and found["12"] == "code:literal.number.integer"
    assert found["+"] == "code:operator"
    assert found["works"] == "prose"


def test_a_fence_names_its_language_and_an_unknown_one_is_read_as_python() -> None:
    assert classes("```javascript\nconst abc = 1\n```")["const"].startswith("code:keyword")
    assert classes("```nosuch\nimport abc\n```")["import"].startswith("code:keyword")


def test_tags_space_and_special_tokens() -> None:
    text = "<think> a\n\n"
    offsets = [(0, 0), (0, 7), (7, 9), (9, 11), (0, 0)]
    assert token_classes(text, offsets) == ["special", "tag", "prose", "space", "special"]


def test_every_connective_is_found() -> None:
    for phrases in CONNECTIVES.values():
        for phrase in phrases:
            text = f"{phrase.capitalize()} stop"
            assert token_classes(text, [(0, len(phrase))]) == ["connective"], phrase


@given(st.text(alphabet="a1+$`\\ \n.<é😀def():", max_size=50))
def test_every_token_of_any_text_has_one_known_class(text: str) -> None:
    offsets = [(i, i + 1) for i in range(len(text))]
    found = token_classes(text, offsets)
    assert len(found) == len(text)
    assert all(c in CLASSES or c.startswith("code:") for c in found)
