"""Claims on pieces of work by lock files, on any shared file system, with stale ones found out.

A lock is a small file that names its owner and is made by linking it into place, which only one process can do. Its
owner touches it every few seconds. It is stale when its owner is a dead process of this machine, or when it has not
been touched for :data:`PATIENCE` seconds of the *observer's* monotonic clock: no clock is compared with another's, so
a jump of the wall clock breaks no lock.

A claim saves double work and decides nothing: two processes that do the same piece write the same file.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

BEAT = 2.0
"""Seconds between two touches of a lock by its owner."""
PATIENCE = 60.0
"""Seconds without a touch after which a lock counts as stale."""


class Claims:
    """The locks of one folder, as one process sees them. ``close`` gives back all it holds."""

    def __init__(self, folder: Path, beat: float = BEAT, patience: float = PATIENCE) -> None:
        self.folder, self.beat, self.patience = folder, beat, patience
        folder.mkdir(parents=True, exist_ok=True)
        self._owner = json.dumps(owner())
        self._held: set[Path] = set()
        self._watched: dict[str, tuple[tuple[int, int, int], float]] = {}
        self._stop = threading.Event()
        self._beats = threading.Thread(target=self._touch, daemon=True)
        self._beats.start()

    def take(self, name: str) -> bool:
        """Whether the piece of work called ``name`` is this process's from now on."""
        lock = self._path(name)
        draft = self.folder / f".{uuid.uuid4().hex}.tmp"
        draft.write_text(self._owner, encoding="utf-8")
        try:
            for _ in range(2):
                try:
                    os.link(draft, lock)
                except FileExistsError:
                    if self._stale(name, lock):
                        self._break(lock)
                        continue
                    return False
                self._held.add(lock)
                return True
        finally:
            draft.unlink(missing_ok=True)
        return False

    def give_back(self, name: str) -> None:
        """The claim ends: its work is done, or failed."""
        lock = self._path(name)
        self._held.discard(lock)
        lock.unlink(missing_ok=True)

    def close(self) -> None:
        """Give back everything and stop touching."""
        self._stop.set()
        self._beats.join()
        for lock in list(self._held):
            lock.unlink(missing_ok=True)
        self._held.clear()

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.lock"

    def _touch(self) -> None:
        while not self._stop.wait(self.beat):
            for lock in list(self._held):
                with suppress(OSError):
                    os.utime(lock)

    def _stale(self, name: str, lock: Path) -> bool:
        try:
            stat = lock.stat()
            holder = lock.read_text(encoding="utf-8")
        except OSError:  # given back this moment
            return False
        if died_here(holder):
            return True
        state, now = (stat.st_ino, stat.st_mtime_ns, stat.st_size), time.monotonic()
        seen = self._watched.get(name)
        if seen is None or seen[0] != state:
            self._watched[name] = (state, now)
            return False
        return now - seen[1] > self.patience

    def _break(self, lock: Path) -> None:
        aside = self.folder / f".{uuid.uuid4().hex}.stale"
        with suppress(OSError):  # somebody else was faster
            os.rename(lock, aside)
            aside.unlink()


def owner() -> dict[str, object]:
    """Who this process is: machine, process id and when that process began."""
    return {"host": _host(), "pid": os.getpid(), "began": _began(os.getpid())}


def died_here(text: str) -> bool:
    """Whether the owner named in a lock was a process of this machine and is no more (its id may have a new owner)."""
    try:
        who = json.loads(text)
        host, pid, began = who["host"], int(who["pid"]), who["began"]
    except (ValueError, KeyError, TypeError):
        return False  # torn or foreign: left to the observer's patience
    return bool(host == _host() and _began(pid) != began)


def _began(pid: int) -> str | None:
    """When a process began, in ticks since the boot (no wall clock in it); None when it is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return str(psutil.Process(pid).create_time()) if psutil.pid_exists(pid) else None
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _host() -> str:
    """The machine's name, its boot and its space of process ids: elsewhere, a number means another process."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return ":".join(parts)
