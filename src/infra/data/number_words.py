"""English words for small numbers, as answers and steps of reasoning are written with them."""

from __future__ import annotations

_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_TEENS = ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

NUMBER_WORDS = {
    **{word: n for n, word in enumerate([*_ONES, *_TEENS])},
    **{word: 20 + 10 * n for n, word in enumerate(_TENS)},
}
"""Word -> value, for the words that stand alone: zero to twenty, and the tens below a hundred."""
