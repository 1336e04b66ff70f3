"""The list of system calls a candidate may make, as a classic BPF program (seccomp(2), filter mode).

Everything not listed fails with EPERM: no new processes, no other program, no sockets, no signals to
others, no tracing, no mounting, no namespaces. Threads of the own process stay possible.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

_X86_64 = {
    "read": 0,
    "write": 1,
    "open": 2,
    "close": 3,
    "stat": 4,
    "fstat": 5,
    "lstat": 6,
    "poll": 7,
    "lseek": 8,
    "mmap": 9,
    "mprotect": 10,
    "munmap": 11,
    "brk": 12,
    "rt_sigaction": 13,
    "rt_sigprocmask": 14,
    "rt_sigreturn": 15,
    "ioctl": 16,
    "pread64": 17,
    "pwrite64": 18,
    "readv": 19,
    "writev": 20,
    "access": 21,
    "pipe": 22,
    "select": 23,
    "sched_yield": 24,
    "mremap": 25,
    "mincore": 27,
    "madvise": 28,
    "dup": 32,
    "dup2": 33,
    "pause": 34,
    "nanosleep": 35,
    "getitimer": 36,
    "alarm": 37,
    "setitimer": 38,
    "getpid": 39,
    "sendfile": 40,
    "sendto": 44,
    "recvfrom": 45,
    "sendmsg": 46,
    "recvmsg": 47,
    "socketpair": 53,
    "clone": 56,
    "exit": 60,
    "wait4": 61,
    "kill": 62,
    "uname": 63,
    "fcntl": 72,
    "flock": 73,
    "fsync": 74,
    "fdatasync": 75,
    "truncate": 76,
    "ftruncate": 77,
    "getcwd": 79,
    "chdir": 80,
    "rename": 82,
    "mkdir": 83,
    "rmdir": 84,
    "unlink": 87,
    "readlink": 89,
    "umask": 95,
    "gettimeofday": 96,
    "getrlimit": 97,
    "getrusage": 98,
    "sysinfo": 99,
    "times": 100,
    "getuid": 102,
    "getgid": 104,
    "geteuid": 107,
    "getegid": 108,
    "getppid": 110,
    "rt_sigpending": 127,
    "rt_sigtimedwait": 128,
    "sigaltstack": 131,
    "statfs": 137,
    "fstatfs": 138,
    "prctl": 157,
    "arch_prctl": 158,
    "setrlimit": 160,
    "gettid": 186,
    "futex": 202,
    "sched_getaffinity": 204,
    "epoll_create": 213,
    "getdents64": 217,
    "set_tid_address": 218,
    "restart_syscall": 219,
    "clock_gettime": 228,
    "clock_getres": 229,
    "clock_nanosleep": 230,
    "exit_group": 231,
    "epoll_wait": 232,
    "epoll_ctl": 233,
    "tgkill": 234,
    "openat": 257,
    "mkdirat": 258,
    "newfstatat": 262,
    "unlinkat": 263,
    "renameat": 264,
    "readlinkat": 267,
    "faccessat": 269,
    "pselect6": 270,
    "ppoll": 271,
    "set_robust_list": 273,
    "epoll_pwait": 281,
    "eventfd2": 290,
    "epoll_create1": 291,
    "dup3": 292,
    "pipe2": 293,
    "prlimit64": 302,
    "renameat2": 316,
    "getrandom": 318,
    "memfd_create": 319,
    "membarrier": 324,
    "statx": 332,
    "rseq": 334,
    "clone3": 435,
    "close_range": 436,
    "faccessat2": 439,
}
_AARCH64 = {
    "getcwd": 17,
    "eventfd2": 19,
    "epoll_create1": 20,
    "epoll_ctl": 21,
    "epoll_pwait": 22,
    "dup": 23,
    "dup3": 24,
    "fcntl": 25,
    "ioctl": 29,
    "flock": 32,
    "mkdirat": 34,
    "unlinkat": 35,
    "renameat": 38,
    "statfs": 43,
    "fstatfs": 44,
    "truncate": 45,
    "ftruncate": 46,
    "faccessat": 48,
    "chdir": 49,
    "openat": 56,
    "close": 57,
    "pipe2": 59,
    "getdents64": 61,
    "lseek": 62,
    "read": 63,
    "write": 64,
    "readv": 65,
    "writev": 66,
    "pread64": 67,
    "pwrite64": 68,
    "sendfile": 71,
    "pselect6": 72,
    "ppoll": 73,
    "readlinkat": 78,
    "newfstatat": 79,
    "fstat": 80,
    "fsync": 82,
    "fdatasync": 83,
    "exit": 93,
    "exit_group": 94,
    "set_tid_address": 96,
    "futex": 98,
    "set_robust_list": 99,
    "nanosleep": 101,
    "getitimer": 102,
    "setitimer": 103,
    "clock_gettime": 113,
    "clock_getres": 114,
    "clock_nanosleep": 115,
    "sched_getaffinity": 123,
    "sched_yield": 124,
    "restart_syscall": 128,
    "kill": 129,
    "tgkill": 131,
    "sigaltstack": 132,
    "rt_sigaction": 134,
    "rt_sigprocmask": 135,
    "rt_sigpending": 136,
    "rt_sigtimedwait": 137,
    "rt_sigreturn": 139,
    "times": 153,
    "uname": 160,
    "getrlimit": 163,
    "setrlimit": 164,
    "getrusage": 165,
    "umask": 166,
    "prctl": 167,
    "gettimeofday": 169,
    "getpid": 172,
    "getppid": 173,
    "getuid": 174,
    "geteuid": 175,
    "getgid": 176,
    "getegid": 177,
    "gettid": 178,
    "sysinfo": 179,
    "socketpair": 199,
    "sendto": 206,
    "recvfrom": 207,
    "sendmsg": 211,
    "recvmsg": 212,
    "brk": 214,
    "munmap": 215,
    "mremap": 216,
    "clone": 220,
    "mmap": 222,
    "mprotect": 226,
    "mincore": 232,
    "madvise": 233,
    "wait4": 260,
    "prlimit64": 261,
    "renameat2": 276,
    "getrandom": 278,
    "memfd_create": 279,
    "membarrier": 283,
    "statx": 291,
    "rseq": 293,
    "clone3": 435,
    "close_range": 436,
    "faccessat2": 439,
}
_ARCHES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}

JUDGE_ONLY = frozenset({"sendmsg", "recvmsg", "memfd_create"})
SUPERVISOR_ONLY = frozenset({"clone", "kill", "prctl"})  # it forks, filters and ends judges
_CONDITIONAL = frozenset({"clone", "clone3", "kill", "tgkill", "ioctl", "fcntl", "prlimit64", "sendto", "socketpair"})
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIO(N)CLEX
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1031, 1032)  # dup, flags, locks, pipe size; no F_SETOWN, no leases
_CLONE_THREAD = 0x10000
# of asyncio's kind only: connected for good, so that it leads nowhere; a datagram socket can send to any other
_STREAM_PAIRS = tuple(1 | flags for flags in (0, 0x800, 0x80000, 0x80800))

_LIBC = ctypes.CDLL(None, use_errno=True)
_LD, _JEQ, _JSET, _RET = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000


def _fail(code: int) -> int:
    return 0x00050000 | code


def program(pid: int | None, extra: frozenset[str] = frozenset()) -> bytes:
    """The filter for process ``pid`` as packed ``struct sock_filter``. ``extra`` adds calls of ``JUDGE_ONLY`` and
    ``SUPERVISOR_ONLY``; those of the latter then have no conditions.

    Raises ``OSError`` on a machine whose system call numbers are not known here.
    """
    machine = platform.machine()
    if machine not in _ARCHES:
        raise OSError(errno.ENOSYS, f"no seccomp table for {machine}")
    arch, numbers = _ARCHES[machine]
    code: list[tuple[int, int, int, int]] = [(_LD, 0, 0, 4), (_JEQ, 1, 0, arch), (_RET, 0, 0, _KILL), (_LD, 0, 0, 0)]

    def only(name: str, argument: int, values: tuple[int, ...]) -> None:
        # if nr == name: load the argument's low half; allow when it is one of values, else EPERM
        if name in numbers and name not in extra:
            body = [(_LD, 0, 0, 16 + 8 * argument)]
            body += [(_JEQ, len(values) - i, 0, value) for i, value in enumerate(values)]
            body += [(_RET, 0, 0, _fail(errno.EPERM)), (_RET, 0, 0, _ALLOW)]
            code.extend([(_JEQ, 0, len(body), numbers[name]), *body])

    code += [(_JEQ, 0, 1, numbers["clone3"]), (_RET, 0, 0, _fail(errno.ENOSYS))]
    if "clone" not in extra:
        code += [
            (_JEQ, 0, 4, numbers["clone"]),
            (_LD, 0, 0, 16),
            (_JSET, 0, 1, _CLONE_THREAD),
            (_RET, 0, 0, _ALLOW),
            (_RET, 0, 0, _fail(errno.EPERM)),
        ]
    code += [
        (_JEQ, 0, 6, numbers["sendto"]),  # to the connected peer only: no address, in either half of the pointer
        (_LD, 0, 0, 16 + 8 * 4),
        (_JEQ, 0, 3, 0),
        (_LD, 0, 0, 20 + 8 * 4),
        (_JEQ, 0, 1, 0),
        (_RET, 0, 0, _ALLOW),
        (_RET, 0, 0, _fail(errno.EPERM)),
    ]
    if pid is not None:
        only("kill", 0, (pid,))
        only("tgkill", 0, (pid,))
    only("prlimit64", 0, (0,))
    only("ioctl", 1, _IOCTLS)
    only("fcntl", 1, _FCNTLS)
    only("socketpair", 1, _STREAM_PAIRS)
    optional = (JUDGE_ONLY | SUPERVISOR_ONLY) - extra
    allowed = [n for n in numbers if n in extra or (n not in _CONDITIONAL and n not in optional)]
    for name in allowed:
        code += [(_JEQ, 0, 1, numbers[name]), (_RET, 0, 0, _ALLOW)]
    code.append((_RET, 0, 0, _fail(errno.EPERM)))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install(filter_bytes: bytes) -> None:
    """Put this process under the filter for good (PR_SET_NO_NEW_PRIVS first). Raises ``OSError``."""
    buffer = ctypes.create_string_buffer(filter_bytes, len(filter_bytes))
    described = _Program(len(filter_bytes) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if _LIBC.prctl(38, 1, 0, 0, 0) or _LIBC.prctl(22, 2, ctypes.byref(described), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter refused")
