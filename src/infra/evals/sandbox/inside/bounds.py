"""What keeps the judge small and quick, whatever a program gave it: memory, processor time, length of texts."""

from __future__ import annotations

import mmap
import reprlib
import resource
import time

MIB = 1 << 20
TEXT = 200  # characters of a value or a message in a verdict
_INTEGER_BITS = 4096  # longer ones are described, since writing them out takes quadratic time
_NEVER = resource.RLIM_INFINITY


def bound_memory(more: int) -> None:
    """Let this process have ``more`` bytes of address space beyond what it holds now."""
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + more, _NEVER))


def _address_space() -> int:
    """Bytes of address space in use, to a MiB: the smallest limit under which one more page can be had.

    There is no /proc to ask in a sandbox.
    """
    low, high = 0, 1 << 27  # in MiB; the upper end is the whole of a 47-bit address space
    while high - low > 1:
        middle = (low + high) // 2
        resource.setrlimit(resource.RLIMIT_AS, (middle * MIB, _NEVER))
        try:
            mmap.mmap(-1, mmap.PAGESIZE).close()
            high = middle
        except OSError:
            low = middle
    return high * MIB


def allow(seconds: float) -> None:
    """Let this process use ``seconds`` of processor time from now on, rounded up; then the kernel ends it."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, _NEVER))


class _Short(reprlib.Repr):
    """``repr`` of plain data that looks at the beginning only."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxdict = 12
        self.maxstring = self.maxother = TEXT

    def repr_int(self, x: int, level: int) -> str:
        """Overrides the one that writes all digits before it leaves some out."""
        bits = x.bit_length()
        return f"an integer of {bits} bits" if bits > _INTEGER_BITS else repr(x)

    repr_bytes = repr_bytearray = lambda self, x, level: repr(x[:TEXT])


_SHORT = _Short()


def shown(value: object) -> str:
    """The beginning of a plain value's ``repr``."""
    return _SHORT.repr(value)[:TEXT]


def said(error: BaseException) -> str:
    """``error``'s message, or its arguments in short where it has none that can be written."""
    try:
        if all(isinstance(a, str) for a in error.args):
            return str(error)[:TEXT]
        return ", ".join(shown(a) for a in error.args[:3])[:TEXT]
    except Exception:
        return ""
