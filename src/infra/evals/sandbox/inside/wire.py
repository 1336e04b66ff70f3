"""Messages between judge and candidate: length-prefixed JSON, with plain Python values written in it.

Plain values are None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, deque,
Decimal, Fraction, ranges and the types among these. The reader builds these types and no others, so nothing a
candidate sends can carry behaviour: no ``__eq__`` of its own, no code. What is not plain stays where it is
and is sent as a handle.

Instances of the classes that the tests' own setup defines (a list node, a tree node) cross as well. Each side
builds them from its own class of that name, so that the judge compares with the judge's class. They travel as
a flat table (see ``Objects``): a chain of a million nodes is not deep, and a ring ends.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

TYPES = {t.__name__: t for t in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)}
SMALL = 1 << 53
Hold = Callable[[object], Any]


class Gone(Exception):
    """The other side closed, broke the protocol or sent more than is allowed."""


class Late(Exception):
    """No message before the deadline."""


def _number(value: object) -> Any:
    """numpy scalars as Python numbers, by duck typing: numpy itself is never imported here."""
    module = type(value).__module__
    if module == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return None


def encode(value: object, hold: Hold) -> Any:
    """JSON-able form of ``value``; ``hold`` turns what is not plain into a handle."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -SMALL < value < SMALL else {"i": hex(value)}  # type: ignore[operator, arg-type]
    if kind is float:
        return {"f": value.hex()}  # type: ignore[attr-defined]
    if kind is list:
        return [encode(v, hold) for v in value]  # type: ignore[attr-defined]
    if isinstance(value, tuple):
        return {"t": [encode(v, hold) for v in tuple.__iter__(value)]}
    if isinstance(value, dict):
        return {"d": [[encode(k, hold), encode(v, hold)] for k, v in dict.items(value)]}
    if isinstance(value, (set, frozenset)):
        return {"z" if isinstance(value, frozenset) else "s": [encode(v, hold) for v in value]}
    if isinstance(value, bool | int):
        return encode(int.__add__(value, 0), hold)
    if isinstance(value, str):
        return str.__getitem__(value, slice(None))
    if isinstance(value, list):
        return [encode(v, hold) for v in list.__iter__(value)]
    if isinstance(value, float):
        return {"f": float.hex(value)}
    if isinstance(value, complex):
        return {"c": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, bytes | bytearray):
        return {"b" if isinstance(value, bytes) else "a": value.hex()}
    if kind is deque:
        return {"q": [encode(v, hold) for v in value]}  # type: ignore[attr-defined]
    if kind is range:
        return {"r": [hex(value.start), hex(value.stop), hex(value.step)]}  # type: ignore[attr-defined]
    if kind is type and value in TYPES.values():
        return {"y": value.__name__}  # type: ignore[attr-defined]
    if kind is Decimal:
        return {"m": str(value)}
    if kind is Fraction:
        return {"n": [hex(value.numerator), hex(value.denominator)]}  # type: ignore[attr-defined]
    number = _number(value)
    return encode(number, hold) if number is not None else hold(value)


