"""The shape of a written answer: what surrounds it taken off, then list, tuple, interval, matrix, ratio or word."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FONTS = (
    r"text|textbf|textit|textrm|textsf|mathrm|mathbf|mathit|mathsf|mathtt|boldsymbol|bm|mbox"
    r"|operatorname|boxed|fbox"
)
_WRAPPED = re.compile(rf"\\(?:{_FONTS})\s*\{{([^{{}}]*)\}}")
_COLOURED = re.compile(r"\\(?:textcolor|color)\s*\{[^{}]*\}")
_INVISIBLE = re.compile(r"\\(?:[hv]?phantom|label|tag)\s*\{[^{}]*\}")
_STYLE = re.compile(r"\\(?:displaystyle|textstyle|scriptstyle|limits|left|right|[bB]igg?[lr]?)(?![a-zA-Z])")
_SPACE = re.compile(r"(?<!\\)\\[,;:!> ]|\\q?quad(?![a-zA-Z])|~|\u00a0")
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree(?![a-zA-Z])")
_ARRAY = re.compile(r"\\begin\{([bBpvV]?matrix|smallmatrix|array)\}(?:\{[^{}]*\})?(.*?)\\end\{\1\}", re.DOTALL)
_SYMBOLS = {
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ",
    "∪": r"\cup ", "√": r"\sqrt ", "\\leq": r"\le", "\\geq": r"\ge", "\\leqslant": r"\le", "\\geqslant": r"\ge",
    "<=": r"\le ", ">=": r"\ge ", "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\\lbrace": "\\{",
    "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]", "\\varnothing": "\\emptyset", "\\cdotp": "\\cdot",
    "{,}": ",", "\\mid": "|", "\\lvert": "|", "\\rvert": "|", "\\vert": "|",
}  # fmt: skip
_SYMBOL = re.compile(
    "|".join(
        re.escape(k) + (r"(?![a-zA-Z])" if k[-1].isalpha() else "") for k in sorted(_SYMBOLS, key=len, reverse=True)
    )
)
_CURRENCY = "$€£¥₹"


def clean(text: str) -> str:
    """The answer without delimiters, fonts, colours, invisible text, spacing commands and a closing full stop."""
    out = text.strip()
    out = _SYMBOL.sub(lambda m: _SYMBOLS[m.group()], out.replace("\\$", "¤").replace("\\%", "%"))
    out = _INVISIBLE.sub("", _COLOURED.sub("", out))
    out = _SPACE.sub(" ", _STYLE.sub("", out))
    for _ in range(4):
        out = _WRAPPED.sub(r"\1", out)
    out = out.replace("¤", "$")
    out = re.sub(r"\s+", " ", out).strip()
    while True:
        before = out
        out = out.strip(" \n\t*")
        out = re.sub(r"(?<!\\)\\$", "", out)
        out = out.removesuffix(".") if not out.endswith("..") else out
        out = out.removeprefix("≈").removeprefix("\\approx").strip()
        for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("{", "}")):
            if out.startswith(left) and out.endswith(right) and len(out) > len(left) + len(right):
                inner = out[len(left) : -len(right)]
                if left not in inner and (left != "{" or "}" not in inner or balanced(inner)):
                    out = inner
        if out == before:
            return out


def balanced(text: str) -> bool:
    """Whether braces close in order."""
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


def pieces(text: str, separators: str = ",") -> list[str]:
    """Split at separators outside every bracket; a comma between groups of three digits is kept in its number."""
    out, depth, start = [], 0, 0
    i = 0
    while i < len(text):
        character = text[i]
        if character == "\\" and i + 1 < len(text):
            depth += {"{": 1, "}": -1}.get(text[i + 1], 0)
            i += 2
            continue
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if depth == 0 and character in separators and not _thousands(text, i):
            out.append(text[start:i].strip())
            start = i + 1
        i += 1
    return [*out, text[start:].strip()]


def _thousands(text: str, i: int) -> bool:
    # "1,000" is one number; "1, 000" and "2,3,500" are not
    return (
        text[i] == ","
        and re.search(r"(?<![\d,])\d{1,3}(?:,\d{3})*$", text[:i]) is not None
        and re.match(r"\d{3}(?!\d)", text[i + 1 :]) is not None
    )


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval; ends are written values."""

    left: str
    low: str
    high: str
    right: str


