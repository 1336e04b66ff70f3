"""Measured quantities: a value with a unit, several units together, clock times and dates."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction

from . import _words
from ._number import exact_value

Dimension = tuple[tuple[str, int], ...]


def _table() -> dict[str, tuple[str, Fraction]]:
    found: dict[str, tuple[str, Fraction]] = {}

    def add(dimension: str, factor: Fraction | int | str, names: str) -> None:
        for name in names.split():
            found[name] = (dimension, Fraction(factor))

    prefixes = (("k", "kilo", "1000"), ("c", "centi", "1/100"), ("m", "milli", "1/1000"), ("", "", "1"))
    for short, long, factor in prefixes:
        value = Fraction(factor)
        add("length", value, f"{short}m {long}meter {long}meters {long}metre {long}metres")
        add("mass", value / 1000, f"{short}g {long}gram {long}grams")
        add("volume", value, f"{short}L {short}l {long}liter {long}liters {long}litre {long}litres")
    add("length", "0.0254", "in inch inches")
    add("length", "0.3048", "ft foot feet")
    add("length", "0.9144", "yd yds yard yards")
    add("length", "1609.344", "mi mile miles")
    add("mass", "0.45359237", "lb lbs pound pounds")
    add("mass", Fraction("0.45359237") / 16, "oz ounce ounces")
    add("mass", 1000, "tonne tonnes")
    add("mass", "907.18474", "ton tons")
    add("time", 1, "s sec secs second seconds")
    add("time", 60, "min mins minute minutes")
    add("time", 3600, "h hr hrs hour hours")
    add("time", 86400, "day days")
    add("time", 604800, "week weeks wk wks")
    add("month", 1, "month months")
    add("month", 12, "year years yr yrs")
    add("angle", 1, "deg degs degree degrees °")
    add("radian", 1, "rad rads radian radians")
    add("dollar", 1, "$ dollar dollars usd USD US$ bucks")
    add("dollar", "1/100", "¢ cent cents")
    add("euro", 1, "€ euro euros EUR eur")
    add("sterling", 1, "£ GBP gbp")
    add("yen", 1, "¥ yen")
    add("rupee", 1, "₹ rupee rupees Rs rs INR")
    add("quart", 1, "qt quart quarts")
    add("quart", 4, "gal gallon gallons")
    add("quart", "1/2", "pint pints pt")
    add("quart", "1/4", "cup cups")
    add("celsius", 1, "C celsius Celsius degC")
    add("fahrenheit", 1, "F fahrenheit Fahrenheit degF")
    add("resistance", 1, "\\Omega \\ohm ohm ohms")
    for name, dimension in (
        ("N", "force"),
        ("J", "energy"),
        ("W", "power"),
        ("V", "voltage"),
        ("Pa", "pressure"),
        ("Hz", "frequency"),
        ("mol", "amount"),
        ("A", "current"),
        ("K", "kelvin"),
    ):
        add(dimension, 1, name)
    for name, dimension in (
        ("newton", "force"),
        ("joule", "energy"),
        ("watt", "power"),
        ("volt", "voltage"),
        ("pascal", "pressure"),
        ("hertz", "frequency"),
        ("mole", "amount"),
        ("ampere", "current"),
        ("kelvin", "kelvin"),
    ):
        add(dimension, 1, f"{name} {name}s")
    return found


UNITS = _table()
_NOTHING = {"unit", "units", "of", "total", "the", "approximately", "about", "exactly", "all"}
_WHOLE = {"mph": "mi/h", "kph": "km/h", "kmh": "km/h", "fps": "ft/s", "cc": "cm^3"}


@dataclass(frozen=True, slots=True)
class Unit:
    """Exponents of dimensions and the factor to their basic units; ``words`` where it is no known unit."""

    dimension: Dimension
    factor: Fraction
    words: frozenset[str] = frozenset()

    def empty(self) -> bool:
        """Whether it says nothing (``units``)."""
        return not self.dimension and not self.words


def read_unit(text: str) -> Unit | None:
    """The unit that ``text`` spells, known or made of plain words; None when it cannot be one."""
    body = text.strip().strip("()").strip().rstrip(".")
    body = re.sub(r"\\(?:cdot|times)(?![a-zA-Z])|\*", " ", body)
    body = re.sub(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", body)
    body = re.sub(r"\{\s*([^{}]*?)\s*\}", r"\1", body)
    body = re.sub(r"\b(sq|cu|in|ft|hr|hrs|min|sec|yd|lb|lbs|oz|mi)\.", r"\1 ", body)
    known = _known(body)
    if known is not None:
        return known
    if not re.fullmatch(r"[A-Za-z][A-Za-z' /()-]*", body):
        return None
    words = frozenset(_singular(w) for w in re.split(r"[^a-z']+", body.lower()) if w and w not in _NOTHING)
    return Unit((), Fraction(1), words)


def _singular(word: str) -> str:
    if word == "people":
        return "person"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _known(text: str) -> Unit | None:
    out: dict[str, int] = {}
    factor, sign, pending = Fraction(1), 1, 1
    spaced = re.sub(r"\s*\^\s*", "^", re.sub(r"\bper\b", " per ", text).replace("/", " / "))
    if "percent" in text:
        return None
    tokens = [t for word in spaced.split() for t in _WHOLE.get(word, word).replace("/", " / ").split()]
    previous: tuple[str, Fraction, int] | None = None
    for token in tokens:
        lower = re.sub(r"\^[-+]?\d$", "", token.lower())
        if lower in ("/", "per", "a", "an", "each"):
            sign = -1
        elif lower in ("square", "sq", "cubic", "cu"):
            pending = 2 if lower in ("square", "sq") else 3
        elif lower in ("squared", "cubed") and previous is not None:
            name, size, power = previous
            more = 1 if lower == "squared" else 2
            out[name] += power * more
            factor *= size ** (power * more)
        elif lower in _NOTHING:
            continue
        else:
            match = re.fullmatch(r"(.+?)(?:\^([-+]?\d))?", token)
            assert match is not None
            entry = UNITS.get(match.group(1)) or UNITS.get(match.group(1).lower())
            if entry is None:
                return None
            power = sign * pending * int(match.group(2) or 1)
            if match.group(2) and match.group(2).startswith("-"):
                power = int(match.group(2)) * pending
            out[entry[0]] = out.get(entry[0], 0) + power
            factor *= entry[1] ** power
            previous, pending = (entry[0], entry[1], power), 1
    if pending != 1 and not out:
        return Unit((), Fraction(1))
    if out.keys() == {"angle", "celsius"} or out.keys() == {"angle", "fahrenheit"}:
        del out["angle"]
    if out.keys() == {"volume"}:  # a litre is a cubic decimetre
        factor, out = factor / 1000 ** out["volume"], {"length": 3 * out["volume"]}
    return Unit(tuple(sorted((k, v) for k, v in out.items() if v)), factor)


@dataclass(frozen=True, slots=True)
class Measured:
    """A written value with its unit; ``exact`` is the value where it is a plain number."""

    value: str
    unit: Unit
    exact: Fraction | None


_CURRENCY = re.compile(r"^([-+]?)\s*(US\$|USD|EUR|GBP|INR|Rs\.?|[$€£¥₹])\s*([-+]?)\s*(?=[\d.\\(]|[a-z])(.*)$")
_NUMBER = r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*\\frac\s*\{?\d+\}?\s*\{?\d+\}?|\s+\d+/\d+|/\d+)?"
_PLAIN = re.compile(rf"^({_NUMBER}|[-+]?\\frac\s*\{{?[-\d]+\}}?\s*\{{?\d+\}}?)\s*(.+)$")
_TAIL = re.compile(r"^(.*?[\d})\]a-zA-Z])\s+([A-Za-z\\$€£¥₹¢(][A-Za-z0-9 ./^{}()\\*-]*)$")
_CIRC = re.compile(r"\^\s*\{?\s*(?:\\circ|o)\s*\}?")


def measured(text: str) -> Measured | None:
    """``text`` taken apart into value and unit, or None without any unit. Money and degrees are units as well."""
    body = _CIRC.sub(" ° ", text).strip()
    body = re.sub(r"\s+", " ", body)
    while body.startswith("(") and body.endswith(")") and re.match(r"^\([-+]?\s*[$€£¥₹]", body):
        body = body[1:-1].strip()
    if match := _CURRENCY.match(body):
        inner = measured(match.group(1) + match.group(3) + match.group(4))
        unit = read_unit(match.group(2).replace("Rs.", "Rs"))
        assert unit is not None
        if inner is not None and inner.unit.dimension == unit.dimension:
            return inner
        amount = match.group(1) + match.group(3) + match.group(4)
        if inner is not None:
            both = tuple(sorted((*unit.dimension, *inner.unit.dimension)))
            return Measured(inner.value, Unit(both, unit.factor * inner.unit.factor, inner.unit.words), inner.exact)
        return Measured(amount, unit, _number(amount))
    total = _several(body)
    if total is not None:
        return total
    if (match := _PLAIN.match(body)) and not re.match(r"^(?:\\times|\\cdot|\*|e[-+]?\d|x\s*10)", match.group(2)):
        rest = match.group(2)
        scaled = re.match(r"^(hundred|thousand|million|billion|trillion)\b\s*(.*)$", rest, re.IGNORECASE)
        if scaled:
            number = _number(f"{match.group(1)} {scaled.group(1)}")
            unit = read_unit(scaled.group(2)) if scaled.group(2) else Unit((), Fraction(1))
            return Measured(str(number), unit, number) if number is not None and unit is not None else None
        unit = read_unit(rest)
        value = exact_value(match.group(1))
        if unit is not None and value is not None and (match.group(0)[match.end(1)] == " " or _whole_unit(rest, unit)):
            return Measured(match.group(1), unit, value)
    words = re.match(r"^([a-z][a-z -]*?)\s+([a-z]+)$", body.lower())
    if words and _words.value(words.group(1)) is not None and words.group(2) not in _words.SCALES:
        unit = read_unit(words.group(2))
        if unit is not None and _words.value(body) is None:
            return Measured(words.group(1), unit, _words.value(words.group(1)))
    tail = _TAIL.match(body.replace("°", " ° ").strip()) or re.match(r"^(.*\S)\s*(°)$", body)
    if tail:
        for cut in _cuts(tail.group(0)):
            value_text, unit_text = tail.group(0)[:cut].strip(), tail.group(0)[cut:].strip()
            unit = _known(unit_text.strip("()").replace("{", "").replace("}", ""))
            if unit is not None and value_text and re.search(r"[\d})\]a-zA-Z]$", value_text):
                return Measured(value_text, unit, _number(value_text))
    return None


def _whole_unit(text: str, unit: Unit) -> bool:
    """Whether a unit that touches its number can only be one (``5cm``, not ``5m`` or ``3x``)."""
    return not unit.words and (len(text) > 1 or text in "°$€£¥₹¢%")


def _cuts(text: str) -> list[int]:
    return [m.start() for m in re.finditer(r"\s", text)]


def _number(text: str) -> Fraction | None:
    found = exact_value(text)
    return found if found is not None else _words.value(text)


_PIECE = rf"({_NUMBER})\s*(°|''|\"|'|[A-Za-z]+\.?)"
_PIECES = re.compile(rf"^{_PIECE}(?:\s*,?\s*(?:and\s+)?{_PIECE})+$")


def _several(text: str) -> Measured | None:
    """``6 ft 2 in``, ``2 hours and 30 minutes``, ``5'7"``, ``72° 30'``: one quantity in its smallest unit."""
    if not _PIECES.match(text):
        return None
    parts = re.findall(_PIECE, text)
    marks = {"'": "minute" if "°" in text else "feet", '"': "second" if "°" in text else "inch"}
    marks["''"] = marks['"']
    units = [read_unit(marks.get(name, name)) for _, name in parts]
    if "°" in text:
        sizes = [Fraction(1), Fraction(1, 60), Fraction(1, 3600)][: len(parts)]
        dimension: Dimension = (("angle", 1),)
    else:
        if any(u is None or u.words or u.dimension != (units[0] or u).dimension for u in units):
            return None
        sizes = [u.factor for u in units if u is not None]
        dimension = units[0].dimension if units[0] is not None else ()
    if any(later >= earlier for earlier, later in itertools.pairwise(sizes)) or text.count("°") > 1:
        return None  # a list of values, not one in parts
    values = [exact_value(number) for number, _ in parts]
    if any(v is None for v in values):
        return None
    total = sum((v * s for v, s in zip(values, sizes) if v is not None), Fraction(0))
    return Measured(str(total), Unit(dimension, Fraction(1)), total)


_CLOCK = re.compile(
    r"^(?:at\s+)?(\d{1,2})(?:\s*:\s*(\d\d))?(?:\s*:\s*(\d\d))?\s*"
    r"(a\s?\.?\s?m\.?|p\s?\.?\s?m\.?|o'clock|in the (?:morning|afternoon|evening)|at night)?"
    r"(?:\s*(?:hours|hrs|o'clock))?$",
    re.IGNORECASE,
)


def clock(text: str) -> tuple[int, bool] | None:
    """Seconds since midnight and whether the half of the day is known; None for anything that is no time of day."""
    body = text.strip().lower()
    if body in ("noon", "12 noon", "midday", "12:00 noon"):
        return 43_200, True
    if body in ("midnight", "12 midnight", "12:00 midnight"):
        return 0, True
    match = _CLOCK.match(body)
    if match is None or (match.group(2) is None and match.group(4) is None):
        return None
    hour, minute, second = (int(g or 0) for g in match.groups()[:3])
    half = (match.group(4) or "").replace(" ", "")
    if hour > 24 or minute > 59 or second > 59:
        return None
    late = half[:1] == "p" or "afternoon" in half or "evening" in half or half == "atnight"
    early = (half[:1] == "a" and half != "atnight") or "morning" in half
    if (late or early) and hour > 12:
        early = late = False
    if late or early:
        hour = hour % 12 + (12 if late else 0)
    return hour * 3600 + minute * 60 + second, bool(late or early or hour > 12 or match.group(1) in ("0", "00"))


_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)


def date(text: str) -> tuple[int, int, int | None] | None:
    """``(month, day, year or None)`` of a date with a month's name, else None."""
    words = re.sub(r"(\d)\s*(?:\^\s*\{?\s*)?(?:st|nd|rd|th)\b(?:\s*\})?", r"\1", text.lower())
    words = re.sub(r"[.,]", " ", words)
    parts = [w for w in words.split() if w not in ("the", "of", "on")]
    parts = [p for p in parts if not re.fullmatch(r"(?:mon|tues|wednes|thurs|fri|satur|sun)day", p)]
    names = [i for i, w in enumerate(parts) if any(w in (m, m[:3]) for m in _MONTHS) or w == "sept"]
    if len(names) != 1 or not 2 <= len(parts) <= 3:
        return None
    month = next(i + 1 for i, m in enumerate(_MONTHS) if m[:3] == parts[names[0]][:3])
    numbers = [p for i, p in enumerate(parts) if i != names[0]]
    values = [int(n) if n.isdigit() else int(_words.value(n) or 0) for n in numbers]
    if not 1 <= values[0] <= 31:
        return None
    return month, values[0], values[1] if len(values) == 2 else None
