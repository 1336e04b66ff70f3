r"""Where the words of a text begin: the splitting expression of Qwen2, 2.5 and 3 and of Llama 3, on whole arrays.

    (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+

Every character has one of six classes. Whether a word begins at a character follows from its class and that of the
characters beside it, but for four cases that are few and are put right one by one: contractions, long numbers, and
white space that runs over several lines. Numbers are cut every three digits, whichever of ``\p{N}`` and
``\p{N}{1,3}`` the expression has.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

LETTER, DIGIT, OTHER, NEWLINE, SPACE, BLANK, BORDER, UNSURE = (1 << i for i in range(8))
"""``SPACE`` is the space itself, ``BLANK`` other white space that ends no line, ``BORDER`` the character 0, which
stands between texts, ``UNSURE`` a character whose class differs between versions of Unicode, or beyond 65,535."""
_SOLID, _BLANKS, _WHITE = LETTER | DIGIT | OTHER, SPACE | BLANK, NEWLINE | SPACE | BLANK
_JOINS = {
    LETTER: LETTER | OTHER | _BLANKS,
    DIGIT: DIGIT,
    OTHER: OTHER | SPACE,
    NEWLINE: OTHER | _WHITE,
    SPACE: _WHITE,
    BLANK: _WHITE,
}
"""The classes of the character before, with which a character of a class may share a word."""
_OWN_CLASS = {0: BORDER, ord("\n"): NEWLINE, ord("\r"): NEWLINE, ord(" "): SPACE}
_BLANK_UNITS = {9, 11, 12, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
_JOINS_TABLE = bytes(_JOINS.get(i, 0) for i in range(256))
_HIGH = 0x80
# which letters after an apostrophe are a contraction: by one character, and by two as a number of two bytes
_ONE_LETTER = np.isin(np.arange(1 << 8), [ord(a) for a in "stmd"])
_TWO_LETTERS = np.isin(np.arange(1 << 16), [ord(a) << 8 | ord(b) for a, b in ("re", "ve", "ll")])


def _class(unit: int) -> int:
    """The class of a UTF-16 unit."""
    if unit in _OWN_CLASS:
        return _OWN_CLASS[unit]
    now, then = unicodedata.category(chr(unit)), unicodedata.ucd_3_2_0.category(chr(unit))
    if {now, then} & {"Cn", "Cs", "Co"} or (now[0] != then[0] and {now[0], then[0]} & {"L", "N", "Z"}):
        return UNSURE
    return BLANK if unit in _BLANK_UNITS else {"L": LETTER, "N": DIGIT}.get(now[0], OTHER)


_ASCII_TABLE = bytes(_class(i) for i in range(0x80)).ljust(256, b"\0")
_classes = np.zeros(1 << 16, dtype=np.uint8)  # of every unit that was met, else 0


def classify(units: NDArray[np.uint16]) -> tuple[bytes, NDArray[np.uint8], NDArray[np.int64]]:
    """Of UTF-16 units ``[N]``: the ASCII characters as bytes (0x80 for any other), the classes uint8 ``[N]``, and the
    places int64 of those that are not ASCII."""
    ascii_only = np.minimum(units, _HIGH).astype(np.uint8)
    high = np.flatnonzero(ascii_only == _HIGH)
    low = ascii_only.tobytes()
    classes = np.frombuffer(bytearray(low).translate(_ASCII_TABLE), dtype=np.uint8)
    found = units[high]
    for unit in np.unique(found[_classes[found] == 0]).tolist():
        _classes[unit] = _class(unit)
    classes[high] = _classes[found]
    return low, classes, high


def word_starts(low: bytes, classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """int64 ``[W]``: where words begin, in texts with a border at the very beginning, at the very end and between
    any two; a border is a word. ``low`` and ``classes`` are what :func:`classify` gives."""
    joins = np.frombuffer(classes.tobytes().translate(_JOINS_TABLE), dtype=np.uint8)
    before, here, after = classes[:-2], classes[1:-1], classes[2:]
    joined = (joins[1:-1] & before) != 0
    letter, other_before = here == LETTER, before == OTHER
    # a sign joins the letters after it only when it is alone and no space is before it
    joined[1:] &= ~(letter[1:] & other_before[1:] & joined[:-1])
    blank = (here & _BLANKS) != 0
    newline_after = after == NEWLINE
    trailing = np.flatnonzero(joined & blank & newline_after) + 1
    # the last blank before something solid goes with it, and a line's first blank does not go with the line before
    joined &= ~(blank & (((after & _SOLID) != 0) | (before == NEWLINE)))
    starts = np.ones(len(classes), dtype=np.bool_)
    np.logical_not(joined, out=starts[1:-1])
    _cut_numbers(starts, classes)
    _cut_contractions(starts, low, classes)
    _join_blank_lines(starts, classes, trailing)
    _join_unsure(starts, classes)
    return np.flatnonzero(starts)


def _cut_numbers(starts: NDArray[np.bool_], classes: NDArray[np.uint8]) -> None:
    """Begins a word at every third digit of a run."""
    digit = classes == DIGIT
    fourth = np.flatnonzero(digit[:-3] & digit[1:-2] & digit[2:-1] & digit[3:]) + 3
    if len(fourth):
        index = np.arange(len(fourth))
        first_of_run = np.diff(fourth, prepend=0) != 1
        since = index - np.maximum.accumulate(np.where(first_of_run, index, 0))
        starts[fourth[since % 3 == 0]] = True


def _cut_contractions(starts: NDArray[np.bool_], low: bytes, classes: NDArray[np.uint8]) -> None:
    """Ends a word after 's, 't, 'm, 'd, 're, 've and 'll, in either case, where the apostrophe begins a word."""
    text = np.frombuffer(low, dtype=np.uint8)
    at = np.flatnonzero(text[:-2] == ord("'"))
    at = at[starts[at] & (classes[at + 1] == LETTER)]
    lower = text[at + 1].astype(np.int64) << 8 | text[at + 2] | 0x2020
    starts[at[_ONE_LETTER[lower >> 8]] + 2] = True
    starts[at[_TWO_LETTERS[lower]] + 3] = True


def _join_blank_lines(starts: NDArray[np.bool_], classes: NDArray[np.uint8], trailing: NDArray[np.int64]) -> None:
    """Lines of nothing but blanks are one word with the line ends around them, unless a sign took the line end
    before. ``trailing``: blanks before a line end that do not begin a word."""
    found = classes.tobytes() if len(trailing) else b""
    for last in trailing.tolist():
        at = last
        while found[at - 1] & _BLANKS:
            at -= 1
        if found[at - 1] == NEWLINE:
            line = at - 1
            while found[line - 1] == NEWLINE:
                line -= 1
            starts[at] = found[line - 1] == OTHER


def _join_unsure(starts: NDArray[np.bool_], classes: NDArray[np.uint8]) -> None:
    """Makes one word of an unsure character and what is around it, up to where words begin whatever its class is:
    where white space or a sign follows a letter or digit."""
    unsure = np.flatnonzero(classes == UNSURE)
    if len(unsure):
        before, here = classes[:-1], classes[1:]
        ends = ((before & (LETTER | DIGIT)) != 0) & ((here & (_WHITE | OTHER)) != 0)
        cuts = np.flatnonzero(ends | (before == BORDER) | (here == BORDER)) + 1
        after = np.searchsorted(cuts, unsure, side="right")
        for start, end in set(zip(cuts[after - 1].tolist(), cuts[after].tolist())):
            starts[start + 1 : end] = False
