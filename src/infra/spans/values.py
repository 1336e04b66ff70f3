"""Values in text: the numbers of a step, the answer of a trace, and whether a step arrives at it."""

from __future__ import annotations

import re

from infra.data.number_words import NUMBER_WORDS
from infra.spans import cues


def stated_answer(text: str) -> str:
    """The answer a trace itself gives: the first answer tag, else the last box, else the last "answer is"; or
    ''."""
    tag = cues.ANSWER_TAG.search(text)
    if tag is not None:
        return _unbox(tag[1])
    if "\\boxed" in text:
        return _unbox(text[text.rfind("\\boxed") :])
    said = [m[1] or m[2] or "" for m in cues.ANSWER_SAID.finditer(text)]
    return said[-1].strip(" .*$") if said else ""


def numbers_in(body: str) -> list[str]:
    return [n.replace(",", "") for n in cues.NUMBER.findall(body)]


def number_words_in(body: str) -> list[str]:
    return [str(NUMBER_WORDS[w.lower()]) for w in cues.NUMBER_WORD.findall(body)]


_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_ASIDE = re.compile(r"(?<!\\)\([^()]*\)\W*$")
_DROPPED = re.compile(r"[\s$,{}]|\\(?:left|right|text|mathrm|!|,|;|:|%)|°|\.0+(?!\d)")


def normal(value: str) -> str:
    """A value without layout: spaces, dollars, braces and thousands commas gone, fractions as ``a/b``."""
    return _DROPPED.sub("", _FRACTION.sub(r"\1/\2", value)).rstrip(".;:").lower()


def _unbox(value: str) -> str:
    """The content of a ``\\boxed{...}`` that opens ``value``, else ``value``."""
    at = value.find("\\boxed{")
    if at < 0:
        return value
    depth, begin = 1, at + len("\\boxed{")
    for i in range(begin, len(value)):
        depth += (value[i] == "{") - (value[i] == "}")
        if depth == 0:
            return value[begin:i]
    return value[begin:]


def mentions(body: str, target: str) -> bool:
    """Whether ``target`` (normalised) stands anywhere in ``body`` as a value of its own."""
    if not target or target not in body:
        return False
    return re.search(rf"(?<![\w.]){re.escape(target)}(?!\w|\.\d)", body) is not None


def arrives_at(body: str, target: str) -> bool:
    """Whether ``target`` (normalised) is the last value that ``body`` states, asides in brackets left out."""
    if not target:
        return False
    plain = normal(_ASIDE.sub("", body))
    at = plain.rfind(target)
    if at < 0:
        return False
    before, after = plain[at - 1 : at] if at else "", plain[at + len(target) :]
    if before.isdigit() or before == "." or (before.isalpha() and target[0].isalpha()):
        return False
    return not any(c.isdigit() for c in after) and not (after[:1].isalpha() and target[-1].isalpha())
