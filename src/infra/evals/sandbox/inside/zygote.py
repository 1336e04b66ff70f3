"""The zygote: forks one candidate per request and reports how it ended. Knows no tests and runs no program
itself.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import time
from typing import Any

from . import candidate, landlock, seccomp

_LIBC = ctypes.CDLL(None, use_errno=True)
CHANNEL = 3  # the candidate's end of its socket to the judge


def serve(control: socket.socket, config: dict[str, Any]) -> None:
    """Serve ``control`` until it closes.

    ``{"start": limits}`` with three descriptors (channel, input, output) forks a candidate and is not answered;
    ``{"cpu": 0}`` is answered with the processor seconds it has used, ``{"end": grace}`` ends it, if there is one, and
    is answered with ``{"code", "signal", "killed", "cpu"}``.
    """
    rules = landlock.ruleset(config["read"], config["listed"], config["write"]) if config["landlock"] else -1
    pid = -1
    gc.collect()
    gc.freeze()
    while True:
        data, fds, _, _ = socket.recv_fds(control, 4096, 3)
        if not data:
            os._exit(0)
        request = json.loads(data)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                _become_candidate(fds, rules, request["start"], config)
            for fd in fds:
                os.close(fd)
        elif "cpu" in request:
            used = time.clock_gettime((~pid << 3) | 2) if pid > 0 else 0.0  # that process's clock
            control.send(json.dumps({"cpu": used}).encode())
        else:
            control.send(json.dumps(_end(pid, request["end"])).encode())
            pid = -1


def _end(pid: int, grace: float) -> dict[str, Any]:
    """Wait up to ``grace`` seconds for the candidate, then kill it."""
    if pid < 0:
        return {"code": 0, "signal": 0, "killed": False, "cpu": 0.0}
    handle = os.pidfd_open(pid)
    killed = not select.select([handle], [], [], grace)[0]
    os.close(handle)
    os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    ended = os.waitstatus_to_exitcode(status)
    return {"code": max(ended, 0), "signal": max(-ended, 0), "killed": killed, "cpu": usage.ru_utime + usage.ru_stime}


def _become_candidate(fds: list[int], rules: int, limits: dict[str, Any], config: dict[str, Any]) -> None:
    """Never returns: takes the three descriptors, gives everything else up and runs the program."""
    code = 120
    try:
        _LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)  # die with the zygote
        _LIBC.prctl(38, 1, 0, 0, 0)  # no new privileges
        if rules >= 0:
            landlock.restrict(rules)
        silent = os.open("/dev/null", os.O_RDWR)
        channel, stdin, stdout = (os.dup(fd) for fd in fds)
        for source, target in ((stdin, 0), (stdout, 1), (silent, 2), (channel, CHANNEL)):
            os.dup2(source, target)
        os.closerange(CHANNEL + 1, 256)
        _limit(limits, config)
        if config["seccomp"]:
            seccomp.install(seccomp.program(os.getpid()))
        code = candidate.main(CHANNEL)
    finally:
        os._exit(code)


def _limit(limits: dict[str, Any], config: dict[str, Any]) -> None:
    cpu = int(limits["cpu_s"]) + 1
    wanted = {
        resource.RLIMIT_CPU: (cpu, cpu + 1),
        resource.RLIMIT_AS: (limits["memory"], limits["memory"]),
        resource.RLIMIT_FSIZE: (limits["file_size"], limits["file_size"]),
        resource.RLIMIT_NOFILE: (64, 64),
        resource.RLIMIT_CORE: (0, 0),
    }
    if config["own_uid"]:
        wanted[resource.RLIMIT_NPROC] = (64, 64)
    for which, pair in wanted.items():
        resource.setrlimit(which, pair)
