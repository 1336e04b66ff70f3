"""A Landlock domain: which parts of the file system exist, no TCP, no signals outwards (landlock(7))."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

LEAST_ABI = 3  # the first that can forbid truncate(2): without it a path is not safe from being emptied
_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
READ_FILE, READ_DIR, WRITE_FILE, TRUNCATE, IOCTL_DEV = 1 << 2, 1 << 3, 1 << 1, 1 << 14, 1 << 15
_OF_FILES = 1 | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_MAKE = (1 << 4) | (1 << 5) | (1 << 7) | (1 << 8)  # remove directory and file, make directory and file


_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


def _syscall(*arguments: object) -> int:
    result = int(_LIBC.syscall(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def abi() -> int:
    """Version of Landlock in the running kernel, 0 when there is none."""
    try:
        return _syscall(ctypes.c_long(_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0


def _all_rights(version: int) -> int:
    return (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1


def ruleset(read: Sequence[str], listed: Sequence[str] = (), write: Sequence[str] = ()) -> int:
    """File descriptor of a rule set: files under ``read`` can be read, folders ``listed`` only listed, and
    under ``write`` files also written, made and removed. Nothing else of the file system, no TCP, and
    (kernel 6.12 on) no
    signal to a process outside the domain. Paths that do not exist are left out. Raises ``OSError``."""
    version = abi()
    everything = _all_rights(version)
    fields = [everything, 3, 3][: 1 if version < 4 else 2 if version < 6 else 3]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    handle = _syscall(ctypes.c_long(_CREATE), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    rights = [(p, READ_FILE | READ_DIR) for p in read] + [(p, READ_DIR) for p in listed]
    rights += [(p, READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | _MAKE) for p in write]
    for path, right in rights:
        try:
            target = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        allowed = right & everything & (-1 if os.path.isdir(path) else _OF_FILES)
        _syscall(
            ctypes.c_long(_ADD),
            ctypes.c_int(handle),
            ctypes.c_int(1),
            struct.pack("=Qi", allowed, target),
            ctypes.c_uint32(0),
        )
        os.close(target)
    return handle


def restrict(handle: int) -> None:
    """Enter a new domain with these rules, for good. Needs PR_SET_NO_NEW_PRIVS. Raises ``OSError``."""
    _syscall(ctypes.c_long(_RESTRICT), ctypes.c_int(handle), ctypes.c_uint32(0))
