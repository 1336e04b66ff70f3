"""Processes as torchrun starts them, but forked from the test's own, so that they are there at once.

A fork keeps the locks that other threads of the test's process held, and pytest-xdist has such threads: now and then a
child hangs before it has done anything. It then says where it stands, and the test runs once more (tests/conftest.py).
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def start(size: int, job: Callable[..., Any], *arguments: Any) -> list[BaseProcess]:
    """``job(*arguments)`` in ``size`` processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    found = [fork.Process(target=_run, args=(environment(r, size, port), job, arguments)) for r in range(size)]
    for process in found:
        process.start()
    return found


class Hung(AssertionError):
    """A process did not end in time; where it stood is in the captured output."""


def together(size: int, job: Callable[..., Any], *arguments: Any) -> None:
    """The same, to its end; every process must end well."""
    processes = start(size, job, *arguments)
    for process in processes:
        process.join(280)
    codes = [p.exitcode for p in processes]
    for process in processes:
        if process.exitcode is None:
            os.kill(process.pid or 0, signal.SIGUSR1)
            process.join(2)
        process.kill()
    if None in codes:
        raise Hung(f"exit codes {codes}")
    assert codes == [0] * size, f"exit codes {codes}"


def _run(variables: dict[str, str], job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(variables)
    faulthandler.register(signal.SIGUSR1, file=sys.__stderr__)
    code = 0
    try:
        job(*arguments)
    except BaseException:
        traceback.print_exc()
        code = 1
    os._exit(code)  # not through pytest's own ending


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every file."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
