"""What may stand beside an answer without being it: conditions ("for all x", "n >= 1") and names of bound variables."""

from __future__ import annotations

import re

_RELATION = r"(?:\\(?:in|ge|le|ne|notin|equiv)(?![a-z])|[<>]|≠)"
_SETS = r"(?:\\mathbb\s*\{?\s*[RZNQC]\s*\}?|\\mathbf\s*\{?\s*[RZNQC]\s*\}?|[RZNQ](?![a-zA-Z]))"
_SETS += r"(?:\s*[\^_]\s*\{?[+*-]?\d?\}?)*"
_NAMES = r"(?:[a-zA-Z]|\\[a-z]+)(?:_\s*\{?\w\}?)?(?:\s*,\s*[a-zA-Z])*"
_KIND = (
    r"(?:(?:any|an?|all|some|every|each|is|are|the|arbitrary|positive|negative|nonnegative|non-negative|nonzero|natural|real|whole)\s+)*"
    r"(?:integers?|numbers?|reals?|naturals?|constants?|real constants?|positive)"
)
_STATED = (
    rf"(?:{_NAMES}\s*{_RELATION}[^,;]+?(?:,\s*{_NAMES}\s*{_RELATION}[^,;]+?)*"
    rf"|[^,;=]+?{_RELATION}\s*[a-zA-Z](?:\s*{_RELATION}[^,;]+)?"
    rf"|{_NAMES}\s*=\s*-?\d+\s*,\s*-?\d+\s*(?:,\s*-?\d+\s*)*,?\s*(?:\\ldots|\.\.\.).*|{_NAMES}\s+(?:is\s+)?{_KIND})"
)
_WORDED = (
    r"(?:for|where|with|when|whenever|if|given|given that|provided|such that|as long as|assuming)\s+\S.*"
    r"|\\forall\s*\S.*"
)
_TAIL = (
    re.compile(rf"^(?P<main>.*?\S)\s*[,;:]?\s*\(\s*(?P<condition>{_STATED}|{_WORDED})\s*\)$"),
    re.compile(rf"^(?P<main>.*?\S)\s*[,;:]?\s*(?<![a-zA-Z\\])(?P<condition>{_WORDED})$"),
    re.compile(rf"^(?P<main>.*?\S)\s*[,;:]\s*(?P<condition>{_STATED})$"),
    re.compile(rf"^(?P<main>.*?\S)\s+(?P<condition>{_NAMES}\s*\\in\s*{_SETS})$"),
)
_BOUND = (
    re.compile(
        r"\\(?:sum|prod|bigcup|bigcap|lim|max|min|sup|inf)\s*_\s*\{?\s*([a-zA-Z])\s*(?:=|\\in|\\rightarrow|\\to)"
    ),
    re.compile(r"\\int\s*_[^$]*?d\s*([a-z])(?![a-zA-Z])"),
    re.compile(r"^[a-zA-Z](?:\^\s*\{?-1\}?)?\s*\(\s*([a-z])\s*\)\s*="),
    re.compile(r"^[a-zA-Z]_\s*\{?\s*([a-z])\s*\}?\s*="),
)
_WHOLE = (
    re.compile(r"(?<![a-zA-Z\\])([a-zA-Z])\s*\\in\s*(?:\\mathbb\s*\{?\s*[ZN]|\\mathbf\s*\{?\s*[ZN]|[ZN](?![a-zA-Z]))"),
    re.compile(r"(?<![a-zA-Z\\])([a-z])\s+(?:is\s+)?(?:(?:an?|any|some|every|each|arbitrary)\s+)+(?:\w+\s+)?integer"),
    re.compile(r"integers?\s+([a-z])(?![a-zA-Z])"),
)
_TOKEN = re.compile(r"\\[a-zA-Z]+|[a-zA-Z]+")
_WORDS = {
    "for",
    "all",
    "any",
    "and",
    "or",
    "if",
    "is",
    "an",
    "in",
    "the",
    "sin",
    "cos",
    "tan",
    "log",
    "ln",
    "exp",
    "mod",
}


def split(text: str) -> tuple[str, list[str]]:
    """An answer and the conditions at its end: ``a_n = 2^n, n \\ge 1`` gives ``a_n = 2^n`` and ``n \\ge 1``.

    An inequality is an answer of its own, never a condition of what stands before it, and a condition has to speak of
    a name in the answer.
    """
    main, conditions = text, []
    while (found := _tail(main)) is not None:
        main, condition = found
        conditions.append(condition)
    return main, conditions


def _tail(text: str) -> tuple[str, str] | None:
    for pattern in _TAIL:
        match = pattern.match(text)
        if match is None:
            continue
        main, condition = match.group("main").rstrip(" ,;:"), match.group("condition").strip()
        if re.search(r"[<>]|\\(?:le|ge|ne|in|cup)(?![a-z])", re.sub(r"\\(?:sum|prod)\s*_\s*\{[^{}]*\}", "", main)):
            continue
        bracketed = (
            main.count("(") == main.count(")")
            and main.count("{") == main.count("}")
            and main.count("[") == main.count("]")
        )
        if (
            main
            and bracketed
            and (letters(main) & letters(condition) or re.match(r"\\forall|for (?:all|any|every)", condition))
        ):
            return main, condition
    return None


def letters(text: str) -> set[str]:
    """Names of one letter in a text, words and commands aside."""
    return {c for word in _TOKEN.findall(text) if _is_product(word) for c in word}


def _is_product(word: str) -> bool:
    return word[0] != "\\" and len(word) <= 3 and word not in _WORDS


def whole_names(text: str) -> list[str]:
    """Names that a text declares to be whole numbers (``k \\in \\mathbb{Z}``)."""
    return list(dict.fromkeys(m for pattern in _WHOLE for m in pattern.findall(text)))


def bound_names(text: str) -> list[str]:
    """Names whose choice says nothing: of sums, integrals, limits, arguments of functions, indices, whole numbers."""
    found = [m for pattern in _BOUND for m in pattern.findall(text)]
    return list(dict.fromkeys([*found, *whole_names(text)]))


def renamed(gold: str, answer: str) -> str:
    """The answer with its bound names as the reference has them, where each text has equally many.

    ``\\frac{\\pi}{4} + n\\pi`` without a word about ``n`` counts too where the reference has one whole number.
    """
    theirs, mine = bound_names(gold), bound_names(answer)
    if not mine and len(theirs) == 1 and whole_names(gold):
        mine = sorted(letters(answer) - letters(gold))
    if not theirs and not mine and "\\pi" in gold:  # the whole number of a periodic solution
        theirs, mine = (sorted((letters(a) - letters(b)) & set("nkm")) for a, b in ((gold, answer), (answer, gold)))
    if theirs == mine or len(theirs) != len(mine):
        return answer
    if (set(theirs) - set(mine)) & letters(answer):
        return answer  # the new name would be mistaken for another that the answer uses
    table = str.maketrans(dict(zip(mine, theirs)))
    return _TOKEN.sub(lambda m: m.group().translate(table) if _is_product(m.group()) else m.group(), answer)
