"""Entry of the sandbox: give up privileges, fork the zygote, then judge one job per line of standard input.

Lines out: ``{"ready": {...}}`` once, then ``{"start": id}`` and ``{"id": id, "outcome", "detail",
"codes"}`` per job.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import sys
import time
from typing import Any

from . import judge as judging
from . import landlock, seccomp, zygote


def _drop_privileges(uid: int | None, user_namespace: bool) -> None:
    """Become ``uid`` (when root) and lose every capability, also those a later exec would give back."""
    libc = ctypes.CDLL(None, use_errno=True)
    if uid is not None and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if user_namespace:
        libc.unshare(0x10000000)  # where the kernel lets an ordinary user do so
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capset(header, data)
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges
    libc.prctl(4, 0, 0, 0, 0)  # not dumpable: /proc/<pid>/mem is closed to equals


def run(config: dict[str, Any]) -> None:
    """Serve until standard input closes."""
    _drop_privileges(config["uid"], config["user_namespace"])
    sys.path[:] = [p for p in sys.path if not p.endswith("/inside")] + config["packages"]
    sys.set_int_max_str_digits(0)
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
        seccomp.install(seccomp.program(os.getpid(), seccomp.JUDGE_ONLY))
    _say({"ready": {"landlock": config["landlock"] and landlock.abi(), "uid": os.getuid()}})
    for line in sys.stdin.buffer:
        job = json.loads(line)
        _say({"start": job["id"]})
        began = time.monotonic()
        try:
            answer = judging.judge(job, judge_end)
        except (RecursionError, MemoryError, ValueError, KeyError, TypeError) as error:
            answer = judging.verdict("ungradable", f"{type(error).__name__}: {error}")
        _clean(config["write"])
        _say({"id": job["id"], "seconds": round(time.monotonic() - began, 6), **answer})


def warm() -> None:
    """Import what programs usually need once, so that candidates find it loaded."""
    import bisect, collections, copy, datetime, decimal, fractions, functools, heapq, itertools  # noqa: E401, F401, I001
    import math, operator, random, re, statistics, string, typing, _sitebuiltins  # noqa: E401, F401


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _clean(folders: list[str]) -> None:
    """Leave nothing of one program to the next."""
    for folder in folders:
        for base, directories, files in os.walk(folder, topdown=False):
            for name in files:
                os.unlink(os.path.join(base, name))
            for name in directories:
                os.rmdir(os.path.join(base, name))
