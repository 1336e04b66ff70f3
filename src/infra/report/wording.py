"""Numbers as a reader sees them: few digits, a real minus sign, accuracies in points."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

MINUS = "−"


def is_number(value: Any) -> bool:
    """True for a finite int or float (numpy's included), False for None, NaN, text and booleans."""
    if value is None or isinstance(value, (bool, str)):
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def number(value: Any, digits: int = 3) -> str:
    """``digits`` significant digits, powers of ten when very small or large: ``−0.0123``, ``4.2×10⁻⁵``; '–'
    for none.
    """
    if not is_number(value):
        return "–"
    x = float(value)
    if x.is_integer() and abs(x) < 1e6:
        return (MINUS if x < 0 else "") + str(abs(int(x)))
    exponent = math.floor(math.log10(abs(x)))
    if -4 <= exponent < 6:
        text = f"{abs(x):.{max(0, digits - 1 - exponent)}f}"
    else:
        text = f"{abs(x) / 10.0**exponent:.{digits - 1}f}×10{superscript(exponent)}"
    return (MINUS if x < 0 else "") + text


def superscript(exponent: int) -> str:
    """An integer in superscript digits."""
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def signed(value: Any, digits: int = 3) -> str:
    """As :func:`number`, with a plus sign on positive values."""
    text = number(value, digits)
    return "+" + text if is_number(value) and float(value) > 0 else text


def points(fraction: Any, sign: bool = True) -> str:
    """A fraction as percentage points with one decimal: 0.012 -> '+1.2'."""
    if not is_number(fraction):
        return "–"
    x = round(100 * float(fraction), 1)
    return ("+" if sign and x > 0 else MINUS if x < 0 else "") + f"{abs(x):.1f}"


def percent(fraction: Any) -> str:
    """A fraction as a percentage with one decimal."""
    return "–" if not is_number(fraction) else f"{100 * float(fraction):.1f}%"


def count(value: Any) -> str:
    """A whole number with thin separators: 12 345."""
    return "–" if not is_number(value) else f"{int(value):,}".replace(",", "\u2009")


def listing(words: Iterable[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    items = list(words)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def count_of(n: Any, noun: str) -> str:
    """'1 seed', '3 seeds'."""
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"


def set_name(name: str) -> str:
    """How a training set (an arm of the experiment) is written."""
    return {"sft": "original data", "base": "base model"}.get(name, name.replace("-swap", " swap"))


def contrast_name(name: str) -> str:
    """'flip - same-difficulty-swap' as 'flip minus same-difficulty swap'."""
    parts = re.split(rf" (?:-|vs|{MINUS}) ", name)
    return " minus ".join(set_name(part.strip()) for part in parts)


def clean(text: object) -> str:
    """Text that XML can hold: no control characters, no surrogates."""
    return "".join(
        c if c in "\t\n" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff") else "\ufffd"
        for c in str(text)
    )
