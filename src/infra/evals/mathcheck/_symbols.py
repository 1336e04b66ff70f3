"""LaTeX read into sympy expressions."""

from __future__ import annotations

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


def degrees_in_trig(text: str) -> str:
    """``\\sin 30^\\circ`` with its angle in radians."""
    return _notation.rewrite(text) if "circ" in text else text