def decode(value: Any, held: Callable[[Any], Any]) -> Any:
    """The value :func:`encode` wrote; ``held`` turns a handle into an object. Raises ``Gone`` for anything
    else.
    """
    if isinstance(value, list):
        return [decode(v, held) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise Gone("malformed value")
    ((tag, body),) = value.items()
    try:
        return _decode(tag, body, held)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise Gone(f"malformed value: {error}") from error


class Objects:
    """Writes values of one message, and its table of instances of the classes ``shared``.

    ``shared`` is class -> the name it crosses under; ``hold`` turns everything else that is not plain into a
    handle.
    """

    def __init__(self, shared: dict[type, str], hold: Hold) -> None:
        self._shared, self._hold = shared, hold
        self._places: dict[int, int] = {}
        self._met: list[Any] = []

    def encode(self, value: object) -> Any:
        """JSON-able form of ``value``; instances met on the way get a place in the table."""
        return encode(value, self._place)

    def _place(self, value: object) -> Any:
        if type(value) not in self._shared or not hasattr(value, "__dict__"):
            return self._hold(value)
        if id(value) not in self._places:
            self._places[id(value)] = len(self._met)
            self._met.append(value)
        return {"o": self._places[id(value)]}

    def table(self) -> list[Any]:
        """``[name, [[attribute, value], ...]]`` of every instance met, and of those they lead to."""
        rows: list[Any] = []
        for value in self._met:  # grows while it is walked
            attributes = [[str(k), self.encode(v)] for k, v in vars(value).items()]
            rows.append([self._shared[type(value)], attributes])
        return rows


def decode_with(table: Any, classes: dict[str, type], held: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A reader of the values of one message with its table of instances. Their ``__init__`` is not called.

    Raises ``Gone`` for a table that :class:`Objects` did not write.
    """
    try:
        made = [_blank(classes[str(name)]) for name, _ in table]

        def found(handle: Any) -> Any:
            return made[handle["o"]] if isinstance(handle, dict) else held(handle)

        for instance, (_, attributes) in zip(made, table):
            instance.__dict__.update({str(k): decode(v, found) for k, v in attributes})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Gone(f"malformed table of objects: {error}") from error
    return lambda value: decode(value, found)


def _blank(kind: type) -> Any:
    return kind.__new__(kind)  # type: ignore[call-overload]


def _decode(tag: str, body: Any, held: Callable[[Any], Any]) -> Any:
    if tag == "i":
        return int(body, 16)
    if tag == "f":
        return float.fromhex(body)
    if tag == "t":
        return tuple(decode(v, held) for v in body)
    if tag == "d":
        return {decode(k, held): decode(v, held) for k, v in body}
    if tag in "sz":
        return (set if tag == "s" else frozenset)(decode(v, held) for v in body)
    if tag == "c":
        return complex(float.fromhex(body[0]), float.fromhex(body[1]))
    if tag in "ba":
        return (bytes if tag == "b" else bytearray).fromhex(body)
    if tag == "q":
        return deque(decode(v, held) for v in body)
    if tag == "r":
        return range(*(int(v, 16) for v in body))
    if tag == "m":
        return Decimal(body)
    if tag == "y":
        return TYPES[body]
    if tag == "n":
        return Fraction(int(body[0], 16), int(body[1], 16))
    if tag == "h":
        return held(body)
    if tag == "o":
        return held({"o": body})
    raise Gone("malformed value")


def send(fd: int, message: Any, deadline: float | None = None) -> None:
    """Write one message whole. Raises ``OSError`` when the other side is gone and ``Late`` when it has not
    taken the message by ``deadline`` (monotonic; the descriptor must then be non-blocking).
    """
    body = json.dumps(message).encode()
    view = memoryview(struct.pack("=I", len(body)) + body)
    while view:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [fd], [], left)[1]:
                raise Late
        with suppress(BlockingIOError):
            view = view[os.write(fd, view) :]


def receive(fd: int, limit: int, deadline: float | None = None) -> Any:
    """Read one message of at most ``limit`` bytes. Raises ``Gone`` or, past ``deadline`` (monotonic),
    ``Late``.
    """
    head = _exactly(fd, 4, deadline)
    (length,) = struct.unpack("=I", head)
    if length > limit:
        raise Gone(f"a message of {length} bytes, more than {limit}")
    try:
        return json.loads(_exactly(fd, length, deadline))
    except (ValueError, RecursionError) as error:
        raise Gone(f"malformed message: {error}") from error


def _exactly(fd: int, count: int, deadline: float | None) -> bytes:
    parts: list[bytes] = []
    while count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise Late
        try:
            part = os.read(fd, min(count, 1 << 20))
        except OSError as error:
            raise Gone(str(error)) from error
        if not part:
            raise Gone("closed")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
