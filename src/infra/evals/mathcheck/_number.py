"""Exact values of plainly written numbers: integers, decimals, fractions, percentages, money."""

from __future__ import annotations

import re
from fractions import Fraction

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = re.compile(rf"([+-]?)({_DIGITS})?(?:\.(\d+)?)?")
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac(?:\{([+-]?\d+)\}\{([+-]?\d+)\}|(\d)(\d)|\{(\d+)\}(\d)|(\d)\{(\d+)\})")
_SLASH = re.compile(r"([+-]?\d+)/([+-]?\d+)")
_MIXED = re.compile(r"([+-]?)(\d+)\\[dt]?frac(?:\{(\d+)\}\{(\d+)\}|(\d)(\d)|\{(\d+)\}(\d)|(\d)\{(\d+)\})")
_REPEATING = re.compile(
    r"([+-]?)(\d*)\.(\d*)(?:\\(?:overline|bar|overbar)(?:\{(\d+)\}|(\d))|\((\d+)\)|\\dot\{?(\d)\}?(?:(\d*)\\dot\{?(\d)\}?)?)"
)
_GOING_ON = re.compile(r"([+-]?)(\d*)\.(\d+)(?:\.\.\.|\\[lc]?dots|…)")
_MIXED_SLASH = re.compile(r"\s*([+-]?)\s*(\d+)\s+(\d+)\s*/\s*(\d+)\s*")
_POWER = re.compile(
    r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:[eE]|(?:\\times|\\cdot|×|\*|x)10(?:\^|\*\*))"
    r"(?:\{([+-]?\d{1,3})\}|([+-]?\d{1,3}))"
)
_DROP = re.compile(r"\\[,;:! ]|\{,\}|\\left|\\right|\s+|~")
_SPACED = re.compile(r"\d\s+\d+/\d|\d\s+\d+\s*$")  # two numbers side by side, not one
_GROUPS = re.compile(r"[+-]?\d{1,3}(?: \d{3})+")
MAX_DIGITS = 5_000
MAX_REPEATING = 100


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

    Reads ``-12``, ``1,234``, ``3.50``, ``.5``, ``\\frac{3}{4}``, ``3/4``, ``1\\frac12`` and ``1 1/2`` (mixed),
    ``0.1\\overline{6}``, ``0.(3)`` and ``0.333...`` (repeating), ``4.5e-4``, ``4.5\\times10^{-4}``, and a leading
    ``\\$``. Percentages are not read here: whether 50% is 0.5 depends on the other side.
    """
    if len(text) > MAX_DIGITS:
        return None
    mixed = _MIXED_SLASH.fullmatch(text.strip("$ ").replace("−", "-"))
    if mixed is not None and int(mixed.group(4)):
        value = int(mixed.group(2)) + Fraction(int(mixed.group(3)), int(mixed.group(4)))
        return -value if mixed.group(1) == "-" else value
    if _SPACED.search(text) and not _GROUPS.fullmatch(text.strip()):
        return None
    clean = tidy(text).removeprefix("\\$").removeprefix("$")
    clean = clean if clean.endswith("..") else clean.rstrip(".")
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
            sign, whole, head, *cycles = match.groups()
            cycle = "".join(c for c in cycles if c is not None)
            value = _repeating(whole, head, cycle)
        elif match := _GOING_ON.fullmatch(clean):
            sign, whole, digits = match.groups()
            cut = _cycle(digits)
            if cut is None:
                return None
            value = _repeating(whole, digits[: cut[0]], digits[cut[0] : cut[0] + cut[1]])
        elif match := _POWER.fullmatch(clean):
            return Fraction(match.group(1)) * Fraction(10) ** int(match.group(2) or match.group(3))
        elif match := _MIXED.fullmatch(clean):
            sign, whole, *parts = match.groups()
            top, bottom = (p for p in parts if p is not None)
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


def _repeating(whole: str, head: str, cycle: str) -> Fraction:
    start = Fraction((whole or "0") + "." + (head or "0"))
    return start + Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(head))


def _cycle(digits: str) -> tuple[int, int] | None:
    """Where the repeating part begins and how long it is, for digits that end in at least two repetitions of it."""
    if len(digits) > MAX_REPEATING:
        return None
    for head in range(len(digits)):
        for length in range(1, (len(digits) - head) // 2 + 1):
            tail = digits[head:]
            if all(tail[i] == tail[i % length] for i in range(len(tail))):
                return head, length
    return None
