"""Commands in processes that are born quickly (forked from one that has everything imported) and die on purpose.

A fault is what goes wrong inside the process: a rename that kills it, a limit on file sizes, a clock that jumps.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
UNHASHED = ("runtime.jsonl", "metrics.jsonl", "summary.json", ".lock")  # times and host facts


@dataclass(frozen=True)
class DieAtRename:
    """SIGKILL just before or just after a file or folder is renamed to ``destination`` (the end of its path)."""

    destination: str
    after: bool

    def install(self) -> None:
        def fatal(source: Any, destination: Any, rename: Callable[..., None]) -> None:
            hit = str(destination).endswith(self.destination)
            if hit and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, destination)
            if hit:
                os.kill(os.getpid(), signal.SIGKILL)

        double_renames(fatal)


@dataclass(frozen=True)
class RecordRenames:
    """Append the destination of every rename to ``log``."""

    log: Path

    def install(self) -> None:
        def noted(source: Any, destination: Any, rename: Callable[..., None]) -> None:
            rename(source, destination)
            with open(self.log, "a") as out:
                out.write(f"{destination}\n")

        double_renames(noted)


@dataclass(frozen=True)
class FileLimit:
    """No file grows beyond ``size`` bytes (EFBIG, as a full quota of one file)."""

    size: int

    def install(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


@dataclass(frozen=True)
class JumpingClock:
    """``time.time`` jumps back and forth by up to 20 years between any two calls."""

    seed: int

    def install(self) -> None:
        real, rng = time.time, random.Random(self.seed)
        time.time = lambda: real() + rng.uniform(-6e8, 6e8)


Fault = DieAtRename | RecordRenames | FileLimit | JumpingClock


def double_renames(double: Callable[[Any, Any, Callable[..., None]], None]) -> None:
    """Put a test double in the place of os.replace and os.rename, which pathlib calls too."""
    for name in ("replace", "rename"):
        real = getattr(os, name)
        setattr(os, name, lambda source, destination, real=real: double(source, destination, real))


def start(arguments: Sequence[str], log: Path, fault: Fault | None = None) -> BaseProcess:
    """``infra ARGUMENTS`` in a process of its own; what it prints goes to ``log``."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preload"])
    process = context.Process(target=command, args=(list(arguments), log, fault))
    process.start()
    return process


def run(arguments: Sequence[str], log: Path, fault: Fault | None = None) -> int:
    """The same, to its end. Returns the exit code; minus the signal's number for a killed one."""
    process = start(arguments, log, fault)
    process.join(1500)
    assert process.exitcode is not None, "the command hangs"
    return process.exitcode


def command(arguments: list[str], log: Path, fault: Fault | None) -> None:
    """What the child does."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    if fault is not None:
        fault.install()
    sys.argv = ["infra", *arguments]
    from infra.cli import main

    main()


def contents(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file of a run that its settings and inputs determine."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in UNHASHED
    }
