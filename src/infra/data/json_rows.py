"""Rows of JSON documents: one array of objects, or an object that holds one (``{"data": [...]}``), however printed.

Elements are decoded one by one from a buffer that grows until an element fits, so memory stays flat in their number.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Generator, Iterator
from typing import IO, Any

from infra.errors import InputError

SPLITS = ("train", "test", "validation", "valid", "dev")
CONTAINERS = ("data", "rows", "records", "examples", "instances", "samples", "dataset", *SPLITS)
"""Keys under which the rows of an object may stand. Rows under the name of another split than the wanted one are read
only where there are no others."""

_CHUNK = 1 << 16
_SPACE = re.compile(r"\s*")
_SIMPLE = r'"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-\d.eE+]+|null|true|false)\s*,\s*'
_CONTAINER = re.compile(rf'\{{\s*(?:{_SIMPLE})*"(?:{"|".join(CONTAINERS)})"\s*:\s*\[\s*\{{')


def is_document(head: bytes, lines: bool) -> bool:
    """True where a file that begins with ``head`` is one JSON document and not JSON Lines.

    ``lines``: the file's name says JSON Lines. Then only a first line that cannot end there makes it a document.
    """
    text = head.decode("utf-8", "replace")
    first, newline, _ = text.partition("\n")
    if text.startswith("[") or _CONTAINER.match(text):
        return True
    if not text.startswith("{"):
        return False
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return bool(newline) and (not lines or first.rstrip().endswith(("{", "[", ",")))
    return any(_is_table(value.get(key)) for key in CONTAINERS)


class Document:
    """The elements of a document's array, with the number of each, or the objects that follow each other in it."""

    def __init__(self, name: str, stream: IO[bytes], split: str, max_row: int) -> None:
        self.name, self.split, self.max_row = name, split, max_row
        self.reader = io.TextIOWrapper(stream, encoding="utf-8-sig")
        self.decoder = json.JSONDecoder()
        self.buffer, self.at = "", 0
        self.line = 0

    def elements(self) -> Iterator[tuple[int, Any, str]]:
        """(number from 1, value, the characters it was read from). Raises :class:`InputError` where it breaks off."""
        try:
            while self._peek() == "{":
                if (yield from self._object()):
                    return
            if self._peek() == "[":
                yield from self._array()
            if self._peek():
                raise InputError(f"{self.name}: after element {self.line}: not JSON ({self._peek()!r}); mend it")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.name}: after element {self.line}: not UTF-8 ({error.reason}); convert the file to UTF-8"
            ) from error

    def _array(self) -> Iterator[tuple[int, Any, str]]:
        self._take("[")
        first = True
        while self._peek() != "]":
            if not first:
                if self._peek() and self._peek() != ",":
                    raise InputError(
                        f"{self.name}: after element {self.line}: ',' or ']' expected, found {self._peek()!r}; mend "
                        "the JSON"
                    )
                self._take(",")
            first = False
            yield self._element()
        self._take("]")

    def _object(self) -> Generator[tuple[int, Any, str], None, bool]:
        """The rows of an object's array, one by one, then True; or the object itself, as a row, where it has none."""
        self._take("{")
        values: dict[str, Any] = {}
        while self._peek() != "}":
            if values:
                self._take(",")
            key = self._value()[0]
            self._take(":")
            wanted = key == self.split or (key in CONTAINERS and key not in SPLITS)
            if wanted and self._opens_table():
                yield from self._array()
                return True
            values[key] = self._value()[0]
        self._take("}")
        others = [value for key, value in values.items() if key in SPLITS and _is_table(value)]
        for value in others[0] if others else [values]:
            self.line += 1
            yield self.line, value, json.dumps(value, ensure_ascii=False)
        return bool(others)

    def _opens_table(self) -> bool:
        if self._peek() != "[":
            return False
        while (start := _space(self.buffer, self.at + 1)) == len(self.buffer) and self._more(_CHUNK):
            pass
        return self.buffer[start : start + 1] == "{"

    def _element(self) -> tuple[int, Any, str]:
        value, source = self._value()
        self.line += 1
        return self.line, value, source

    def _value(self) -> tuple[Any, str]:
        self._peek()
        size = _CHUNK
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.at)
                if end < len(self.buffer) or not self._more(size):  # a number may go on behind the buffer
                    source = self.buffer[self.at : end]
                    self.at = end
                    return value, source
            except (ValueError, RecursionError) as error:
                if not self._more(size):
                    reason = str(error).splitlines()[0][:200]
                    raise InputError(
                        f"{self.name}: element {self.line + 1}: not JSON, or the file breaks off here ({reason}); "
                        "mend it"
                    ) from error
            size *= 2

    def _peek(self) -> str:
        while (start := _space(self.buffer, self.at)) == len(self.buffer) and self._more(_CHUNK):
            pass
        self.at = start
        return self.buffer[start : start + 1]

    def _take(self, character: str) -> None:
        if self._peek() != character:
            found = self._peek()
            what = f"{character!r} expected, found {found!r}" if found else "the file breaks off here"
            raise InputError(f"{self.name}: element {self.line + 1}: not JSON, or {what}; mend it")
        self.at += 1

    def _more(self, size: int) -> bool:
        self.buffer, self.at = self.buffer[self.at :], 0
        if len(self.buffer) > self.max_row:
            raise InputError(
                f"{self.name}: element {self.line + 1} is longer than {self.max_row:,} characters; split the file, or "
                "write one object a line"
            )
        more = self.reader.read(size)
        self.buffer += more
        return bool(more)


def _space(text: str, start: int) -> int:
    """Where the white space that begins at ``start`` ends."""
    found = _SPACE.match(text, start)
    return found.end() if found else start


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
