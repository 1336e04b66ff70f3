"""Spellings of operations that the LaTeX reader does not know, rewritten into ones that it does."""

from __future__ import annotations

import re

_TRIG = r"\\(?:sin|cos|tan|cot|sec|csc)"
_DEGREES = re.compile(
    rf"({_TRIG}(?:\s*\^\s*\{{?\d\}}?)?)\s*[({{]?\s*(\d+(?:\.\d+)?)\s*\^\s*\{{?\s*\\circ\s*\}}?\s*[)}}]?"
)
_CHOOSE = (
    re.compile(r"\{\s*([^{}]+?)\s*\\choose\s*([^{}]+?)\s*\}"),
    re.compile(r"^\s*([^{}]+?)\s*\\choose\s*([^{}]+?)\s*$"),
    re.compile(r"(?:\{\})?[_^]\s*\{?(\w+)\}?\s*C\s*_\s*\{?(\w+)\}?"),
    re.compile(r"(?<![a-zA-Z])C\s*\(\s*(\w+)\s*,\s*(\w+)\s*\)"),
    re.compile(r"\\binom\s*\{([^{}]+)\}\s*(\w)"),
    re.compile(r"\\binom\s*(\w)\s*\{([^{}]+)\}"),
    re.compile(r"\\binom(?:\s+(?=[a-zA-Z])|\s*(?=\d))(\w)\s*(\w)"),
)
_LOWER_UPPER = re.compile(r"(?<![a-zA-Z])C\s*_\s*\{?(\w+)\}?\s*\^\s*\{?(\w+)\}?")
_PERMUTE = re.compile(r"(?:\{\})?[_^]\s*\{?(\w+)\}?\s*P\s*_\s*\{?(\w+)\}?|(?<![a-zA-Z])P\s*\(\s*(\w+)\s*,\s*(\w+)\s*\)")


def rewrite(text: str) -> str:
    """The same expression with binomials, powers, products, degrees and logarithms in the reader's spelling."""
    out = text
    for pattern in _CHOOSE:
        out = pattern.sub(r"\\binom{\1}{\2}", out)
    out = _LOWER_UPPER.sub(r"\\binom{\1}{\2}", out)
    out = _PERMUTE.sub(_permutations, out)
    out = re.sub(r"(?<=[\d)}])\s*\\binom", r" \\cdot \\binom", out).replace("**", "^")
    out = re.sub(r"\^\s*([-+]\d+)", r"^{\1}", out)
    out = re.sub(r"\^\s*(\d{2,})", r"^{\1}", out)
    out = re.sub(r"(?<=[\d}\])a-zA-Z])\s*\*\s*(?=[\\\d{(\[a-zA-Z-])", r" \\cdot ", out)
    out = re.sub(r"(?<=\d)\s*x\s*(?=10\s*\^)", r" \\times ", out)
    out = re.sub(r"(?<![\da-zA-Z.])(\d+(?:\.\d+)?)[eE]([-+]?\d+)(?![\da-zA-Z.])", r"\1 \\cdot 10^{\2}", out)
    out = _DEGREES.sub(r"\1(\\frac{\2 \\pi}{180})", out)
    turn = r"(?:\\cis|\bcis)(?![a-zA-Z])\s*"
    out = re.sub(turn + r"\(?\s*(\d+)\s*\^\s*\{?\\circ\}?\)?", r"e^{i \\frac{\1 \\pi}{180}}", out)
    out = re.sub(turn + r"(?:\(([^()]*)\)|(\\frac\s*\{[^{}]*\}\s*\{[^{}]*\}))", _cis, out)
    out = re.sub(r"\\frac\s*(\\[a-zA-Z]+)\s*(\d)", r"\\frac{\1}{\2}", out)
    out = re.sub(r"\\lg(?![a-zA-Z])", r"\\log_{10}", out)
    out = re.sub(r"\\log\s*_\s*\{?\s*e\s*\}?", r"\\ln", out)
    out = re.sub(r"(?<![\\a-zA-Z])abs\s*\(([^()]*)\)", r"|\1|", out)
    out = re.sub(r"(?<![\\a-zA-Z])(arcsin|arccos|arctan|sin|cos|tan|ln|log|exp)(?=\s*[({])", r"\\\1", out)
    out = re.sub(r"(\d+)\s*\\(?:bmod|mod)\s*(\d+)", lambda m: str(int(m[1]) % max(int(m[2]), 1)), out)
    return re.sub(r"(?<!\d)(\d{1,3})!!", _double_factorial, out)


def _permutations(match: re.Match[str]) -> str:
    n, k = (g for g in match.groups() if g is not None)
    return f"\\frac{{({n})!}}{{({n}-{k})!}}"


def _cis(match: re.Match[str]) -> str:
    return f"e^{{i {match.group(1) or match.group(2)}}}"


def _double_factorial(match: re.Match[str]) -> str:
    product, n = 1, int(match.group(1))
    while n > 1:
        product, n = product * n, n - 2
    return str(product)
