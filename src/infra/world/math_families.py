"""The math families: who does what with which things. A family is a setting; its kind fixes the structure.

Kinds: ``owner`` and ``place`` (a running total), ``rate`` (a product first, then a running total), ``compare`` (a
chain of people, each compared with the one before), ``reverse`` (the end is told, the start is asked) and
``groups`` (a sum of products).
"""

from __future__ import annotations

from dataclasses import dataclass

NAMES = ("Mia", "Leo", "Ana", "Sam", "Max", "Tom", "Ben", "Kim")


@dataclass(frozen=True, slots=True)
class MathFamily:
    """A setting. ``add`` and ``sub`` are verb phrases, the last of each kept for paraphrases only.

    ``pretrain``: whether the base model's pretraining text may use the family at all.
    """

    name: str
    kind: str
    unit: str
    add: tuple[str, ...] = ()
    sub: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    pretrain: bool = True
    ops: str = "+-*/"


def _f(
    name: str,
    kind: str,
    unit: str,
    add: str = "",
    sub: str = "",
    extra: str = "",
    *,
    held: bool = False,
    ops: str = "+-*/",
) -> MathFamily:
    """One row of the table below, in the order of :class:`MathFamily`'s fields; ``,`` parts alternatives."""
    split = lambda s: tuple(s.split(",")) if s else ()  # noqa: E731
    return MathFamily(name, kind, unit, split(add), split(sub), split(extra), not held, ops)


MATH_FAMILIES: tuple[MathFamily, ...] = (
    _f("orchard", "owner", "nuts", "finds,buys,takes", "eats,sells,gives"),
    _f("purse", "owner", "coins", "finds,wins,takes", "uses,loses,gives"),
    _f("bookshelf", "owner", "books", "buys,gets,takes", "sells,loses,gives"),
    _f("card game", "owner", "cards", "wins,gets,takes", "uses,loses,drops", held=True),
    _f("beach", "owner", "stones", "finds,gets,takes", "loses,sells,drops"),
    _f("bakery", "owner", "cakes", "makes,buys,takes", "sells,eats,gives"),
    _f("garden", "owner", "roses", "buys,gets,takes", "sells,loses,gives", held=True),
    _f("ball game", "owner", "balls", "wins,finds,takes", "loses,sells,drops"),
    _f("stamp album", "owner", "stamps", "buys,gets,takes", "uses,loses,gives"),
    _f("fair", "owner", "tokens", "wins,buys,takes", "uses,loses,gives", held=True),
    _f("desk", "owner", "pens", "buys,finds,takes", "loses,uses,drops"),
    _f("hen house", "owner", "eggs", "gets,finds,takes", "eats,sells,drops", held=True),
    _f("bus", "place", "men", "get on,come,step in", "get off,leave,step out", "on the bus"),
    _f("pond", "place", "ducks", "land,come,step in", "go,leave,step out", "on the pond"),
    _f("library", "place", "girls", "enter,come,step in", "go,leave,step out", "in the hall"),
    _f("car park", "place", "cars", "enter,come,roll in", "go,leave,roll out", "in the park", held=True),
    _f("hive", "place", "bees", "land,come,step in", "go,leave,step out", "in the hive"),
    _f("harbour", "place", "boats", "enter,land,roll in", "go,leave,roll out", "in the port", held=True),
    _f("cinema", "place", "guests", "enter,come,step in", "go,leave,step out", "in the hall"),
    _f("meadow", "place", "cows", "enter,come,step in", "go,leave,step out", "in the park", held=True),
    _f("reading plan", "rate", "pages", "gets,finds,takes", "loses,uses,drops", "reads,day"),
    _f("savings", "rate", "coins", "gets,finds,takes", "uses,loses,gives", "gets,week"),
    _f("packing", "rate", "boxes", "makes,gets,takes", "sells,loses,drops", "makes,hour", held=True),
    _f("knitting", "rate", "rows", "makes,gets,takes", "loses,uses,drops", "makes,day", held=True),
    _f("water tank", "rate", "cups", "finds,gets,takes", "uses,loses,drops", "gets,hour"),
    _f("ages", "compare", "years", ops="+-*"),
    _f("scores", "compare", "points"),
    _f("weights", "compare", "kilos", held=True),
    _f("allowance", "compare", "coins"),
    _f("steps walked", "compare", "steps", held=True),
    _f("lost purse", "reverse", "coins", "wins,finds,takes", "uses,loses,gives"),
    _f("nut jar", "reverse", "nuts", "buys,finds,takes", "eats,loses,drops", held=True),
    _f("old collection", "reverse", "stamps", "buys,gets,takes", "sells,loses,gives"),
    _f("picnic", "groups", "cakes", "buys,finds,takes", "eats,sells,gives", "boxes,bags,jars"),
    _f("classroom", "groups", "pens", "buys,finds,takes", "loses,uses,drops", "cups,bags,boxes"),
    _f("nursery", "groups", "roses", "buys,gets,takes", "sells,loses,gives", "rows,boxes,jars", held=True),
    _f("kitchen", "groups", "eggs", "buys,gets,takes", "eats,uses,drops", "boxes,cups,bags", held=True),
)

