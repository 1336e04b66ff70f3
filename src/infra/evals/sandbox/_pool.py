"""Many programs through a few sandboxes: one launch serves many jobs, a broken sandbox is replaced."""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

from infra.errors import ResourceError
from infra.evals.sandbox import _host
from infra.progress import log_line

MIB = 1 << 20
_LAST_BREATH = 5.0  # seconds that killed processes get to be gone


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one candidate process: address space, largest file, and standard output or one answer, in bytes; processor
    time in s. The judge may hold ``memory`` as well, beyond the tests, for what the program gave it.
    """

    memory: int = 1024 * MIB
    file_size: int = 4 * MIB
    output: int = 16 * MIB
    cpu_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """A program with its tests (see :class:`infra.data.schema.Record`), ``timeout_s`` per test, and a
    mode.
    """

    code: str
    tests: dict[str, Any]
    timeout_s: float = 6.0
    mode: str = "strict"
    limits: Limits = Limits()

    def patience(self) -> float:
        """Longest this job may lawfully take, in seconds."""
        cases = len(self.tests.get("cases", ())) or len(self.tests.get("asserts", ())) or 1
        return 4 * (self.timeout_s + 1) * (cases + 2) + 10  # see PATIENCE inside


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one job: outcome, detail, LiveCodeBench result codes per test, and seconds inside the
    sandbox.
    """

    outcome: str
    detail: str
    codes: tuple[Any, ...]
    seconds: float


class _Broken(Exception):
    """The sandbox died or fell silent while it worked on a job."""


class Sandbox:
    """One running sandbox. Jobs go in one at a time; ``close`` (or leaving the block) kills every process in it.

    Raises ``ResourceError`` when it cannot be started.
    """

    def __init__(self, backend: str) -> None:
        self._process = _host.start(backend)
        self._buffer = b""
        self.spent = False  # a program left something that cannot be removed: use another sandbox from now on
        try:
            self._line(60.0)
        except _Broken as error:
            text = self.close().decode(errors="replace")
            raise ResourceError(
                f"the sandbox ({backend}) did not start ({text.strip()[-300:] or error}); look whether the machine is "
                "out of memory or processes"
            ) from error

    def run(self, job: Job) -> Ran:
        """One job. Raises ``_Broken`` when the sandbox did not survive it."""
        body = {
            "id": 0,
            "code": job.code,
            "tests": job.tests,
            "timeout_s": job.timeout_s,
            "mode": job.mode,
            "patience_s": job.patience(),
            "limits": {**asdict(job.limits), "cpu_s": max(job.limits.cpu_s, job.timeout_s)},
        }
        assert self._process.stdin is not None
        try:
            view = memoryview(json.dumps(body).encode() + b"\n")
            while view:
                view = view[self._process.stdin.write(view) :]
        except OSError as error:
            raise _Broken(str(error)) from error
        self._line(60.0)
        answer = self._line(job.patience() + _LAST_BREATH + 15)
        self.spent = bool(answer["spent"])
        return Ran(str(answer["outcome"]), str(answer["detail"]), tuple(answer["codes"]), float(answer["seconds"]))

    def _line(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        fd, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if not select.select([fd], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise _Broken(f"no sign of life for {seconds:.0f} s")
            part = os.read(fd, 1 << 16)
            if not part:
                raise _Broken("it ended")
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError) as error:
            raise _Broken("it said something that is no answer") from error

    def close(self) -> bytes:
        """Kill the sandbox with everything inside, and wait until it is gone; what standard error held."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + _LAST_BREATH
        said = [_drained(pipe, deadline) for pipe in (self._process.stdout, self._process.stderr)]
        if self._process.stdin is not None:
            self._process.stdin.close()
        return said[1]

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _drained(pipe: IO[bytes] | None, deadline: float) -> bytes:
    """Read until nobody can write any more, and close. The judge holds standard output, the zygote standard error."""
    said = b""
    if pipe is not None:
        while select.select([pipe], [], [], max(deadline - time.monotonic(), 0))[0]:
            part = os.read(pipe.fileno(), 1 << 16)
            if not part:
                break
            said = (said + part)[-4096:]
        pipe.close()
    return said


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    backend: str | None = None,
    unsafe_execution: bool = False,
    progress: Callable[[int], object] | None = None,
) -> list[Ran]:
    """Run every job, in ``workers`` sandboxes side by side (default: the processors, at most 8); results in
    order.

    A job whose sandbox is lost, which no known program brings about, is run once more in a new one; if that is lost
    too, it is an ``error``. Raises ``ResourceError`` when no sandbox works here and ``unsafe_execution`` was not
    given.
    """
    if not jobs:
        return []
    chosen = backend or _host.choose(unsafe_execution)
    log_line({"sandbox": chosen, "programs": len(jobs)})
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(len(jobs)):
        waiting.put(i)
    results: dict[int, Ran] = {}
    failures: list[BaseException] = []

    def work() -> None:
        sandbox: Sandbox | None = None
        lost = ""
        try:
            while not failures:
                try:
                    i = waiting.get_nowait()
                except queue.Empty:
                    return
                for _ in range(2):
                    if sandbox is None or sandbox.spent:
                        sandbox = _renewed(sandbox, chosen)
                    try:
                        results[i] = sandbox.run(jobs[i])
                        break
                    except _Broken as error:
                        sandbox.spent, lost = True, str(error)
                else:
                    results[i] = Ran("error", f"the sandbox was lost twice: {lost}", (), 0.0)
                if progress is not None:
                    progress(1)
        except BaseException as error:
            failures.append(error)
        finally:
            if sandbox is not None:
                sandbox.close()

    count = min(workers or min(len(os.sched_getaffinity(0)), 8), max(1, len(jobs) // 8 + 1))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [results[i] for i in range(len(jobs))]


def _renewed(sandbox: Sandbox | None, backend: str) -> Sandbox:
    if sandbox is not None:
        sandbox.close()
    return Sandbox(backend)


__all__ = ["Job", "Limits", "Ran", "Sandbox", "run_jobs"]
