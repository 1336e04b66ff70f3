"""Answers without a box: what "the answer is", ``####`` or a heading announces, and where such a value ends."""

from __future__ import annotations

import re

from . import _words

LAST = 50  # announcements that are looked at, from the end
_VERB = (
    r"(?:is|are|was|were|must be|should be|would be|will be|has to be|comes? (?:out )?(?:to|as)|turns out to be|equals?"
    r"|becomes|:|=|→)"
)
_NOUN = (
    r"(?:answers?|(?:correct|right|best)\s+(?:option|choice|answer choice)|final (?:result|value)"
    r"|(?:option|choice)(?=\s+is\s+\(?[A-Z]\b))"
)
_ABOUT_NOUN = (
    r"(?:\s+(?:to|of|for|in|that|which)\s+[^.:=\n]{1,80}?|\s*\([^().\n]{1,40}\)"
    r"|,\s*(?:then|therefore|thus|finally|of course),)?"
)
_SAID = re.compile(
    rf"\b{_NOUN}{_ABOUT_NOUN}\s*(?:\*\*|__)?\s*(?:(?<=\W){_VERB}(?![a-z])|:)"
    r"|答案(?:是|为|：|:)|####(?!#)(?!\s*(?:the\s+)?(?:final\s+)?(?:answer|solution|step)\b)",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]*)?(?:\*\*|__)?[ \t]*(?:\d+\.[ \t]*)?(?:the[ \t]+)?(?:final[ \t]+|correct[ \t]+)?"
    r"answer[ \t]*:?[ \t]*(?:\*\*|__)?[ \t]*:?[ \t]*(?:\n[ \t]*[-=]{3,}[ \t]*)?$",
    re.IGNORECASE | re.MULTILINE,
)
_LEAD = re.compile(
    r"(?:\s|\*\*(?=\s)|:|=(?!=)|(?:therefore|thus|hence|so|then|simply|just|exactly|clearly|indeed|now|equal to"
    r"|given by|found to be|(?:expressed|written) as)\b,?)*",
    re.IGNORECASE,
)
_BOLD = re.compile(r"(?<![\w)])(?:\*\*|__)|(?:\*\*|__)(?![\w(])|(?<!`)`(?!`)")
_MATH = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"), ("\\begin{", "\\end{"))
_CLAUSE = re.compile(
    r",?\s+\(?(?:which|because|since|as (?!a |an )|whereas|whose|where(?=\s+[a-z]{2})"
    r"|so(?= )|that is|i\.e|e\.g|altogether|in total|overall|in all"
    r"|thus|hence|therefore|after|when we|if we|by the|and (?:this|that|we|it|so|the)|but|not)\b",
    re.IGNORECASE,
)
_COMMA = re.compile(
    r"[,;:]\s+(?!(?:and|or)\s+(?:[-\d$\\(]|[a-z]\b))(?=[a-z]{2,})|;\s+(?=[A-Z][a-z])|\s+(?:--|—|–)\s+|—"
)
_STOP = re.compile(r"(?<=[\d$)}\]*%!?])\.(?=\s|$)|[.!?](?=\s+[A-Z(\"'\\$]|\s*$)|(?<=[a-z])[.!?](?=\s+[A-Z])")
_REMARK = re.compile(r"\s\((?!mod\b|base\b|in base\b)(?=[^()]*[a-z]{2})[^()]*\)?\.?$", re.IGNORECASE)
_ABOUT = re.compile(
    r"(?:indeed\s+|also\s+|always\s+|therefore\s+|then\s+)?(?:correct|right|wrong|incorrect|consistent|reasonable|confirmed|verified|checked|valid|"
    r"unique|in|given|obtained|found|expected|required|as|what|that|this|not|n't|asked|rounded|called|independent|"
    r"already|based|reached|supported|clear|here|above|below|for|to|from|on|at|of|it|we|you|i|an?(?=\s+[a-z]{2})|the\s+(?:same|one|only)|"
    r"(?:expressed|written)(?!\s+as))\b",
    re.IGNORECASE,
)
_WORD_VALUES = re.compile(
    r"(?:yes|no|true|false|none|undefined|(?:positive |negative |minus )?infinity|no (?:real )?solutions?"
    r"|infinitely many.*|odd|even|even and odd|does not exist|dne|all real numbers"
    r"|\(?[A-Za-z]\)?[.)]?|(?:option|choice)\s+\(?[A-Z]\)?)",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"^\W*(?:so|altogether|in total|in all|consequently|finally|overall|as a result)\b|∴|\b(?:therefore|thus|hence)\b",
    re.IGNORECASE,
)
_ATOM = re.compile(
    r"\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\)|(?<!\\)\$(?!\d+(?:[.,]\d+)*(?:\s|\.|$))[^$\n]+\$|[$€£]?-?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?"
)
_NEGATED = re.compile(r"\b(?:not|no|cannot|never|neither|nor|without)\b|n't\b", re.IGNORECASE)


def announced(text: str) -> str | None:
    """The value that the last announcement names: one with digits, symbols or a known word before any other text.

    Sentences that only speak about the answer ("this answer is correct") announce nothing.
    """
    text = _plain(text)
    starts = sorted({m.end() for m in _SAID.finditer(text)} | {m.end() for m in _HEADING.finditer(text)})
    words = None
    for start in reversed(starts[-LAST:]):
        value = _value_at(text, start)
        if value is None or _ABOUT.match(value):
            continue
        if is_value(value):
            return value
        words = words or value
    return words


def concluded(text: str) -> str | None:
    """A last line that is nothing but a value, or the one value of a last sentence such as "So she has 5 left."."""
    body = _plain(text).strip()
    display = re.search(r"(?:\$\$(.+?)\$\$|\\\[(.+?)\\\])[.\s]*$", body[-2000:], re.DOTALL)
    if display is not None:
        return (display.group(1) or display.group(2)).strip()
    line = _BOLD.sub("", body.rsplit("\n", 1)[-1][-2000:]).strip()
    alone = line.removesuffix(".").strip()
    if _ATOM.fullmatch(alone) or _WORD_VALUES.fullmatch(alone):
        return alone
    if re.fullmatch(r"[A-Za-z]\s*=\s*[^=]+", alone) and is_value(alone):
        return alone
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z$\\])", line)[-1]
    if not _CONCLUDES.search(sentence) or _NEGATED.search(sentence):
        return None
    values = _ATOM.findall(sentence)
    if len(values) == 1:
        return str(values[0])
    if "=" in sentence and "$" not in sentence.rsplit("=", 1)[1].strip("$. "):
        return _ended(sentence.rsplit("=", 1)[1].replace("$", "").strip()) or None
    return None


