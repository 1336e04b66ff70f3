"""Taking off what surrounds an answer: delimiters, fonts, colours, spacing, Unicode and typewriter spellings."""

from __future__ import annotations

import re

_TEXT_FONTS = (
    "text|textbf|textit|textrm|textsf|texttt|textsc|textmd|textup|textnormal|emph|mbox|hbox|mathrm|operatorname"
)
_MATH_FONTS = (
    "mathbf|mathit|mathsf|mathtt|mathnormal|boldsymbol|bm|bold|pmb|boxed|fbox|ensuremath|underline|mathbin|mathop|"
    "mathstrut"
)
_FONT = re.compile(rf"\\({_TEXT_FONTS}|{_MATH_FONTS})\*?\s*\{{")
_COLOURED = re.compile(r"\\(?:textcolor|color)\s*\{[^{}]*\}|\\color\s+[a-z]+(?![a-z])|\\color(?:red|blue|green)")
_INVISIBLE = re.compile(
    r"\\(?:[hv]?phantom|label|tag|[hv]space\*?|vskip|hskip)\s*\{[^{}]*\}|\\(?:mathstrut|strut|null)(?![a-zA-Z])"
)
_STYLE = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|limits|left\s*\.|right\s*\.|left|right|middle|[bB]igg?[lrm]?"
    r"|rm|bf|it|sf|tt|tiny|small|normalsize|large|Large|LARGE|huge|Huge|therefore|implies|Rightarrow|centering)(?![a-zA-Z])"
)
_SPACE = re.compile(
    r"(?<!\\)\\[,;:> ]|\\(?:q?quad|thinspace|enspace|medspace|thickspace)(?![a-zA-Z])|~|[\u00a0\u2000-\u200b\u202f]"
)
_FUNCTIONS = {
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "ln",
    "log",
    "lg",
    "exp",
    "gcd",
    "lcm",
    "min",
    "max",
    "det",
}
_UNICODE = {
    "−": "-",
    "–": "-",
    "‐": "-",
    "‑": "-",
    "×": r"\times ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "∙": r"\cdot ",
    "÷": "/",
    "π": r"\pi ",
    "θ": r"\theta ",
    "∞": r"\infty ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}",
    "…": r"\ldots ",
    "≈": r"\approx ",
    "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "’": "'",
    "′": "'",
    "″": "''",
    "“": '"',
    "”": '"',
    "∶": ":",
    "½": r"\frac{1}{2}",
    "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}",
    "⅖": r"\frac{2}{5}",
    "⅗": r"\frac{3}{5}",
    "⅘": r"\frac{4}{5}",
    "⅙": r"\frac{1}{6}",
    "⅚": r"\frac{5}{6}",
    "⅛": r"\frac{1}{8}",
    "⅜": r"\frac{3}{8}",
    "⅝": r"\frac{5}{8}",
    "⅞": r"\frac{7}{8}",
    "º": "°",
    "￥": "¥",
    "，": ",",
    "（": "(",
    "）": ")",
    "⌊": r"\lfloor ",
    "⌋": r"\rfloor ",
    "⌈": r"\lceil ",
    "⌉": r"\rceil ",
}
_COMMANDS = {
    "\\leqslant": r"\le",
    "\\geqslant": r"\ge",
    "\\leq": r"\le",
    "\\geq": r"\ge",
    "\\lt": "<",
    "\\gt": ">",
    "<=": r"\le ",
    ">=": r"\ge ",
    "\\neq": r"\ne",
    "!=": r"\ne ",
    "\\dfrac": "\\frac",
    "\\tfrac": "\\frac",
    "\\cfrac": "\\frac",
    "\\nicefrac": "\\frac",
    "\\sfrac": "\\frac",
    "\\lbrace": "\\{",
    "\\rbrace": "\\}",
    "\\lbrack": "[",
    "\\rbrack": "]",
    "\\varnothing": "\\emptyset",
    "\\cdotp": "\\cdot",
    "{,}": ",",
    "{:}": ":",
    "\\colon": ":",
    "\\mid": "|",
    "\\lvert": "|",
    "\\rvert": "|",
    "\\vert": "|",
    "\\dbinom": "\\binom",
    "\\tbinom": "\\binom",
    "\\dots": r"\ldots",
    "\\cdots": r"\ldots",
    "\\degree": r"^\circ",
    "°": r"^\circ",
    "+/-": r"\pm ",
    "+-": r"\pm ",
    "\\imath": "i",
    "\\jmath": "j",
    "\\div": "/",
    "\\textdegree": r"^\circ",
    "\\pounds": "£",
    "\\mathdollar": "$",
    "\\textdollar": "$",
    "\\euro": "€",
    "\\land": r"\wedge",
    "\\lor": r"\vee",
    "\\smallsetminus": r"\setminus",
    "\\backslash": r"\setminus",
    "\\bar": r"\overline",
    "\\approxeq": r"\approx",
    "\\simeq": r"\approx",
    "\\doteq": "=",
    "\\cr": r"\\",
    "\\to": r"\rightarrow",
}
_COMMAND = re.compile(
    "|".join(
        re.escape(k) + (r"(?![a-zA-Z])" if k[-1].isalpha() else "") for k in sorted(_COMMANDS, key=len, reverse=True)
    )
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_ANNOUNCED = re.compile(
    r"^(?:so|thus|hence|therefore|then)?,?\s*(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|value|result|solution)\s*"
    r"(?:is|are|:|=)\s*:?\s*",
    re.IGNORECASE,
)
_NAMED = re.compile(r"^(?:the\s+)?(?:year|number|integer|digit|value)\s+(?=-?\d+$)", re.IGNORECASE)
_DELIMITERS = (
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("{", "}"),
    ('"', '"'),
    ("``", "''"),
    ("`", "`"),
)


def clean(text: str) -> str:
    """The answer without delimiters, fonts, colours, invisible text, spacing commands and a closing full stop.

    Fonts that set words leave a space around them, so that ``5\\text{cm}`` becomes ``5 cm``.
    """
    out = "".join(_UNICODE.get(c, c) for c in text.strip().replace("\\$", "¤").replace("\\%", "%"))
    out = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+", lambda m: f"^{{{m.group().translate(_RAISED)}}}", out)
    out = re.sub(r"[₀₁₂₃₄₅₆₇₈₉]+", lambda m: f"_{{{m.group().translate(_LOWERED)}}}", out)
    out = re.sub(r"√\s*(\d+(?:\.\d+)?|[a-zA-Z])", r"\\sqrt{\1}", out)
    out = re.sub(r"√\s*\(([^()]*)\)|(?<![\\a-zA-Z])sqrt\s*\(([^()]*)\)", _root, out)
    out = re.sub(r"(?<!\\)sqrt\s*(\d+)", r"\\sqrt{\1}", out.replace("√", "\\sqrt "))
    out = re.sub(r"\\overline\s*\{\s*([A-Z]{2})\s*\}", r"\1", _INVISIBLE.sub("", out))
    out = unwrap(_COLOURED.sub("", out))
    out = re.sub(r"\\\\\s*\[[^\]]*\]", r"\\\\", out)
    out = _COMMAND.sub(lambda m: _COMMANDS[m.group()], out)
    out = re.sub(r"\\quad|\\qquad", r"\\quad ", out)
    if out.count("=") > 1:
        out = re.sub(r"(?<=[^,;\s])\s*\\quad\s*(?=[^,;\s])", ", ", out)
    out = _SPACE.sub(" ", _STYLE.sub("", out.replace("\\!", "")))
    nothing = r"\{\}(?=\s*(?:\\|$))|^\{\}" if "\\frac" in out else r"(?<![a-zA-Z}])\{\}|(?<=\})\{\}"
    out = re.sub(nothing, "", out)
    out = re.sub(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])", r"\\pi ", out)
    out = re.sub(r"\s+", " ", out.replace("¤", "$")).strip()
    return _bare(out)


