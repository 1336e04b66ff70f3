"""Exact values of plainly written numbers: integers, decimals, fractions, percentages, money."""

from __future__ import annotations

import re
from fractions import Fraction

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = re.compile(rf"([+-]?)({_DIGITS})?(?:\.(\d+)?)?")
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac(?:\{([+-]?\d+)\}\{([+-]?\d+)\}|(\d)(\d)|\{(\d+)\}(\d)|(\d)\{(\d+)\})")
_SLASH = re.compile(r"([+-]?\d+)/([+-]?\d+)")
_MIXED = re.compile(r"([+-]?)(\d+)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_REPEATING = re.compile(r"([+-]?)(\d*)\.(\d*)\\overline\{(\d+)\}")
_DROP = re.compile(r"\\[,;:! ]|\{,\}|\\left|\\right|\s+|~")
MAX_DIGITS = 5_000


def tidy(text: str) -> str:
    """Spaces, thin spaces, dollar signs and pairs of brackets around the whole taken away."""
    out = text.strip().replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("−", "-")
    out = out.replace("{,}", ",").replace("\\!", "")
    out = _DROP.sub("", out)
    while len(out) > 1 and (out[0], out[-1]) in (("$", "$"), ("{", "}")) and _wraps(out):
        out = out[1:-1]
    return out


def _wraps(text: str) -> bool:
    if text[0] == "$":
        return "$" not in text[1:-1]
    depth = 0
    for i, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0 and i < len(text) - 1:
            return False
    return depth == 0


def exact_value(text: str) -> Fraction | None:
    """The exact value of a plainly written number, or None for anything else.

    Reads ``-12``, ``1,234``, ``3.50``, ``.5``, ``\\frac{3}{4}``, ``3/4``, ``1\\frac12`` (mixed), and a
    leading ``\\$``. Percentages are not read here: whether 50% is 0.5 depends on the other side.
    """
    if len(text) > MAX_DIGITS:
        return None
    clean = tidy(text).removeprefix("\\$").removeprefix("$").rstrip(".")
    for sign in ("-", "+"):
        if clean.startswith((sign + "\\$", sign + "$")):
            clean = sign + clean[1:].lstrip("\\$")
    return _read(clean)


def _read(clean: str) -> Fraction | None:
    try:
        if match := _DECIMAL.fullmatch(clean):
            sign, whole, part = match.groups()
            if whole is None and part is None:
                return None
            value = Fraction((whole or "0").replace(",", "") + "." + (part or "0"))
        elif match := _REPEATING.fullmatch(clean):
            sign, whole, head, cycle = match.groups()
            start = Fraction((whole or "0") + "." + (head or "0"))
            value = start + Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(head))
        elif match := _MIXED.fullmatch(clean):
            sign, whole, top, bottom = match.groups()
            value = int(whole) + Fraction(int(top), int(bottom))
        elif match := _FRACTION.fullmatch(clean):
            sign = match.group(1)
            top, bottom = (int(g) for g in match.groups()[1:] if g is not None)
            value = Fraction(top, bottom)
        elif match := _SLASH.fullmatch(clean):
            return Fraction(int(match.group(1)), int(match.group(2)))
        else:
            return None
    except (ZeroDivisionError, ValueError):
        return None
    return -value if sign == "-" else value
