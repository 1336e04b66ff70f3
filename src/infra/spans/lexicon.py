"""Discourse connectives, our own list, in the four top classes of the Penn Discourse TreeBank.

(PDTB-3 annotation manual, Webber et al. 2019: Temporal, Contingency, Comparison, Expansion), plus the
self-talk of reasoning traces ("wait", "hmm"), which that newswire scheme has no class for.
"""

from __future__ import annotations

import re

CONNECTIVES: dict[str, tuple[str, ...]] = {
    "temporal": (
        "after",
        "afterwards",
        "before",
        "finally",
        "first",
        "firstly",
        "last",
        "lastly",
        "later",
        "meanwhile",
        "next",
        "now",
        "once",
        "second",
        "secondly",
        "third",
        "thirdly",
        "then",
        "until",
        "when",
        "whenever",
        "while",
        "to begin",
        "to start",
        "from here",
        "at this point",
        "in the end",
    ),
    "contingency": (
        "accordingly",
        "as a result",
        "because",
        "consequently",
        "for this reason",
        "given that",
        "hence",
        "if",
        "in order to",
        "in that case",
        "it follows that",
        "otherwise",
        "provided that",
        "since",
        "so",
        "so that",
        "therefore",
        "this gives",
        "this means",
        "thus",
        "unless",
        "which means",
        "due to",
        "assuming",
        "suppose",
    ),
    "comparison": (
        "although",
        "but",
        "by contrast",
        "conversely",
        "despite",
        "even though",
        "however",
        "in contrast",
        "instead",
        "nevertheless",
        "nonetheless",
        "on the contrary",
        "on the other hand",
        "rather",
        "still",
        "though",
        "whereas",
        "yet",
    ),
    "expansion": (
        "additionally",
        "also",
        "alternatively",
        "and",
        "besides",
        "equivalently",
        "for example",
        "for instance",
        "furthermore",
        "i.e.",
        "e.g.",
        "in addition",
        "in fact",
        "in other words",
        "in particular",
        "indeed",
        "likewise",
        "moreover",
        "namely",
        "or",
        "overall",
        "similarly",
        "specifically",
        "that is",
        "in summary",
        "to summarize",
        "another way",
    ),
    "self_talk": (
        "actually",
        "ah",
        "alright",
        "hmm",
        "hold on",
        "let me see",
        "let's see",
        "oh",
        "okay",
        "ok",
        "oops",
        "right",
        "wait",
        "well",
        "verify",
        "check",
        "double-check",
        "let me check",
        "let me verify",
    ),
}

_PHRASES = list(dict.fromkeys(phrase for phrases in CONNECTIVES.values() for phrase in phrases))


def _pattern(phrases: list[str]) -> str:
    longest_first = sorted(phrases, key=lambda p: (-len(p), p))
    return "|".join(re.escape(p).replace(r"\ ", r"\s+").replace("'", "['’]") for p in longest_first)


CONNECTIVE = re.compile(rf"(?<![\w-])(?:{_pattern(_PHRASES)})(?![\w-])", re.IGNORECASE)

# Connectives that open a new move of reasoning when they stand first in a sentence ("and", "or" never do).
_NEVER = {"and", "or", "if", "when", "that is", "right", "last", "e.g.", "i.e."}
_OPENING = [p for p in _PHRASES if p not in _NEVER]
OPENING = re.compile(rf"[\s*_#>-]*(?:{_pattern(_OPENING)})(?![\w-])", re.IGNORECASE)
