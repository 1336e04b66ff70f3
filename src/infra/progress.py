"""Progress for anything that lasts: a bar with rate and remaining time on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

_hidden = False


def hide_bars() -> None:
    """No bar in this process from now on: a worker beside others would draw over theirs."""
    global _hidden
    _hidden = True


class Bar:
    """A bar on standard error. It appears after two seconds and only on a terminal."""

    def __init__(self, total: float | None, label: str, unit: str) -> None:
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

    def advance(self, n: int = 1) -> None:
        """``n`` more units are done."""
        self._bar.update(n)

    def reach(self, done: int, total: int) -> None:
        """``done`` of ``total`` units are done in all."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


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
