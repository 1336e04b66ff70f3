"""Judging one job in a process of its own, which may use no more than the program may.

What a program returns can be small to send and huge to look at (``range(10 ** 9)`` in ``set``, ``2 ** 10 ** 7`` as
text). The judge process then breaks a limit and is ended, and that is the program's fault. The tests a job leaves
behind in its judge (patched modules, seeds) are gone with it, too.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from . import bounds, seccomp
from . import judge as judging
from .verdicts import Verdict, verdict

_LIBC = ctypes.CDLL(None)
_LONGEST = 1 << 20  # bytes of a verdict
_ROOM = 16  # bytes of memory that a byte of tests may take once it is parsed


def judged(job: dict[str, Any], size: int, control: socket.socket, filtered: bool) -> Verdict:
    """The verdict on ``job``, which came as ``size`` bytes; ends every candidate it started.

    ``filtered``: put the judge under a system call filter (not on machines that have none).
    """
    mine, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(mine)
        _judge_and_leave(job, size, control, theirs, filtered)
    os.close(theirs)
    said, ended = _read(mine, time.monotonic() + job["patience_s"])
    os.close(mine)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    _end_candidate(control)
    try:
        answer = json.loads(said)
        return {key: answer[key] for key in ("outcome", "detail", "codes")}
    except (ValueError, TypeError, KeyError):
        return _lost(os.waitstatus_to_exitcode(status), ended, job)


def _judge_and_leave(job: dict[str, Any], size: int, control: socket.socket, out: int, filtered: bool) -> None:
    """The judge's process. Never returns."""
    code = 1
    try:
        _LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)  # die with the supervisor
        silent = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(silent, fd)  # tests may print: nothing of it must look like a verdict
        if filtered:
            seccomp.install(seccomp.program(os.getpid(), seccomp.JUDGE_ONLY))
        sys.set_int_max_str_digits(50_000 if job["tests"]["kind"] in ("stdin", "functional") else 4300)
        bounds.bound_memory(job["limits"]["memory"] + _ROOM * size)
        try:
            answer = judging.judge(job, control)
        except MemoryError:
            answer = _too_large(job)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            answer = verdict("ungradable", f"{type(error).__name__}: {bounds.said(error)}")
        left = memoryview(json.dumps(answer).encode())
        while left:
            left = left[os.write(out, left) :]
        code = 0
    finally:
        os._exit(code)


def _read(fd: int, deadline: float) -> tuple[bytes, bool]:
    """All that is written before the other end closes, and whether it closed in time."""
    said = b""
    while len(said) <= _LONGEST:
        if not select.select([fd], [], [], max(deadline - time.monotonic(), 0))[0]:
            return b"", False
        part = os.read(fd, 1 << 16)
        if not part:
            return said, True
        said += part
    return b"", False


def _end_candidate(control: socket.socket) -> None:
    """End the candidate that a judge may have left, and read away what the judge did not."""
    control.send(json.dumps({"end": 0}).encode())
    while "code" not in json.loads(control.recv(4096)):
        pass


def _too_large(job: dict[str, Any]) -> Verdict:
    return verdict("error", f"judging the program took more than {job['limits']['memory'] // bounds.MIB} MiB")


def _lost(status: int, ended: bool, job: dict[str, Any]) -> Verdict:
    """The verdict where the judge's process gave none."""
    if not ended or status == -signal.SIGXCPU:
        return verdict("timeout", f"judging the program took longer than {job['timeout_s']} s a test")
    return _too_large(job)