FAMILY = {f.name: f for f in MATH_FAMILIES}

Templates = dict[str, tuple[str, ...]]

_OWNER: dict[str, Templates] = {
    "train": {
        "start": ("{who} has {n} {unit}.", "On day 1 {who} has {n} {unit}.", "There are {n} {unit} for {who}."),
        "+": ("{who} {add} {n} more.", "Then {who} {add} {n}.", "{who} {add} {n} more {unit}."),
        "-": ("{who} {sub} {n}.", "Then {who} {sub} {n}.", "{who} {sub} {n} of the {unit}."),
        "*": ("Now there are {n} times as many.", "Then {who} has {n} times as many."),
        "/": ("Then one of {n} equal parts is left.", "{who} keeps one of {n} equal parts."),
        "ask": ("How many {unit} does {who} have?", "How many {unit} are there now?"),
    },
    "paraphrase": {
        "start": ("At first {who} owns {n} {unit}.", "{who} begins with {n} {unit}."),
        "+": ("Later {who} {add} another {n}.", "{who} also {add} {n} {unit}."),
        "-": ("Later {who} {sub} {n} {unit}.", "But {who} {sub} {n} of the {unit}."),
        "*": ("The {unit} are multiplied by {n}.", "This amount grows {n} times."),
        "/": ("The {unit} are divided by {n}.", "{who} keeps one of {n} equal shares."),
        "ask": ("What is the final number of {unit}?", "Find how many {unit} {who} ends with."),
    },
    "pretrain": {
        "start": ("{who} owns {n} {unit} at first.", "{who} has {n} {unit},", "With {n} {unit} {who} begins."),
        "+": ("{n} more {unit} {who} {add}.", "Also {who} {add} {n}.", "Another {n} {who} {add} later."),
        "-": ("{who} {sub} {n} {unit}.", "Later on {who} {sub} {n}.", "But then {who} {sub} {n}."),
        "*": ("Multiplied by {n}.", "They grow to {n} times as many.", "{n} times the amount now."),
        "/": ("Divided by {n}.", "One of {n} equal parts is kept.", "{n} equal shares, one is left."),
        "ask": ("How many {unit} now?", "The final number of {unit}?", "How many at the end?"),
    },
}

