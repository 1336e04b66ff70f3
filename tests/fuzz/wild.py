"""Wild inputs, and the guard every parser runs under: only the project's errors, a deadline, memory that stays flat."""

from __future__ import annotations

import copy
import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from infra.errors import InfraError

DEADLINE_S = 5.0  # processor time of one input
ROUND = 500  # examples of one hypothesis run: its own tree of examples is dropped after each
GROWTH_MIB = 48.0

ODD_TEXTS = (
    "",
    " ",
    "\x00",
    "\ud800",
    "a\udfffb",
    "\ufeff",
    "nan",
    "-0",
    "1e999",
    "[[[[",
    "{{ x }}",
    "{% for %}",
    "\\boxed{",
    "../../x",
    "null",
    "<think>",
    "</think>",
    "٣",
    "𝟙",
    "0" * 5000,
    "é" * 50,
    "\r\n",
    "'\"",
    "*&!%",
    "- - -",
    "2024-02-30T99:00:00",
)
texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=20))
numbers = st.one_of(
    st.integers(-3, 12),
    st.sampled_from([10**30, -(10**30), 2**63, 1 << 400, 0.5, -0.0, 1e308, float("nan"), float("inf"), -float("inf")]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a nested one."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@st.composite
def altered(draw: st.DrawFn, bases: tuple[Any, ...]) -> Any:
    """One of the good values, with one to three of its parts replaced, removed, renamed, repeated or turned to text."""
    value = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places(value))
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        key = path[-1]
        what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "repeat", "text", "wrap"]))
        if what == "replace":
            holder[key] = draw(values)
        elif what == "remove":
            del holder[key]
        elif what == "rename" and isinstance(holder, dict):
            holder[draw(texts)] = holder.pop(key)
        elif what == "repeat" and isinstance(holder[key], list):
            holder[key] = holder[key] * draw(st.integers(2, 30))
        elif what == "text":
            holder[key] = str(holder[key])
        else:
            holder[key] = [holder[key]]
    return value


@st.composite
def damaged(draw: st.DrawFn, bases: tuple[bytes, ...]) -> bytes:
    """The bytes of a good file, cut, flipped, overwritten, repeated or with others put in."""
    data = bytearray(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 40))
        what = draw(st.sampled_from(["cut", "flip", "put", "over", "repeat", "drop"]))
        if what == "cut":
            del data[at:]
        elif what == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "put":
            data[at:at] = draw(st.binary(max_size=16))
        elif what == "over":
            data[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif what == "repeat":
            data[at:at] = data[at : at + length] * draw(st.integers(1, 20))
        else:
            del data[at : at + length]
    return bytes(data)


class Hang(AssertionError):
    """An input took longer than the deadline."""


@contextmanager
def deadline(seconds: float = DEADLINE_S) -> Iterator[None]:
    """Raise :class:`Hang` in the block after so many seconds of processor time."""

    def late(number: int, frame: object) -> None:
        raise Hang(f"more than {seconds} s of processor time")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def resident_mib() -> float:
    """Resident memory of this process."""
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


def fuzz(parse: Callable[[Any], object], inputs: st.SearchStrategy[Any], count: int, first_seed: int = 0) -> int:
    """``parse`` on ``count`` inputs: nothing but the project's errors comes out, none takes longer than the deadline,
    and after the first rounds memory does not grow. Returns how many inputs were refused."""
    refused = 0

    def check(value: Any) -> None:
        nonlocal refused
        with deadline():
            try:
                parse(value)
            except InfraError as error:
                refused += 1
                said = str(error)
                assert said and "Traceback" not in said

    after_first: float | None = None
    for number, start in enumerate(range(0, count, ROUND)):
        one_round = settings(
            max_examples=min(ROUND, count - start),
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        seed(first_seed + number)(one_round(given(inputs)(check)))()
        if number == 3:
            after_first = resident_mib()
    if after_first is not None:
        growth = resident_mib() - after_first
        assert growth < GROWTH_MIB, f"memory grew by {growth:.0f} MiB over {count} inputs"
    return refused
