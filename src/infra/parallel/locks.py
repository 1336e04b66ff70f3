"""Claims on pieces of work by lock files, on any shared file system, with stale ones found out.

Each claim is a lease of the `filelock` library: a small file that names its owner, made so that only one process can
make it. Its owner touches it every few seconds. It is stale when its owner is a dead process of this machine, or when
it has not been touched for :data:`PATIENCE` seconds of the *observer's* monotonic clock: no clock is compared with
another's, so a jump of the wall clock breaks no lock.

A claim saves double work and decides nothing: two processes that do the same piece write the same file. That is why
these are leases and not the operating system's locks (`flock`), which several cluster file systems keep on one node
only, so that every node would do all the work.
"""

from __future__ import annotations

import time
from pathlib import Path

from filelock import SoftFileLease, Timeout

BEAT = 2.0
"""Seconds between two touches of a lock by its owner."""
PATIENCE = 60.0
"""Seconds without a touch after which a lock counts as stale. The same for all processes of a folder."""


class Claims:
    """The locks of one folder, as one process sees them. ``close`` gives back all it holds."""

    def __init__(self, folder: Path, beat: float = BEAT, patience: float = PATIENCE) -> None:
        self.folder, self.beat, self.patience = folder, beat, patience
        folder.mkdir(parents=True, exist_ok=True)
        self._leases: dict[str, SoftFileLease] = {}
        self._empty: dict[str, tuple[tuple[int, int], float]] = {}

    def take(self, name: str) -> bool:
        """Whether the piece of work called ``name`` is this process's from now on."""
        lease = self._leases.get(name)
        if lease is None:  # kept while it is another's: a lease remembers since when it has not been touched
            path = self.folder / f"{name}.lock"
            lease = self._leases[name] = SoftFileLease(
                path, lease_duration=self.patience, heartbeat_interval=self.beat, timeout=0, thread_local=False
            )
        if lease.is_locked:
            return False
        for _ in range(2):  # the first try may do no more than remove a stale lock
            try:
                lease.acquire()
                return True
            except Timeout:
                self._remove_empty(name)
        return False

    def give_back(self, name: str) -> None:
        """The claim ends: its work is done, or failed."""
        lease = self._leases.pop(name, None)
        if lease is not None:
            lease.release()

    def close(self) -> None:
        """Give back everything and stop touching."""
        for name in list(self._leases):
            self.give_back(name)

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remove_empty(self, name: str) -> None:
        """Remove a lock without a word in it after the usual patience.

        A process killed between making its lock and writing into it leaves one, and the library waits for it forever.
        """
        path = self.folder / f"{name}.lock"
        try:
            stat = path.stat()
        except FileNotFoundError:
            return
        state, now = (stat.st_ino, stat.st_mtime_ns), time.monotonic()
        seen = self._empty.get(name)
        if stat.st_size or seen is None or seen[0] != state:
            self._empty[name] = (state, now)
        elif now - seen[1] > self.patience:
            path.unlink(missing_ok=True)
