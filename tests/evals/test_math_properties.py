"""Equality of answers against independent oracles: exact fractions, sympy, values at points of both signs."""

from __future__ import annotations

import cmath
import math
import random
from collections.abc import Callable
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.evals.mathcheck import grade_many
from infra.evals.mathcheck._equality import same_curve, same_family, same_value
from infra.evals.mathcheck._grade import grade
from infra.evals.mathcheck._qualifiers import split

x, y = sympy.symbols("x y")

# LaTeX and the same function of a real number in Python; None where it has no real value
FUNCTIONS: list[tuple[str, Callable[[float], float]]] = [
    ("x", lambda t: t),
    ("|x|", abs),
    ("-x", lambda t: -t),
    ("x^2", lambda t: t * t),
    ("x|x|", lambda t: t * abs(t)),
    (r"\sqrt{x^2}", abs),
    (r"\sqrt{x^4}", lambda t: t * t),
    (r"\sqrt[3]{x^3}", lambda t: t),
    (r"x\sqrt{x^2}", lambda t: t * abs(t)),
    (r"\frac{x^2}{|x|}", abs),
    (r"\ln(x^2)", lambda t: math.log(t * t)),
    (r"2\ln|x|", lambda t: 2 * math.log(abs(t))),
    (r"\ln|x|", lambda t: math.log(abs(t))),
    (r"\cos x", math.cos),
    (r"\cos|x|", math.cos),
    (r"|\cos x|", lambda t: abs(math.cos(t))),
    (r"\sqrt{1-\sin^2 x}", lambda t: abs(math.cos(t))),
    (r"\sin x", math.sin),
    (r"\sin|x|", lambda t: math.sin(abs(t))),
    (r"\arctan x", math.atan),
    (r"\arctan|x|", lambda t: math.atan(abs(t))),
    ("e^{|x|}", lambda t: math.exp(abs(t))),
    ("e^x", math.exp),
    (r"\frac{|x|}{x}", lambda t: math.copysign(1, t)),
    ("1", lambda t: 1.0),
    (r"\frac{x}{|x|}", lambda t: math.copysign(1, t)),
]
POINTS = [-7.3, -2.2, -1.4, -0.6, 0.3, 0.9, 1.7, 5.1]


def test_functions_are_equal_exactly_where_their_values_are_at_points_of_both_signs() -> None:
    pairs = [(a, b) for a in FUNCTIONS for b in FUNCTIONS]
    for (gold, f), (answer, g) in pairs:
        same = all(math.isclose(f(t), g(t), rel_tol=1e-9, abs_tol=1e-9) for t in POINTS)
        assert (grade(gold, answer) == "correct") == same, (gold, answer)


def test_the_domain_of_the_reference_decides() -> None:
    root, log = sympy.sqrt(x) ** 2, 2 * sympy.log(x)
    assert same_value(root, x) and same_value(log, sympy.log(x**2)) and not same_value(sympy.log(x**2), log)
    assert same_value(sympy.sqrt(x) * sympy.sqrt(y), sympy.sqrt(x * y)) is True
    assert same_value(sympy.sqrt(sympy.Abs(x)), sympy.sqrt(x)) is False
    assert same_value(sympy.sqrt(-1 - x**2), sympy.I * sympy.sqrt(1 + x**2)) is True  # nowhere real


@given(st.integers(-9, 9), st.integers(1, 9), st.integers(-9, 9), st.integers(1, 9))
@settings(deadline=None, max_examples=25)
def test_complex_numbers_agree_with_python(a: int, b: int, c: int, d: int) -> None:
    product = complex(a, b) * complex(c, d)
    gold = f"({a}+{b}i)({c}+{d}i)".replace("+-", "-")
    right, wrong = (f"{int(product.real)}{int(im):+d}i" for im in (product.imag, product.imag + 1))
    assert grade(gold, right) == "correct" and grade(gold, wrong) == "wrong"
    angle = cmath.phase(complex(a, b))
    assert math.isclose(abs(complex(a, b)) * math.cos(angle), a, abs_tol=1e-9)


@given(st.integers(0, 99), st.integers(0, 98), st.integers(1, 99), st.booleans())
@settings(deadline=None, max_examples=40)
def test_mixed_numbers_are_their_fractions(whole: int, top: int, bottom: int, minus: bool) -> None:
    top = top % bottom
    value = (whole + Fraction(top, bottom)) * (-1 if minus else 1)
    sign = "-" if minus else ""
    for written in (rf"{sign}{whole}\frac{{{top}}}{{{bottom}}}", f"{sign}{whole} {top}/{bottom}"):
        assert grade(f"{value.numerator}/{value.denominator}", written) == "correct"
        other = value + Fraction(1, bottom)
        assert grade(f"{other.numerator}/{other.denominator}", written) == "wrong"


