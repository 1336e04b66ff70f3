"""Progress for anything that lasts: a bar with rate and remaining time on a terminal, lines in a log.

Whatever happens inside :func:`alive` is never silent for more than ten seconds: on a terminal the bar is drawn again,
elsewhere a line says how far the innermost bar is, or for how long the work has lasted.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

EVERY = 5.0
"""Seconds between two lines about one bar in the log."""

SILENCE = 9.0
"""Seconds without a word after which :func:`alive` says something; it looks once a second."""

_hidden = False
_log: Path | None = None
_bars: list[Bar] = []
_alive: list[tuple[str, float]] = []
_spoken = time.monotonic()


def log_to(path: Path | None) -> None:
    """From now on every bar also says in this JSONL file, every few seconds and at its end, how far it is."""
    global _log
    _log = path


def log_line(entry: Mapping[str, Any]) -> None:
    """One JSON line, with the time, to the file of :func:`log_to`; nothing without one. Appends whole."""
    if _log is None:
        return
    line = json.dumps({"time": round(time.time(), 3), **entry}) + "\n"
    with suppress(OSError), open(_log, "a", encoding="utf-8") as handle:  # watching must not end a run
        handle.write(line)


def hide_bars() -> None:
    """No bar in this process from now on: a worker beside others would draw over theirs.

    Nor does tqdm make its lock between processes here, a semaphore that would outlive a worker that is killed.
    """
    global _hidden
    _hidden = True
    tqdm.set_lock(threading.RLock())


class Bar:
    """A bar on standard error. It appears after two seconds and only on a terminal."""

    def __init__(self, total: float | None, label: str, unit: str) -> None:
        self._label, self._unit = label, unit
        self._done, self._began, self._told = 0.0, time.monotonic(), time.monotonic()
        self._bar = tqdm(
            total=total,
            desc=label,
            unit=f" {unit}",
            delay=2.0,
            leave=False,
            dynamic_ncols=True,
            smoothing=0.1,
            disable=_hidden or not sys.stderr.isatty(),
            file=sys.stderr,
        )
        _bars.append(self)

    def advance(self, n: float = 1) -> None:
        """``n`` more units are done."""
        self._bar.update(n)
        self._done += n
        if time.monotonic() - self._told >= EVERY:
            self._tell()

    def reach(self, done: int, total: int) -> None:
        """``done`` of ``total`` units are done in all."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        self._done = done
        if time.monotonic() - self._told >= EVERY:
            self._tell()

    def close(self) -> None:
        """The work is at its end, or given up."""
        _bars.remove(self)
        self._bar.close()
        if self._done:
            self._tell()

    @property
    def moved(self) -> bool:
        """Whether anything is done."""
        return self._done > 0

    def redraw(self) -> bool:
        """Draw the bar again, with the time that has passed; False where there is none to be seen."""
        if self._bar.disable:
            return False
        self._bar.refresh()
        return True

    def __str__(self) -> str:
        unit = f"{self._unit}s" if self._done != 1 and not self._unit.endswith("s") else self._unit
        of = "" if self._bar.total is None else f" of {self._bar.total:,.0f}"
        _, left = self._pace()
        rest = "" if left is None else f", about {duration(left)} left"
        return f"{self._label}: {self._done:,.0f}{of} {unit} in {duration(time.monotonic() - self._began)}{rest}"

    def _pace(self) -> tuple[float, float | None]:
        """Units a second, and seconds left where both are known."""
        rate = self._done / max(time.monotonic() - self._began, 1e-9)
        total = self._bar.total
        return rate, None if total is None or rate == 0 else max(0.0, total - self._done) / rate

    def _tell(self) -> None:
        self._told = time.monotonic()
        total, (rate, left) = self._bar.total, self._pace()
        left = None if left is None else round(left, 1)
        about = {"label": self._label, "unit": self._unit, "done": self._done, "total": total}
        log_line({**about, "per_second": round(rate, 3), "seconds_left": left})


@contextmanager
def progress(total: float | None, label: str, unit: str = "it") -> Iterator[Bar]:
    """A bar for the block."""
    bar = Bar(total, label, unit)
    try:
        yield bar
    finally:
        bar.close()


def say(text: str) -> None:
    """One line to a person watching: standard error, above any bar."""
    global _spoken
    _spoken = time.monotonic()
    tqdm.write(text, file=sys.stderr)


@contextmanager
def alive(label: str) -> Iterator[None]:
    """While the block lasts something is heard at least every ten seconds. Blocks may lie in one another."""
    global _spoken
    _spoken = time.monotonic()
    _alive.append((label, _spoken))
    ended = threading.Event()
    if len(_alive) == 1:
        threading.Thread(target=_watch, args=(ended,), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        _alive.pop()


def duration(seconds: float) -> str:
    """A duration in the unit that suits it, such as ``95 s`` or ``2.1 min``."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _watch(ended: threading.Event) -> None:
    while not ended.wait(min(1.0, SILENCE / 4)):
        if time.monotonic() - _spoken >= SILENCE:
            with suppress(IndexError, ValueError, OSError):  # the work has just ended, or nobody can hear
                _break_silence()


def _break_silence() -> None:
    """Draw the bar again, or write a line. A process that hides its bars speaks for a run's stage if it was started for
    one, and into a log only: on a terminal its parent draws the bar."""
    global _spoken
    _spoken = time.monotonic()
    worker = multiprocessing.parent_process() is not None
    if _hidden and (not worker or sys.stderr.isatty()):
        return
    bar = _bars[-1] if _bars else None
    if bar is not None and bar.redraw():
        return
    label, began = _alive[-1]
    say(str(bar) if bar is not None and bar.moved else f"{label}: at work for {duration(_spoken - began)}")
