"""Entry of the sandbox: give up privileges, fork the zygote, then have one job judged per line of standard input.

Lines out: ``{"ready": {...}}`` once, then per job ``{"start": id}`` and ``{"id", "seconds", "outcome", "detail",
"codes", "spent"}``. After ``spent`` the sandbox holds something that cannot be removed and is to be replaced.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.machinery
import json
import os
import resource
import shutil
import socket
import sys
import time
from typing import Any

from . import landlock, remote, seccomp, supervisor, zygote

DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2


def _drop_privileges(uid: int | None, user_namespace: bool, read_all: bool) -> None:
    """Become ``uid`` (when root) and lose every capability, also those a later exec would give back.

    ``read_all`` keeps one: to read files that only root may read. An interpreter below /root needs it. What it can
    read is bounded by the mounts of the namespace or, where there is none, by the Landlock domain, which also
    forbids to write. Raises ``OSError`` when root does not have it (some containers).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    kept = 0
    if uid is not None and os.geteuid() == 0:
        if read_all:
            libc.prctl(8, 1, 0, 0, 0)  # keep capabilities over the change of user
            kept = _one_of(libc, DAC_READ_SEARCH, DAC_OVERRIDE)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if user_namespace and not kept:
        libc.unshare(0x10000000)  # where the kernel lets an ordinary user do so
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "the capabilities cannot be given up")
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges
    libc.prctl(4, 0, 0, 0, 0)  # not dumpable: /proc/<pid>/mem is closed to equals


def _one_of(libc: ctypes.CDLL, *wanted: int) -> int:
    """The first of these capabilities that this process has, as a bit."""
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    for number in wanted:
        if data[1] >> number & 1:
            return 1 << number
    raise PermissionError("only root can read the interpreter, and this root may not hand that right on")


class _Packages:
    """Finds the packages a program may import. Those beside them, which it may not read, are not found at all."""

    def __init__(self, folders: list[str], names: list[str]) -> None:
        self._folders, self._names = folders, names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The specification of one of the packages; None for everything else."""
        if path is not None or name not in self._names:
            return None
        return importlib.machinery.PathFinder.find_spec(name, self._folders)


def run(config: dict[str, Any]) -> None:
    """Serve until standard input closes."""
    _drop_privileges(config["uid"], config["user_namespace"], config["read_all"])
    sys.path[:] = [p for p in sys.path if not p.endswith("/inside")]
    sys.meta_path.append(_Packages(config["packages"], config["names"]))
    sys.setrecursionlimit(20_000)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warm()
    judge_end, zygote_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        judge_end.close()
        silent = os.open("/dev/null", os.O_RDWR)
        os.dup2(silent, 0)
        os.dup2(silent, 1)
        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # die with the judge
        zygote.serve(zygote_end, config)
    zygote_end.close()
    if config["landlock"]:
        landlock.restrict(landlock.ruleset(config["read"], config["listed"], config["write"]))
    if config["seccomp"]:
        seccomp.install(seccomp.program(None, seccomp.JUDGE_ONLY | seccomp.SUPERVISOR_ONLY))
    scratch = [folder for folder in config["write"] if os.path.isdir(folder)]
    remote.scratch = scratch[0] if scratch else None
    gc.collect()
    gc.freeze()  # judges are forked from here: leave their pages alone
    _say({"ready": {"landlock": config["landlock"] and landlock.abi(), "uid": os.getuid()}})
    for line in sys.stdin.buffer:
        job = json.loads(line)
        _say({"start": job["id"]})
        began = time.monotonic()
        answer = supervisor.judged(job, len(line), judge_end, config["seccomp"])
        seconds = round(time.monotonic() - began, 6)
        _say({"id": job["id"], "seconds": seconds, **answer, "spent": not all(_cleaned(f) for f in scratch)})


def warm() -> None:
    """Import what programs usually need once, so that candidates find it loaded."""
    import bisect, collections, copy, datetime, decimal, fractions, functools, heapq, itertools  # noqa: E401, F401, I001
    import math, operator, random, re, statistics, string, typing, _sitebuiltins  # noqa: E401, F401


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _cleaned(folder: str) -> bool:
    """Leave nothing of one program to the next. False when something cannot be removed."""
    try:
        for entry in list(os.scandir(folder)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
    except (OSError, RecursionError):  # folders without permissions, or too deep
        return False
    return True