_PLACE: dict[str, Templates] = {
    "train": {
        "start": ("There are {n} {unit} {at}.", "On day 1 {n} {unit} are {at}.", "{n} {unit} are {at}."),
        "+": ("{n} more {add}.", "Then {n} {add}.", "{n} more {unit} {add}."),
        "-": ("{n} {sub}.", "Then {n} {sub}.", "{n} of the {unit} {sub}."),
        "*": ("Now there are {n} times as many.", "Then the {unit} are {n} times as many."),
        "/": ("Then one of {n} equal parts is left.", "Now one of {n} equal parts is there."),
        "ask": ("How many {unit} are {at}?", "How many {unit} are there now?"),
    },
    "paraphrase": {
        "start": ("At first {n} {unit} rest {at}.", "We begin with {n} {unit} {at}."),
        "+": ("Later another {n} {add}.", "Also {n} {unit} {add}."),
        "-": ("Later {n} of the {unit} {sub}.", "But {n} {unit} {sub}."),
        "*": ("The {unit} are multiplied by {n}.", "This amount grows {n} times."),
        "/": ("The {unit} are divided by {n}.", "Of {n} equal shares only one stays."),
        "ask": ("What is the final number of {unit}?", "Find how many {unit} stay {at}."),
    },
    "pretrain": {
        "start": ("{n} {unit} {at} at first.", "{at}: {n} {unit}.", "We see {n} {unit} {at},"),
        "+": ("{n} {unit} {add}.", "Also {n} {add}.", "Another {n} {add} later."),
        "-": ("{n} {sub}.", "Later on {n} {sub}.", "But then {n} {sub}."),
        "*": ("Multiplied by {n}.", "They grow to {n} times as many.", "{n} times the amount now."),
        "/": ("Divided by {n}.", "One of {n} equal parts stays.", "{n} equal shares, one is left."),
        "ask": ("How many {unit} now?", "The final number of {unit}?", "How many stay at the end?"),
    },
}

_COMPARE: dict[str, Templates] = {
    "train": {
        "start": ("{p} has {n} {unit}.", "There are {n} {unit} for {p}."),
        "+": ("{q} has {n} more than {p}.", "{q} has {n} more {unit} than {p}."),
        "-": ("{q} has {n} fewer than {p}.", "{q} has {n} fewer {unit} than {p}."),
        "*": ("{q} has {n} times as many as {p}.", "{q} has {n} times the {unit} of {p}."),
        "/": ("{p} has {n} times as many as {q}.", "{p} has {n} times the {unit} of {q}."),
        "ask": ("How many {unit} does {q} have?", "How many are there for {q} now?"),
    },
    "paraphrase": {
        "start": ("At first take {p} with {n} {unit}.", "{p} owns {n} {unit}."),
        "+": ("Add {n} to what {p} has to get {q}.", "{q} owns {n} more than {p} owns."),
        "-": ("Take {n} from what {p} has to get {q}.", "{q} owns {n} fewer than {p} owns."),
        "*": ("Multiplied by {n}, what {p} has is what {q} has.", "{q} owns {n} times what {p} owns."),
        "/": ("Divided by {n}, what {p} has is what {q} has.", "{p} owns {n} times what {q} owns."),
        "ask": ("What is the number of {unit} of {q}?", "Find how many {unit} {q} owns."),
    },
    "pretrain": {
        "start": ("{p} owns {n} {unit}, say.", "{p} gets {n} {unit}."),
        "+": ("{q} gets {n} more than {p}.", "To get {q}, add {n} to {p}."),
        "-": ("{q} gets {n} fewer than {p}.", "To get {q}, take {n} from {p}."),
        "*": ("{q} gets {n} times as many as {p}.", "{q} is {p} multiplied by {n}."),
        "/": ("{p} gets {n} times as many as {q}.", "{q} is {p} divided by {n}."),
        "ask": ("How many for {q}?", "The number of {unit} of {q}?"),
    },
}

WORDINGS: dict[str, dict[str, Templates]] = {"owner": _OWNER, "place": _PLACE, "compare": _COMPARE}

