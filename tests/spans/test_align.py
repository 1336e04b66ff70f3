"""Characters to tokens and sums over them, against loops that follow the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import InputError
from infra.spans import spans_to_tokens, steps, sum_over, token_positions


@st.composite
def texts_with_tokens(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]]]:
    """A text and the offsets of tokens that tile it, as a byte-level tokenizer gives them."""
    text = draw(st.text(alphabet="ab. \n", min_size=1, max_size=40))
    cuts = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=12))})
    return text, list(itertools.pairwise(cuts))


@given(texts_with_tokens())
def test_each_token_belongs_to_the_step_of_its_first_non_space_character(case) -> None:
    text, offsets = case
    spans = steps(text)
    ranges = spans_to_tokens(spans, offsets, text=text)
    owner = {t: s for s, (t0, t1) in enumerate(ranges) for t in range(t0, t1)}
    assert sorted(owner) == list(range(len(offsets)))
    for t, (start, end) in enumerate(offsets):
        solid = next((i for i in range(start, end) if not text[i].isspace()), start)
        a, b = spans[owner[t]]
        assert a <= solid < b


@given(texts_with_tokens(), st.integers(0, 7))
def test_a_shift_moves_the_spans_and_nothing_else(case, shift: int) -> None:
    text, offsets = case
    spans = steps(text)
    moved = [(a + shift, b + shift) for a, b in offsets]
    assert spans_to_tokens(spans, moved, shift, " " * shift + text) == spans_to_tokens(spans, offsets, 0, text)


def test_special_tokens_and_gaps_belong_to_no_span() -> None:
    offsets = [(0, 0), (0, 4), (4, 8), (8, 12), (0, 0)]
    assert spans_to_tokens([(8, 12), (0, 4)], offsets) == [(3, 4), (1, 2)]


def test_pieces_of_one_character_stay_together() -> None:
    offsets = [(0, 1), (0, 1), (0, 1), (1, 2)]
    assert spans_to_tokens([(0, 1), (1, 2)], offsets) == [(0, 3), (3, 4)]
    assert spans_to_tokens([(0, 1), (1, 2)], [(0, 1), (1, 1), (1, 2)]) == [(0, 2), (2, 3)]


def test_a_span_inside_a_token_or_beyond_the_cut_is_empty() -> None:
    assert spans_to_tokens([(0, 2), (2, 4), (4, 9)], [(0, 4)], text="abcd") == [(0, 1), (1, 1), (1, 1)]
    assert spans_to_tokens([], [(0, 4)]) == []


def test_without_the_text_leading_spaces_are_placed_right_too() -> None:
    offsets = [(0, 3), (3, 8), (8, 12)]
    assert token_positions(offsets).tolist() == [1, 5, 10]
    assert spans_to_tokens([(0, 4), (4, 12)], offsets) == [(0, 1), (1, 3)]


@pytest.mark.parametrize("spans", [[(0, 4), (3, 6)], [(4, 2)]])
def test_spans_that_overlap_or_run_backwards_are_refused(spans) -> None:
    with pytest.raises(InputError, match="overlap or run backwards"):
        spans_to_tokens(spans, [(0, 4), (4, 8)])


@given(st.integers(0, 3), st.integers(0, 9), st.data())
def test_sums_follow_the_definition(k: int, t: int, data) -> None:
    scores = np.array(data.draw(st.lists(st.floats(-1e3, 1e3, width=32), min_size=k * t, max_size=k * t)))
    scores = scores.reshape(k, t).astype(np.float32)
    ends = st.integers(0, t)
    ranges = [tuple(sorted(pair)) for pair in data.draw(st.lists(st.tuples(ends, ends), max_size=6))]
    sums = sum_over(scores, ranges)
    expected = [[sum(float(x) for x in row[a:b]) for a, b in ranges] for row in scores]
    assert sums.shape == (k, len(ranges)) and sums.dtype == np.float64
    np.testing.assert_allclose(sums, np.array(expected).reshape(sums.shape), atol=1e-10)


def test_one_bad_token_spoils_only_its_own_step() -> None:
    sums = sum_over([[1.0, np.nan, 2.0, 3.0]], [(0, 1), (1, 2), (2, 4), (4, 4)])
    assert np.isnan(sums[0, 1]) and sums[0, [0, 2, 3]].tolist() == [1.0, 5.0, 0.0]


@pytest.mark.parametrize(("scores", "ranges"), [([[1.0]], [(0, 2)]), ([1.0], [(0, 1)]), ([[1.0]], [(-1, 1)])])
def test_impossible_sums_are_refused(scores, ranges) -> None:
    with pytest.raises(InputError):
        sum_over(scores, ranges)