def _bare(out: str) -> str:
    while True:
        before = out
        out = out.strip(" \n\t*")
        out = re.sub(r"(?<!\\)\\$|\\\\$", "", out)
        out = out.removesuffix(".") if not out.endswith("..") else out
        out = out.removesuffix(",").removesuffix(";")
        out = re.sub(r"^(?:\\approx|=|:)\s*", "", out)
        out = _NAMED.sub("", _ANNOUNCED.sub("", out))
        for left, right in _DELIMITERS:
            if out.startswith(left) and out.endswith(right) and len(out) > len(left) + len(right):
                inner = out[len(left) : -len(right)]
                if balanced(inner) if left == "{" else left not in inner:
                    out = inner
        if out == before:
            return out


def _root(match: re.Match[str]) -> str:
    return f"\\sqrt{{{match.group(1) or match.group(2)}}}"


def unwrap(text: str) -> str:
    """Font commands replaced by what they hold; words get a space on either side."""
    while (match := _FONT.search(text)) is not None:
        end = closing(text, match.end() - 1)
        if end is None:
            return text
        inner = text[match.end() : end]
        if inner in _FUNCTIONS:
            inner = "\\" + inner + " "
        elif match.group(1) in _TEXT_FONTS.split("|") and re.search("[a-zA-Z]", inner):
            inner = f" {inner} "
        elif match.group(1) not in ("text", "mbox", "textbf") and len(inner) > 1 and "\\" in inner:
            inner = f"{{{inner}}}"
        text = text[: match.start()] + inner + text[end + 1 :]
    return text


def closing(text: str, start: int) -> int | None:
    """Index of the brace that closes the one at ``start``, or None."""
    depth, i = 0, start
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return i
        i += 1
    return None


def balanced(text: str) -> bool:
    """Whether braces close in order."""
    depth = 0
    for i, character in enumerate(text):
        if i and text[i - 1] == "\\":
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0