RATE_START: Templates = {
    "train": ("{who} {does} {n} {unit} a {per} for {m} {per}s.", "For {m} {per}s {who} {does} {n} {unit} a {per}."),
    "paraphrase": (
        "{n} {unit} every {per} {who} {does}, for {m} {per}s.",
        "Every {per} {who} {does} {n} {unit}, {m} times.",
    ),
    "pretrain": (
        "{who} {does} {n} {unit} every {per}, {m} {per}s long.",
        "{m} {per}s, each with {n} {unit}: {who} {does}.",
    ),
}

REVERSE: dict[str, Templates] = {
    "train": {
        "start": ("{who} has some {unit}.", "On day 1 {who} has some {unit}."),
        "end": ("Now {who} has {n} {unit}.", "Now there are {n} {unit}."),
        "ask": ("How many {unit} were there before?", "How many {unit} did {who} have before?"),
    },
    "paraphrase": {
        "start": ("At first {who} owns a few {unit}.", "{who} begins with a few {unit}."),
        "end": ("The final number is {n}.", "{who} ends with {n}."),
        "ask": ("What was the first number of {unit}?", "Find how many {unit} {who} began with."),
    },
    "pretrain": {
        "start": ("{who} owns some {unit},", "A few {unit} {who} has at first."),
        "end": ("The end: {n}.", "Now {n} {unit}, the final number."),
        "ask": ("How many at first?", "The first number of {unit}?"),
    },
}

GROUPS: dict[str, Templates] = {
    "train": {
        "start": ("{who} has {n} {box} of {m} {unit}.", "There are {n} {box} of {m} {unit}."),
        "more": ("{who} has {n} more {box} of {m} {unit}.", "Then {who} gets {n} {box} of {m} {unit}."),
        "ask": ("How many {unit} are there now?", "How many {unit} does {who} have?"),
    },
    "paraphrase": {
        "start": ("{n} {box} hold {m} {unit} each.", "At first {who} owns {n} {box} with {m} {unit} each."),
        "more": ("Another {n} {box} hold {m} {unit} each.", "Later {who} owns {n} {box} with {m} {unit} each."),
        "ask": ("What is the final number of {unit}?", "Find all the {unit}."),
    },
    "pretrain": {
        "start": ("{n} {box}, {m} {unit} each.", "{who} owns {n} {box} that hold {m} {unit}."),
        "more": ("Another {n} {box}, {m} {unit} each.", "Also {n} {box} that hold {m} {unit}."),
        "ask": ("How many {unit} in all?", "The final number of all {unit}?"),
    },
}

SYMBOLIC: dict[str, Templates] = {
    "train": {
        "start": ("Let {v} = {n} {unit}.", "There are {v} = {n} {unit}."),
        "op": ("{v} = {v} {op} {n}.", "Then {v} = {v} {op} {n}."),
        "ask": ("Find {v}.", "How many is {v}?"),
        "equation": ("Let {e} = {n} {unit}.", "There are {e} = {n} {unit}."),
        "compute": ("Find {e} {unit}.", "How many {unit} are {e}?"),
    },
    "paraphrase": {
        "start": ("At first {v} is {n} {unit}.", "Set {v} to {n} {unit}."),
        "op": ("Set {v} to {v} {op} {n}.", "Later {v} is {v} {op} {n}."),
        "ask": ("Give the final {v}.", "What is the final {v}?"),
        "equation": ("The final {unit} are {e} = {n}.", "With {unit} {v}, {e} = {n}."),
        "compute": ("Give the number of {unit}, {e}.", "What is {e} {unit} in all?"),
    },
    "pretrain": {
        "start": ("{v} is {n} {unit}.", "Take {v} = {n} {unit}."),
        "op": ("{v} is now {v} {op} {n}.", "Next {v} = {v} {op} {n}.", "{v} set to {v} {op} {n}."),
        "ask": ("{v} = ?", "Give {v}."),
        "equation": ("Solve {e} = {n} for the {unit} {v}.", "{e} = {n} {unit}."),
        "compute": ("{e} = ? {unit}", "What is {e} {unit}?"),
    },
}