_RELATION = re.compile(r"(\\le(?![a-z])|\\ge(?![a-z])|<|>)")
_VARIABLE = re.compile(r"[a-zA-Z]|\\[a-z]+")
_MEMBER = re.compile(r"^[a-zA-Z]\s*\\in\s*")


def intervals(text: str) -> list[Interval] | None:
    """Intervals of a union or an inequality in one variable, or None. ``(2, 4)`` alone counts as one too."""
    body = _MEMBER.sub("", text)
    parts = [p.strip() for p in re.split(r"\\cup(?![a-z])| or ", body)]
    found = []
    for part in parts:
        one = _bracketed(part) or _inequality(part)
        if one is None:
            return None
        found.append(one)
    return found


def _bracketed(text: str) -> Interval | None:
    if len(text) > 2 and text[0] in "[(" and text[-1] in "])":
        ends = pieces(text[1:-1])
        if len(ends) == 2:
            return Interval(text[0], ends[0], ends[1], text[-1])
    return None


def _inequality(text: str) -> Interval | None:
    parts = [p.strip() for p in _RELATION.split(text)]
    if len(parts) == 3:
        left, sign, right = parts
        if _VARIABLE.fullmatch(left):
            low = "(" if sign == ">" else "["
            high = ")" if sign == "<" else "]"
            if sign in (">", "\\ge"):
                return Interval(low, right, "\\infty", ")")
            return Interval("(", "-\\infty", right, high)
        if _VARIABLE.fullmatch(right):
            flipped = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}[sign]
            return _inequality(f"{right} {flipped} {left}")
    if len(parts) == 5 and _VARIABLE.fullmatch(parts[2]):
        low, first, _, second, high = parts
        if {first, second} <= {"<", "\\le"}:
            return Interval("(" if first == "<" else "[", low, high, ")" if second == "<" else "]")
        if {first, second} <= {">", "\\ge"}:
            return Interval("(" if second == ">" else "[", high, low, ")" if first == ">" else "]")
    return None


def matrix(text: str) -> list[list[str]] | None:
    """Rows of a bracketed matrix or vector, or None. Determinants (``vmatrix``) are values, not matrices."""
    found = _ARRAY.fullmatch(text.strip("() []"))
    if found is None or found.group(1) in ("vmatrix", "Vmatrix"):
        return None
    rows = [row.strip() for row in re.split(r"\\\\", found.group(2)) if row.strip() not in ("", "\\hline")]
    return [[cell.strip() for cell in row.split("&")] for row in rows]


def collection(text: str) -> list[str] | None:
    """Members of a set in braces or of a list of solutions, or None for a single value. ``\\emptyset`` has none."""
    body = text.strip()
    if body.startswith("\\{") and body.endswith("\\}"):
        inner = body[2:-2].strip()
        return pieces(inner) if inner else []
    if body == "\\emptyset" or body == "\\{ \\}":
        return []
    parts = [q for p in pieces(body, ",;") for q in re.split(r"\s+(?:and|or)\s+|\s*\\(?:lor|vee)\s*", p)]
    parts = [re.sub(r"^(?:and|or)\s+", "", p.strip()) for p in parts if p.strip()]
    return parts if len(parts) > 1 else None


def tuple_of(text: str) -> list[str] | None:
    """Coordinates of ``(a, b, ...)``, or None. A left side such as ``(x,y) =`` is taken off."""
    body = text.rsplit("=", 1)[-1].strip() if re.match(r"^\([^()]*\)\s*=", text) else text
    if len(body) > 2 and body[0] == "(" and body[-1] == ")":
        parts = pieces(body[1:-1])
        return parts if len(parts) > 1 else None
    return None


def strip_currency(text: str) -> str:
    """Currency signs at the front (after a sign too) and back taken off."""
    sign = "-" if text.startswith("-") else ""
    return sign + text.removeprefix("-").strip().lstrip(_CURRENCY).rstrip(_CURRENCY).strip()


def without_degrees(text: str) -> str:
    """Degree signs taken off."""
    return _DEGREE.sub("", text).strip()
