"""Equality of expressions by sympy: exact where it can be shown, else by value at random points to 30 digits."""

from __future__ import annotations

import random
import re
from functools import lru_cache
from typing import Any

from . import _notation

_COMMAND = re.compile(r"\\[a-zA-Z]+|[a-zA-Z]+")
_NAMES = {
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "log",
    "ln",
    "exp",
    "lg",
    "mod",
    "gcd",
    "lcm",
    "min",
    "max",
    "pi",
    "sqrt",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "pmatrix",
    "bmatrix",
    "vmatrix",
    "matrix",
    "array",
}
POINTS = 4
DIGITS = 40


def spaced(text: str) -> str:
    """Products of single letters written apart (``3ab`` as ``3 a b``), so that they are not read as one name."""

    def apart(match: re.Match[str]) -> str:
        word = match.group()
        return word if word.startswith("\\") or word in _NAMES or len(word) == 1 else " ".join(word)

    return _COMMAND.sub(apart, text)


@lru_cache(maxsize=4096)  # a reference is read once for all answers to it
def read(text: str) -> Any:
    """A sympy expression from LaTeX, with decimals as exact fractions, or None."""
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    # no units (`a b` would be one) and no search for a number somewhere inside: all of the text or nothing
    normal = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    whole = LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normal)
    body = spaced(_notation.rewrite(text))
    found = parse(f"${body}$", [whole], parsing_timeout=None, fallback_mode="no_fallback")
    return exact(found[0]) if found else None


def exact(expression: Any) -> Any:
    """Every floating-point number replaced by the fraction its digits say, ``i`` and ``e`` by the constants, and
    symbols by plain ones, so that two readings share theirs."""
    import sympy

    if not isinstance(expression, sympy.Basic):
        return expression
    known = {"i": sympy.I, "e": sympy.E}
    new = {s: known.get(str(s), sympy.Symbol(str(s))) for s in expression.free_symbols}
    new |= {f: sympy.Rational(str(f)) for f in expression.atoms(sympy.Float)}
    return expression.xreplace(new) if new else expression


def same_value(gold: Any, answer: Any) -> bool | None:
    """Whether two scalar expressions are equal for all values of their symbols: True as far as random points can tell,
    False where a point tells them apart, None where they have no value to compare."""
    import sympy

    if not isinstance(gold, sympy.Expr) or not isinstance(answer, sympy.Expr):
        return None
    if isinstance(gold, sympy.MatrixExpr) or isinstance(answer, sympy.MatrixExpr):
        return None
    if gold == answer:
        return True
    difference = gold - answer
    if difference.has(sympy.Sum, sympy.Product, sympy.Integral):
        difference = difference.doit()
    if difference.is_Rational:
        return bool(difference == 0)
    names = sorted(difference.free_symbols, key=str)
    if len(names) > 12:
        return None
    rng = random.Random(20250519)
    for _ in range(POINTS if names else 1):
        point = {name: sympy.Rational(rng.randint(101, 997), rng.randint(101, 499)) for name in names}
        scale = _number(gold.subs(point))
        if scale is None:
            return None
        size = float(sympy.log(abs(scale) + 1, 10).evalf(5))
        here = _number(difference.subs(point), 400 + int(size))
        # the difference itself is known to many digits, so the bound does not grow with large values
        if here is None:
            return None
        if abs(here) > 10**-25 * (min(1, abs(scale)) or 1):
            return False
    return True


def degrees_in_trig(text: str) -> str:
    """``\\sin 30^\\circ`` with its angle in radians."""
    return _notation.rewrite(text) if "circ" in text else text


def proportional(gold: Any, answer: Any) -> bool:
    """Whether ``gold = 0`` and ``answer = 0`` are one equation up to a constant factor other than zero."""
    import sympy

    if not isinstance(gold, sympy.Expr) or not isinstance(answer, sympy.Expr) or answer == 0 or gold == 0:
        return False
    if gold.free_symbols != answer.free_symbols or not gold.free_symbols:
        return False
    point = {name: sympy.Rational(3 + 2 * i, 7) for i, name in enumerate(sorted(gold.free_symbols, key=str))}
    below, above = _number(answer.subs(point)), _number(gold.subs(point))
    if below is None or above is None or below == 0 or above == 0:
        return False
    ratio = sympy.nsimplify(gold.subs(point) / answer.subs(point))
    return bool(same_value(gold, ratio * answer))


def _number(expression: Any, most: int = 400) -> Any:
    """A complex number to 40 digits, worked out with up to ``most``; or None."""
    import sympy

    value = sympy.N(expression, DIGITS, maxn=most)
    if value.free_symbols or not (value.is_number and value.is_finite):
        return None
    return value
