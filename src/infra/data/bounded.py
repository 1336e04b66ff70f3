"""Compressed input, unpacked up to a limit: a small file may hold terabytes."""

from __future__ import annotations

import gzip
import io
import os
from typing import IO, Any

from infra.errors import InputError

FLOOR = 1 << 30
RATIO = 100
LIMIT_VARIABLE = "INFRA_MAX_UNPACKED"


def unpacked_limit(compressed: int) -> int:
    """Bytes that so many compressed bytes may become: 100 times as many, at least 1 GiB.

    Text compresses 3 to 30 times. The environment variable INFRA_MAX_UNPACKED sets another number of bytes.
    """
    given = os.environ.get(LIMIT_VARIABLE, "")
    if given and not given.isdigit():
        raise InputError(f"{LIMIT_VARIABLE} is {given!r}; give a number of bytes")
    return int(given) if given else max(FLOOR, RATIO * compressed)


def refusal(name: str, size: int, limit: int) -> InputError:
    """The one sentence for input that unpacks to more than the limit."""
    return InputError(
        f"{name}: {size:,} compressed bytes unpack to more than the limit of {limit:,}; if the file is trusted, set "
        f"{LIMIT_VARIABLE} to a larger number of bytes"
    )


class BoundedGzip(io.BufferedIOBase):
    """A gzip stream that refuses to be read beyond the limit."""

    def __init__(self, name: str, raw: IO[bytes], size: int) -> None:
        self.name, self.size, self.limit = name, size, unpacked_limit(size)
        self.stream = gzip.GzipFile(fileobj=raw)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def read(self, size: int | None = -1) -> bytes:
        room = self.limit - self.stream.tell() + 1
        data = self.stream.read(room if size is None or size < 0 else min(size, room))
        return self._checked(data)

    def read1(self, size: int = -1) -> bytes:
        return self._checked(self.stream.read1(size if size >= 0 else io.DEFAULT_BUFFER_SIZE))

    def readline(self, size: int | None = -1) -> bytes:
        room = self.limit - self.stream.tell() + 1
        return self._checked(self.stream.readline(room if size is None or size < 0 else min(size, room)))

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _checked(self, data: bytes) -> bytes:
        if self.stream.tell() > self.limit:
            raise refusal(self.name, self.size, self.limit)
        return data
