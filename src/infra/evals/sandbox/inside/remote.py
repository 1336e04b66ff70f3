"""The judge's side of a candidate: start it, ask it, and stand-ins for objects that stay over there."""

from __future__ import annotations

import builtins
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

from . import wire

ANSWER_LIMIT = 1 << 26
PATIENCE = 4.0


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
        self._socket, self._fd = mine, mine.fileno()
        self._status: dict[str, Any] | None = None
        self.budget = 10.0

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

    def tell(self, message: Any) -> None:
        """Send a message; a candidate that is gone is noticed when its answer is read."""
        with suppress(OSError):
            wire.send(self._fd, message)

    def hear(self, seconds: float) -> Any:
        """The next message. Raises ``CandidateError``."""
        try:
            if not self.wait_for(self._fd, seconds):
                raise wire.Late
            return wire.receive(self._fd, ANSWER_LIMIT, time.monotonic() + max(seconds, 1.0))
        except wire.Late:
            raise CandidateError("timeout", f"no answer after {seconds} s") from None
        except wire.Gone as gone:
            status = self.end(0.2)
            text = f"the process ended ({gone}; exit status {status['code']}, signal {status['signal']})"
            raise CandidateError("timeout" if status["signal"] == 24 else "error", text) from None

    def wait_for(self, fd: int, seconds: float) -> bool:
        """Wait until ``fd`` can be read. False once the candidate has used ``seconds`` of processor time since it
        began, or ``PATIENCE`` times as long has gone by: a busy machine alone does not make a program late."""
        last = time.monotonic() + PATIENCE * seconds
        while not select.select([fd], [], [], max(min(seconds, last - time.monotonic()), 0))[0]:
            if time.monotonic() >= last or self.cpu() >= seconds:
                return False
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
        self.tell({"kind": "calls", "code": code, "prelude": prelude, "instance": instance, "int_digits": digits})
        answer = self.hear(seconds)
        if not isinstance(answer, dict) or not isinstance(answer.get("names"), list):
            raise CandidateError("error", _problem(answer)[1])
        return [str(n) for n in answer["names"]]

    def named(self, name: str) -> Remote:
        """Stands for a name of the program, looked up when it is used."""
        return Remote(self, [name, "name"])

    def ask(self, do: str, arguments: list[Any], seconds: float, named: dict[str, Any] | None = None) -> Any:
        """One operation over there. Raises ``CandidateError`` for whatever goes wrong."""
        request = {
            "do": do,
            "args": [wire.encode(a, _hold) for a in arguments],
            "named": {k: wire.encode(v, _hold) for k, v in (named or {}).items()},
        }
        self.tell(request)
        answer = self.hear(seconds)
        if not isinstance(answer, dict) or "value" not in answer:
            name, text = _problem(answer)
            raise CandidateRaised(name, text)
        try:
            return wire.decode(answer["value"], lambda handle: Remote(self, handle))
        except (wire.Gone, RecursionError) as error:
            raise CandidateError("error", str(error)) from None


class CandidateRaised(CandidateError):
    """The program under test raised an exception, by name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__("error", f"{name}: {text}")
        self.name = name


def _problem(answer: Any) -> tuple[str, str]:
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, list) and len(error) == 2:
        return str(error[0]), f"{error[0]}: {error[1]}"
    return "ProtocolError", "the answer is no answer"


def _hold(value: object) -> Any:
    if isinstance(value, Remote):
        return {"h": value._handle}
    raise CandidateError("error", f"a test passes a {type(value).__name__}, which cannot be sent to the program")


class Remote:
    """Stands for an object of the program under test. Equal to itself only: its own ``__eq__`` is never
    asked.
    """

    __slots__ = ("_candidate", "_handle")

    def __init__(self, candidate: Candidate, handle: Any) -> None:
        object.__setattr__(self, "_candidate", candidate)
        object.__setattr__(self, "_handle", handle)

    def _do(self, operation: str, *arguments: Any, **named: Any) -> Any:
        try:
            return self._candidate.ask(operation, [self, *arguments], self._candidate.budget, named)
        except CandidateRaised as error:
            # tests may expect an exception, so a builtin one is raised as itself
            kind = getattr(builtins, error.name, None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                raise kind(*error.args) from error
            raise

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return self._do("getattr", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._do("setattr", name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._do("call", *arguments, **named)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._do("list"))

    def __next__(self) -> Any:
        return self._do("next")

    def __getitem__(self, key: Any) -> Any:
        return self._do("getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._do("setitem", key, value)

    def __contains__(self, item: Any) -> bool:
        return bool(self._do("contains", item))

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
