"""One HTTP request with bounds: seconds until there is a connection, seconds for all of it, bytes of the answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx

CONNECT_S = 5.0
"""Seconds for a connection; a machine that is not there answers nothing at all."""
MAX_BYTES = 32 << 20
"""Of one answer. A response of 100,000 tokens has about half a megabyte."""
NOT_PACKED = {"Accept-Encoding": "identity"}
"""A packed answer could be small on its way and large in memory."""


class AnswerTooLarge(Exception):
    """The answer goes on past :data:`MAX_BYTES`, or is packed although nobody asked for it."""


def client(headers: Mapping[str, str], timeout_s: float) -> httpx.Client:
    """A client for :func:`request`. No connection is used twice, so that each can be cut off at its deadline."""
    return httpx.Client(
        timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        headers={**NOT_PACKED, **headers},
        limits=httpx.Limits(max_keepalive_connections=0),
    )


def request(http: httpx.Client, method: str, url: str, seconds: float, body: Any = None) -> tuple[int, bytes]:
    """Status and body. ``seconds`` bound all of it, also an answer that comes byte by byte.

    Raises :class:`httpx.TransportError` where there is no whole answer in time, :class:`AnswerTooLarge` where it is too
    large.
    """
    cut = _Cut()
    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        with http.stream(method, url, json=body, extensions={"trace": cut.trace}) as response:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise AnswerTooLarge(f"is packed ({response.headers['content-encoding'][:40]})")
            parts, size = [], 0
            for part in response.iter_raw():
                size += len(part)
                if size > MAX_BYTES:
                    raise AnswerTooLarge(f"has more than {MAX_BYTES >> 20} MiB")
                parts.append(part)
            return response.status_code, b"".join(parts)
    except httpx.TransportError as error:
        if cut.done:
            raise httpx.ReadTimeout(f"no whole answer within {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()


class _Cut:
    """Called at the deadline: ends the connection, whatever is being waited for on it."""

    def __init__(self) -> None:
        self.done, self._stream, self._lock = False, None, threading.Lock()

    def trace(self, event: str, told: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._stream = told["return_value"]
                if self.done:
                    self._end()

    def __call__(self) -> None:
        with self._lock:
            self.done = True
            self._end()

    def _end(self) -> None:
        if self._stream is not None:
            with suppress(OSError, AttributeError):
                self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
