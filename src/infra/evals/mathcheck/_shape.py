"""The shape of a cleaned answer: list, tuple, interval, matrix or vector."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree(?![a-zA-Z])")
_ARRAY = re.compile(r"\\begin\{([bBpvV]?matrix|smallmatrix|array)\}(?:\{[^{}]*\})?(.*?)\\end\{\1\}", re.DOTALL)


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
    if "\\{" in body:
        return None
    parts = [p.strip() for p in re.split(r"\\cup(?![a-z])| or ", body)]
    found = []
    for part in parts:
        one = _bracketed(part) or _inequality(part)
        if one is None:
            return None
        found.append(one)
    return found


def _bracketed(text: str) -> Interval | None:
    if len(text) > 2 and text[0] in "[(]" and text[-1] in "])[":
        ends = pieces(text[1:-1]) if ";" not in text else pieces(text[1:-1], ";")
        if len(ends) == 2 and all(ends):
            # ]a, b[ is the open interval (a, b)
            return Interval("(" if text[0] == "]" else text[0], ends[0], ends[1], ")" if text[-1] == "[" else text[-1])
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
    body = re.sub(r"^[A-Z]\s*=\s*", "", text.strip())
    if re.fullmatch(r"\[\s*\[.*\]\s*\]", body, re.DOTALL):
        rows = [bracketed(row) for row in pieces(body[1:-1])]
        return [row for row in rows if row is not None] if all(row is not None for row in rows) else None
    scaled = re.fullmatch(r"([^&]*?[^\s(&])\s*(?:\\cdot)?\s*(\\begin\{.*)", body, re.DOTALL)
    if scaled is not None and scaled.group(1) not in "([":
        inner = matrix(scaled.group(2))
        factor = f"({scaled.group(1)})" if scaled.group(1) != "-" else "(-1)"
        return [[f"{factor} \\cdot ({cell})" for cell in row] for row in inner] if inner is not None else None
    turned = re.search(r"\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?$", body)
    found = _ARRAY.fullmatch((body[: turned.start()] if turned else body).strip("() []"))
    if found is None or found.group(1) in ("vmatrix", "Vmatrix"):
        return None
    lines = [row.strip() for row in re.split(r"\\\\", found.group(2)) if row.strip() not in ("", "\\hline")]
    cells = [[cell.strip() for cell in row.split("&")] for row in lines]
    return [list(column) for column in zip(*cells)] if turned else cells


def bracketed(text: str) -> list[str] | None:
    """Members of ``[a, b, ...]``, or None."""
    body = text.strip()
    return pieces(body[1:-1]) if body.startswith("[") and body.endswith("]") else None


def collection(text: str) -> list[str] | None:
    """Members of a set in braces or of a list of solutions, or None for a single value. ``\\emptyset`` has none."""
    body = text.strip()
    if body.startswith("\\{") and body.endswith("\\}") and "\\cup" not in body:
        inner = body[2:-2].strip()
        return pieces(inner) if inner else []
    if body == "\\emptyset" or body == "\\{ \\}":
        return []
    parts = [q for p in pieces(body, ",;") for q in re.split(r"\s+(?:and|or)\s+|\s*\\(?:lor|vee)\s*", p)]
    parts = [re.sub(r"^(?:and|or)\s+", "", p.strip()) for p in parts if p.strip()]
    return parts if len(parts) > 1 else None


def tuple_of(text: str) -> list[str] | None:
    """Coordinates of ``(a, b, ...)`` or of a point ``P(a, b)``, or None, a left side such as ``(x,y) =`` taken off."""
    body = text.rsplit("=", 1)[-1].strip() if re.match(r"^(?:\([^()]*\)|[A-Z])\s*=", text) else text
    body = re.sub(r"^[A-Z]\s*(?=\()", "", body)
    if len(body) > 2 and body[0] == "(" and _closes_at_end(body):
        parts = pieces(body[1:-1], ",;")
        return parts if len(parts) > 1 else None
    return None


def _closes_at_end(text: str) -> bool:
    """Whether the bracket that opens ``text`` closes with its last character."""
    depth = 0
    for i, character in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if depth == 0:
            return i == len(text) - 1
    return False


def vector(text: str) -> list[str] | None:
    """Components of a vector: a column or row, angle brackets, ``[a, b, c]``, or multiples of i, j, k; else None."""
    body = re.sub(r"^(?:\\vec\s*\{?[a-zA-Z]\}?|[a-zA-Z])\s*=\s*", "", text.strip())
    rows = matrix(body)
    if rows is not None:
        if all(len(row) == 1 for row in rows):
            return [row[0] for row in rows]
        return rows[0] if len(rows) == 1 else None
    for left, right in (("\\langle", "\\rangle"), ("<", ">")):
        if body.startswith(left) and body.endswith(right):
            return pieces(body[len(left) : -len(right)])
    turned = re.sub(r"\^\s*\{?\s*(?:T|\\top)\s*\}?$", "", body)
    column = re.fullmatch(r"\\binom\s*\{([^{}]*)\}\s*\{([^{}]*)\}", body)
    if column is not None:
        return [column.group(1), column.group(2)]
    listed = bracketed(turned)
    if listed is not None and len(listed) > 1:
        return listed
    if turned != body:
        return tuple_of(turned)
    return _along_axes(body)


_AXIS = re.compile(r"\\(?:hat|vec|overrightarrow|widehat)\s*(?:\{\s*([ijk])\s*\}|([ijk])(?![a-zA-Z]))")


def _along_axes(text: str) -> list[str] | None:
    body = _AXIS.sub(lambda m: m.group(1) or m.group(2), text).replace(" ", "")
    if not re.search(r"[ijk]", body) or ("j" not in body and "k" not in body):
        return None
    found: dict[str, str] = {}
    for term in re.findall(r"[+-]?[^+-]+", body):
        match = re.fullmatch(r"([+-]?)(.*?)\{?([ijk])\}?", term)
        if match is None or match.group(3) in found or re.search(r"[a-z](?![a-z{])", match.group(2)):
            return None
        found[match.group(3)] = match.group(1).replace("+", "") + (match.group(2) or "1")
    return [found.get(axis, "0") for axis in ("ijk" if "k" in found else "ij")]


def without_degrees(text: str) -> str:
    """Degree signs taken off."""
    return _DEGREE.sub("", text).strip()