@given(st.integers(-(10**12), 10**12))
@settings(deadline=None, max_examples=40)
def test_thousands_separators_do_not_matter(n: int) -> None:
    for written in (f"{n:,}", f"{n:,}".replace(",", "{,}"), f"{n:,}".replace(",", r"\,"), f"{n}.0", f"{n:,}.00"):
        assert grade(str(n), written) == "correct" and grade(str(n + 1), written) == "wrong"


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 23), st.integers(0, 59))
@settings(deadline=None, max_examples=60)
def test_clock_times_are_equal_up_to_the_half_of_the_day_and_never_as_ratios(h: int, m: int, k: int, n: int) -> None:
    same = (h * 60 + m - k * 60 - n) % 720 == 0
    known = {h > 12 or h == 0, k > 12 or k == 0} == {True}
    expected = (h, m) == (k, n) if known else same
    assert (grade(f"{h}:{m:02}", f"{k}:{n:02}") == "correct") == expected


@given(st.integers(1, 60), st.integers(1, 9), st.integers(2, 9))
@settings(deadline=None, max_examples=40)
def test_ratios_are_equal_up_to_a_factor(a: int, b: int, factor: int) -> None:
    assert grade(f"{a}:{b}", f"{a * factor * 10}:{b * factor * 10}") == "correct"
    assert grade(f"{a}:{b}", f"{a * factor * 10 + 1}:{b * factor * 10}") == "wrong"


@given(st.integers(-20, 20), st.integers(1, 30), st.sampled_from("[("), st.sampled_from(")]"), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_intervals_are_inequalities(low: int, width: int, left: str, right: str, other: int) -> None:
    high = low + width
    below, above = {"[": r"\le", "(": "<"}[left], {"]": r"\le", ")": "<"}[right]
    interval = f"{left}{low},{high}{right}"
    assert grade(interval, f"{low} {below} x {above} {high}") == "correct"
    assert grade(interval, f"{low} {below} x {above} {high + 1}") == "wrong"
    flipped = ("(" if left == "[" else "[") + interval[1:]
    assert grade(interval, flipped) == "wrong"


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=5, unique=True), st.randoms())
@settings(deadline=None, max_examples=40)
def test_sets_have_no_order_and_tuples_have_one(members: list[int], rng: random.Random) -> None:
    mixed = members[:]
    rng.shuffle(mixed)
    first, second = (", ".join(map(str, m)) for m in (members, mixed))
    assert grade(rf"\{{{first}\}}", rf"\{{{second}\}}") == "correct"
    assert (grade(f"({first})", f"({second})") == "correct") == (members == mixed)
    assert grade(rf"\{{{first}\}}", rf"\{{{first}, 99\}}") == "wrong"


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(1, 5), st.integers(2, 4))
@settings(deadline=None, max_examples=8)
def test_a_line_is_one_line_in_every_form(a: int, b: int, c: int, factor: int) -> None:
    line = c * y - a * x - b
    solved = (y, (a * x + b) / sympy.Integer(c))
    if a:
        assert same_curve(line, sympy.expand(factor * line), solved)
        assert same_curve(line, line / (x**2 + 1), solved)
        assert not same_curve(line, line * x, solved, None) and not same_curve(line, line + 1, solved, None)


@given(st.integers(-6, 6), st.integers(1, 6), st.integers(-6, 6), st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_families_are_equal_exactly_where_their_members_are(a: int, b: int, c: int, d: int) -> None:
    k = sympy.Symbol("k")
    members = [{start + step * n for n in range(-60, 61)} for start, step in ((a, b), (c, d))]
    near = [{v for v in m if abs(v) < 40} for m in members]
    assert same_family(a + b * k, c + d * k, "k") == (near[0] == near[1])


@pytest.mark.parametrize(
    ("text", "main", "conditions"),
    [
        ("a_n=2^n, n \\ge 1", "a_n=2^n", ["n \\ge 1"]),
        ("f(x)=2x for all x", "f(x)=2x", ["for all x"]),
        ("k\\pi, k \\in \\mathbb{Z}", "k\\pi", ["k \\in \\mathbb{Z}"]),
        ("\\frac{1}{x} (x \\ne 0)", "\\frac{1}{x}", ["x \\ne 0"]),
        ("2^n where n is a positive integer", "2^n", ["where n is a positive integer"]),
        # answers of their own
        ("x > 2, x \\ne 3", "x > 2, x \\ne 3", []),
        ("(1, 2)", "(1, 2)", []),
        ("x = 1, y > 2", "x = 1, y > 2", []),
        ("\\{x | x > 2\\}", "\\{x | x > 2\\}", []),
        ("1 < x < 2", "1 < x < 2", []),
        ("3, 4", "3, 4", []),
    ],
)
def test_conditions_are_told_from_answers(text: str, main: str, conditions: list[str]) -> None:
    assert split(text) == (main, conditions)


@given(st.text(alphabet="xy12+-=<>(){}[]\\,.:|^_ anforlintegd∈", max_size=40))
@settings(deadline=None, max_examples=150)
def test_any_text_equals_itself_or_cannot_be_read(text: str) -> None:
    assert grade(text, text) in ("correct", "ungradable") and isinstance(split(text), tuple)


def test_the_face_takes_any_two_texts() -> None:
    odd = ["", " ", "\ud800", "\\", "$$", "{" * 40, "\\boxed{", "\x00", "9" * 6000, "\\frac{1}{0}"]
    found = grade_many([(gold, f"\\boxed{{{answer}}}") for gold in odd for answer in odd])
    assert {v.outcome for v in found} <= {"correct", "wrong", "no_answer", "ungradable", "timeout"}