def _plain(text: str) -> str:
    """Runs of spaces and empty lines made short, for patterns whose time grows with them."""
    return re.sub(r"\n\s*\n", "\n\n", re.sub(r"[^\S\n]+", " ", text))


def is_value(text: str) -> bool:
    """Whether a text can be compared by value: digits, formulas, choices, numbers in words and words for values."""
    return (
        re.search(r"[\d\\$=∞πØ∅]", text) is not None
        or _WORD_VALUES.fullmatch(text) is not None
        or _words.value(text) is not None
    )


def _value_at(text: str, start: int) -> str | None:
    lead = _LEAD.match(text, start)
    start = lead.end() if lead is not None else start
    if lead is not None and lead.group().count("\n") > 3:
        return None
    return _ended(text[start : start + 4000]) or None


def _ended(rest: str) -> str:
    """The beginning of ``rest`` up to where its value ends: a formula is never cut, prose after a value is."""
    rest = _BOLD.sub("", rest[:4000])
    kept, i, begun = [], 0, False
    while i < len(rest):
        formula = _formula(rest, i)
        if formula:
            kept.append(formula)
            i += len(formula)
            begun = True
            continue
        plain = re.compile(r"[^$\\]+|[$\\]").match(rest, i)
        assert plain is not None
        piece, stopped = _until_stop(plain.group(), rest, i, begun or any(c.isdigit() for c in "".join(kept)))
        kept.append(piece)
        if stopped:
            break
        i = plain.end()
        begun = begun or re.search(r"\d", piece) is not None
    out = _REMARK.sub("", "".join(kept).strip())
    return out.strip().removesuffix(".").strip()


def _until_stop(piece: str, rest: str, at: int, begun: bool) -> tuple[str, bool]:
    """``piece`` of prose cut at the end of its sentence or, once a value has begun, at the clause after it."""
    ends = [len(piece)]
    newline = piece.find("\n")
    if newline >= 0:
        ends.append(newline)
    for match in _STOP.finditer(rest, at, min(at + len(piece) + 3, len(rest))):
        if match.start() - at < len(piece):
            ends.append(match.start() - at + (match.group() == "!"))
            break
    clause = _CLAUSE.search(piece)
    if clause is not None and (begun or re.search(r"\w", piece[: clause.start()])):
        ends.append(clause.start())
    comma = next((m for m in _COMMA.finditer(piece) if begun or re.search(r"\d", piece[: m.start()])), None)
    if comma is not None:
        ends.append(comma.start())
    return piece[: min(ends)], min(ends) < len(piece)


def _formula(text: str, i: int) -> str:
    """The formula that begins at ``i`` with its delimiters, or ''."""
    for left, right in _MATH:
        if not text.startswith(left, i):
            continue
        if left == "$" and re.match(r"\$\d[\d,]*(?:\.\d+)?(?=[\s.,;)]|$)(?![^\n$]*\$(?!\d))", text[i:]):
            return ""  # money
        end = text.find(right, i + len(left))
        if end >= 0 and (left != "$" or "\n\n" not in text[i:end]):
            stop = text.find("}", end) + 1 if left == "\\begin{" else end + len(right)
            return text[i:stop] if stop > 0 else ""
    return ""
