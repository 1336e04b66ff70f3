"""A target's name is written and read in one way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.data import TargetName, is_whole
from infra.errors import InputError

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":#"), min_size=1)
NUMBERS = st.none() | st.integers(0, 10**6)


@given(name=NAMES, level=NUMBERS, fold=NUMBERS)
def test_what_is_written_is_read_back(name: str, level: int | None, fold: int | None) -> None:
    target = TargetName(name, level, fold)
    assert TargetName.parse(str(target)) == target
    assert is_whole(str(target)) == target.whole == (level is None and fold is None)


def test_the_written_form_is_that_of_columns() -> None:
    forms = {TargetName("math"): "math", TargetName("math", 3): "math:3", TargetName("math", fold=1): "math#1"}
    assert {str(t): t for t in forms} == {text: t for t, text in forms.items()}
    assert str(TargetName("math", 3, 1)) == "math:3#1" and str(TargetName("a b-c", 0)) == "a b-c:0"


@pytest.mark.parametrize("bad", ["", "math:", "math:x", "math#", ":3", "math:3#1#2", "#1", "math:-1"])
def test_what_is_no_target_is_refused(bad: str) -> None:
    with pytest.raises(InputError, match="no target"):
        TargetName.parse(bad)


@pytest.mark.parametrize("bad", ["", "math:algebra", "c#"])
def test_a_name_that_could_not_be_read_back_is_refused(bad: str) -> None:
    with pytest.raises(InputError, match="rename it"):
        TargetName(bad)
