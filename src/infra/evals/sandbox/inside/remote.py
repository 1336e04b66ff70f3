"""The judge's side of a candidate: start it, ask it, and stand-ins for objects that stay over there."""

from __future__ import annotations

import builtins
import json
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from . import wire

PATIENCE = 4.0
GLANCE = 0.25  # seconds between two looks at what a candidate has used
FILES = 4096  # files and folders that a program may have at one time
CHUNK = 4096  # items of an iterator that cross together at most
_NEVER_RAISED = (StopIteration, StopAsyncIteration)  # they would end the test's own loop

scratch: str | None = None  # the folder that programs may write to, None where there is none


class Ungradable(Exception):
    """The tests cannot be run as they are; this says nothing about the program."""


class CandidateError(Exception):
    """The candidate raised, died or was late; ``outcome`` is ``error`` or ``timeout``."""

    def __init__(self, outcome: str, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


class Candidate:
    """One candidate process. Killed, and waited for, when the block is left."""

    def __init__(self, control: socket.socket, limits: dict[str, Any], stdin: int | None = None) -> None:
        self._control = control
        mine, theirs = socket.socketpair()
        self.stdout, write_end = os.pipe()
        given = os.open("/dev/null", os.O_RDONLY) if stdin is None else stdin
        output = os.open("/dev/null", os.O_WRONLY) if stdin is None else write_end
        socket.send_fds(control, [json.dumps({"start": limits}).encode()], [theirs.fileno(), given, output])
        for fd in {given, output, write_end}:
            os.close(fd)
        theirs.close()
        mine.setblocking(False)
        self._socket, self._fd = mine, mine.fileno()
        self._answer_limit = int(limits["output"])
        self._status: dict[str, Any] | None = None
        self.budget = 10.0
        self.failed: CandidateError | None = None  # it died or was late: tests that catch everything hide this
        self.classes: dict[str, type] = {}  # of the tests' setup; their instances cross as data

    def __enter__(self) -> Candidate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        os.close(self.stdout)
        self.end(0)

    def end(self, grace: float) -> dict[str, Any]:
        """Wait up to ``grace`` seconds for the end, kill what is left: ``{"code", "signal", "killed", "cpu"}``."""
        if self._status is None:
            self._control.send(json.dumps({"end": grace}).encode())
            self._status = json.loads(self._control.recv(4096))
        return self._status

    def tell(self, message: Any, seconds: float) -> None:
        """Send a message. A candidate that is gone is noticed when its answer is read.

        Raises ``CandidateError`` for one that does not take the message.
        """
        try:
            wire.send(self._fd, message, time.monotonic() + PATIENCE * seconds)
        except wire.Late:
            raise self._failure("timeout", f"the program did not read its input for {seconds} s") from None
        except OSError:
            pass

    def hear(self, seconds: float) -> Any:
        """The next message. Raises ``CandidateError``."""
        try:
            if not self.wait_for(self._fd, seconds):
                raise wire.Late
            return wire.receive(self._fd, self._answer_limit, time.monotonic() + max(seconds, 1.0))
        except wire.Late:
            raise self._failure("timeout", f"no answer after {seconds} s") from None
        except wire.Gone as gone:
            status = self.end(0.2)
            text = f"the process ended ({gone}; exit status {status['code']}, signal {status['signal']})"
            raise self._failure("timeout" if status["signal"] == 24 else "error", text) from None

    def _failure(self, outcome: str, text: str) -> CandidateError:
        self.failed = self.failed or CandidateError(outcome, text)
        return self.failed

    def wait_for(self, fd: int, seconds: float) -> bool:
        """Wait until ``fd`` can be read. False once the candidate has used ``seconds`` of processor time since it
        began, or ``PATIENCE`` times as long has gone by: a busy machine alone does not make a program late.

        Raises ``CandidateError`` for one that makes too many files, which cost memory even when empty.
        """
        last = time.monotonic() + PATIENCE * seconds
        look = time.monotonic() + seconds
        while not select.select([fd], [], [], max(min(GLANCE, last - time.monotonic()), 0))[0]:
            now = time.monotonic()
            if now >= last or (now >= look and self.cpu() >= seconds):
                return False
            if scratch is not None and _files(scratch) > FILES:
                raise self._failure("error", f"the program made more than {FILES} files")
        return True

    def cpu(self) -> float:
        """Processor seconds the candidate has used."""
        self._control.send(json.dumps({"cpu": 0}).encode())
        return float(json.loads(self._control.recv(4096))["cpu"])

    def last_words(self) -> str:
        """The traceback that a program run as ``__main__`` left, or ''."""
        try:
            return str(wire.receive(self._fd, 1 << 20, time.monotonic() + 0.05)).strip().splitlines()[-1]
        except (wire.Gone, wire.Late, IndexError):
            return ""

    def load(self, code: str, seconds: float, prelude: bool = False, instance: bool = False) -> list[str]:
        """Run the program as a module; its names. Raises ``CandidateError``."""
        digits = 50_000 if prelude else 4300
        self.tell(
            {
                "kind": "calls",
                "code": code,
                "prelude": prelude,
                "instance": instance,
                "int_digits": digits,
                "classes": sorted(self.classes),
            },
            seconds,
        )
        answer = self.hear(seconds)
        if not isinstance(answer, dict) or not isinstance(answer.get("names"), list):
            raise CandidateRaised(*_problem(answer))
        return [n for n in answer["names"] if isinstance(n, str)]

    def named(self, name: str) -> Remote:
        """Stands for a name of the program, looked up when it is used."""
        return Remote(self, [name, "name"])

    def ask(self, do: str, arguments: list[Any], seconds: float, named: dict[str, Any] | None = None) -> Any:
        """One operation over there. Raises ``CandidateError`` for whatever goes wrong there, and ``Ungradable``
        for an argument that cannot be sent."""
        if self.failed is not None:
            raise self.failed
        objects = wire.Objects({c: n for n, c in self.classes.items()}, _hold)
        request = {
            "do": do,
            "args": [objects.encode(a) for a in arguments],
            "named": {k: objects.encode(v) for k, v in (named or {}).items()},
        }
        self.tell({**request, "objects": objects.table()}, seconds)
        answer = self.hear(seconds)
        if not isinstance(answer, dict) or "value" not in answer:
            raise CandidateRaised(*_problem(answer))
        try:
            read = wire.decode_with(answer.get("objects", ()), self.classes, lambda handle: Remote(self, handle))
            return read(answer["value"])
        except (wire.Gone, RecursionError) as error:
            raise CandidateError("error", str(error)) from None


def _files(folder: str) -> int:
    found = os.statvfs(folder)
    return found.f_files - found.f_ffree


class CandidateRaised(CandidateError):
    """The program under test raised an exception, by name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__("error", f"{name}: {text}" if text else name)
        self.name, self.text = name, text


def _problem(answer: Any) -> tuple[str, str]:
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, list) and len(error) == 2:
        return str(error[0]), str(error[1])
    return "ProtocolError", "the answer is no answer"


def _hold(value: object) -> Any:
    if isinstance(value, Remote):
        return {"h": value._handle}
    raise Ungradable(f"a test passes a {type(value).__name__}, which cannot be sent to the program")


class Remote:
    """Stands for an object of the program under test.

    Equal to itself only: its own ``__eq__`` is never asked, and whether something is in it is found out here,
    from its items. No operation below shows the program a value that the tests compare with, unless the tests
    themselves pass one as an argument, a key or an attribute.
    """

    __slots__ = ("_ahead", "_candidate", "_handle")

    def __init__(self, candidate: Candidate, handle: Any) -> None:
        object.__setattr__(self, "_candidate", candidate)
        object.__setattr__(self, "_handle", handle)
        object.__setattr__(self, "_ahead", deque())  # items of an iterator that are here already

    def _do(self, operation: str, *arguments: Any, **named: Any) -> Any:
        try:
            return self._candidate.ask(operation, [self, *arguments], self._candidate.budget, named)
        except CandidateRaised as error:
            # tests may expect an exception, so a builtin one is raised as itself
            kind = getattr(builtins, error.name, None)
            if not isinstance(kind, type) or not issubclass(kind, Exception) or issubclass(kind, _NEVER_RAISED):
                raise
            raise _made(kind, error) from error

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return self._do("getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._do("setattr", name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._do("call", *arguments, **named)

    def __iter__(self) -> Iterator[Any]:
        found = self._do("items", 0)
        return iter(found[1]) if found[0] else _one_by_one(self)

    def __next__(self) -> Any:
        if not self._ahead:
            self._ahead.extend(self._do("items", 1)[1])
        if not self._ahead:
            raise StopIteration
        return self._ahead.popleft()

    def __getitem__(self, key: Any) -> Any:
        return self._do("getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._do("setitem", key, value)

    def __contains__(self, item: Any) -> bool:
        return any(mine is item or mine == item for mine in self)

    def __len__(self) -> int:
        return int(self._do("len"))

    def __bool__(self) -> bool:
        return bool(self._do("bool"))

    def __int__(self) -> int:
        return int(self._do("int"))

    def __float__(self) -> float:
        return float(self._do("float"))

    def __str__(self) -> str:
        return str(self._do("str"))


def _made(kind: type[Exception], error: CandidateRaised) -> Exception:
    try:
        return kind(error.text)
    except TypeError:  # some, such as UnicodeDecodeError, want more than a message
        return error


def _one_by_one(iterator: Remote) -> Iterator[Any]:
    """Items of an iterator as they are wanted, since it may have no end; more and more cross together."""
    size = 1
    ahead = iterator._ahead
    while True:
        while ahead:
            yield ahead.popleft()
        ended, some = iterator._do("items", size)
        ahead.extend(some)
        if ended and not some:
            return
        size = min(2 * size, CHUNK)
