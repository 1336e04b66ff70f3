"""Progress for anything that lasts: a bar with rate and remaining time on a terminal, silence elsewhere."""

from __future__ import annotations

import json
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

_hidden = False
_log: Path | None = None


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
        self._bar.close()
        if self._done:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        total, rate = self._bar.total, self._done / max(self._told - self._began, 1e-9)
        left = None if total is None or rate == 0 else round(max(0.0, total - self._done) / rate, 1)
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
    tqdm.write(text, file=sys.stderr)
