"""Math checks in processes of their own. A check that does not end is killed with its process, not by
signals.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.evals.mathcheck._number import MAX_DIGITS, exact_value, tidy

START_S = 120.0
TIMEOUT_S = 10.0
KNOWN_MAX = 200_000
PATIENCE = 4.0
# the worker loads these few files alone, not the package around them
_BOOT = (
    "import sys,types;p=types.ModuleType('checker');p.__path__=[sys.argv[1]];sys.modules['checker']=p;"
    "from checker._worker import main;main()"
)


class _Worker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, str(Path(__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            bufsize=0,
        )
        self._buffer = b""
        if self._line(START_S) != "ready":
            self.close()
            raise RuntimeError("the math checker's process did not start")

    def _line(self, seconds: float) -> str | None:
        assert self._process.stdout is not None
        fd, deadline = self._process.stdout.fileno(), time.monotonic() + PATIENCE * seconds
        used = self._cpu()
        while b"\n" not in self._buffer:
            if not select.select([fd], [], [], min(seconds, max(0.0, deadline - time.monotonic())))[0]:
                if time.monotonic() >= deadline or self._cpu() - used >= seconds:
                    return None
                continue
            part = os.read(fd, 65536)
            if not part:
                return None
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\n", 1)
        return str(json.loads(line))

    def _cpu(self) -> float:
        # processor time counts, so that a busy machine alone does not make a check late
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def check(self, gold: str, answer: str, seconds: float) -> str | None:
        """The outcome, or None when the worker is late or dead and must be closed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
        except OSError:
            return None
        return self._line(seconds)

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class MathPool:
    """Checks answers in up to ``workers`` processes.

    Plain numbers never leave this process: they are compared as exact fractions. The other processes start with the
    first check that needs one, end with this one, and can be closed before.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._count = workers or min(len(os.sched_getaffinity(0)), 8)
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(self._count):
            self._idle.put(None)
        self._known: dict[tuple[str, str], str] = {}

    def grade(
        self,
        pairs: Sequence[tuple[str, str]],
        timeout_s: float = TIMEOUT_S,
        progress: Callable[[int], object] | None = None,
    ) -> list[str]:
        """Outcome of each ``(gold, answer)``: ``correct``, ``wrong``, ``ungradable`` or ``timeout``, in order.

        ``timeout_s`` is the processor time of one check. A pair that was late is tried again when it is asked again.
        """
        if len(self._known) + len(pairs) > KNOWN_MAX:
            self._known.clear()
        hard: dict[tuple[str, str], None] = {}
        for pair in pairs:
            if pair not in self._known:
                quick = quick_outcome(*pair)
                if quick is None:
                    hard[pair] = None
                else:
                    self._known[pair] = quick
            if progress is not None and pair in self._known:
                progress(1)
        if hard:
            self._hard(Counter(p for p in pairs if p in hard), timeout_s, progress)
        outcomes = [self._known[pair] for pair in pairs]
        for pair in hard:
            if self._known.get(pair) == "timeout":
                del self._known[pair]
        return outcomes

    def _hard(self, hard: Counter[tuple[str, str]], timeout_s: float, progress: Callable[[int], object] | None) -> None:
        waiting: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        for pair in hard:
            waiting.put(pair)
        failures: list[BaseException] = []

        def work() -> None:
            worker = self._idle.get()
            try:
                while not failures:
                    try:
                        pair = waiting.get_nowait()
                    except queue.Empty:
                        return
                    worker = worker or _Worker()
                    outcome = worker.check(*pair, timeout_s)
                    if outcome is None:
                        worker.close()
                        worker = None
                    self._known[pair] = outcome or "timeout"
                    if progress is not None:
                        progress(hard[pair])
            except BaseException as error:
                failures.append(error)
            finally:
                self._idle.put(worker)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self._count, len(hard) // 8 + 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Kill the processes."""
        for _ in range(self._count):
            worker = self._idle.get()
            if worker is not None:
                worker.close()
            self._idle.put(None)


_shared: dict[tuple[int, int | None], MathPool] = {}


def shared_pool(workers: int | None = None) -> MathPool:
    """The pool of this process with so many workers. A worker takes seconds to start, so it is kept."""
    key = (os.getpid(), workers)  # a forked process must not talk to its parent's workers
    if key not in _shared:
        _shared[key] = MathPool(workers)
        atexit.register(_shared[key].close)
    return _shared[key]


def quick_outcome(gold: str, answer: str) -> str | None:
    """Outcome where both sides are plain numbers, or written alike; None where symbols have to be
    understood.
    """
    theirs, mine = exact_value(gold), exact_value(answer)
    if mine is not None and theirs is not None:
        return "correct" if mine == theirs else "wrong"
    if theirs is not None and len(answer) <= MAX_DIGITS and tidy(gold) == tidy(answer):
        return "correct"
    return None
