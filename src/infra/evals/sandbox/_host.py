"""Starting a sandbox on this machine: which walls are there, and the command that puts an interpreter
inside them.

Backends, best first, each tried once by starting it:

- ``bubblewrap``: every namespace unshared, read-only system, small tmpfs; started as an unprivileged user.
- ``bubblewrap-root``: the same started by root, for an interpreter that only root can reach; the user
changes, and the
  user namespace is unshared, inside.
- ``landlock``: no namespaces; Landlock domain, seccomp, resource limits, another user when started as root.
- ``unsafe``: resource limits only. Never chosen unless asked for by name.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from infra.errors import ResourceError

BACKENDS = ("bubblewrap", "bubblewrap-root", "landlock", "unsafe")
TMPFS_BYTES = 16 << 20
PACKAGES = ("numpy", "numpy.libs")  # the only third-party code a program may import
INSIDE = Path(__file__).with_name("inside")

_BOOT = (
    "import sys,types,json;c=json.loads(sys.argv[1]);p=types.ModuleType('inside');p.__path__=[c['inside']];"
    "sys.modules['inside']=p;from inside.main import run;run(c)"
)
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PATH": "/nowhere",
    "HOME": "/tmp",
}
_launches = itertools.count()


def interpreter() -> str:
    """The real interpreter behind a virtual environment's link."""
    return os.path.realpath(sys.executable)


def _readable() -> tuple[list[str], list[str]]:
    """Paths a sandboxed interpreter must read, and the folder that holds the packages it may import."""
    paths = [*_SYSTEM, interpreter(), str(INSIDE)]
    paths += [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    library = sysconfig.get_config_var("LIBDIR")
    if library and any(Path(str(library)).glob("libpython*")):
        paths.append(str(library))
    site: list[str] = []
    found = importlib.util.find_spec("numpy")
    if found is not None and found.origin is not None:
        folder = Path(found.origin).resolve().parent.parent
        site = [str(folder)]
        paths += [str(folder / name) for name in PACKAGES if (folder / name).exists()]
    return [p for p in dict.fromkeys(paths) if p and os.path.exists(p)], site


def _others_can_read(path: str) -> bool:
    steps = [Path(path).resolve(), *Path(path).resolve().parents]
    return all(step.stat().st_mode & (0o005 if step.is_dir() else 0o004) for step in steps)


def _config(backend: str, uid: int | None) -> dict[str, Any]:
    read, site = _readable()
    bubbled = backend.startswith("bubblewrap")
    return {
        "started_by": os.getpid(),  # unused inside; tells this run's sandboxes from others in a list of processes
        "inside": str(INSIDE),
        "packages": site,
        "read": [*read, *_DEVICES],
        "listed": site,
        "write": ["/tmp", "/dev/null"] if bubbled else ["/dev/null"],
        "uid": uid,
        "own_uid": uid is not None or backend == "bubblewrap",
        "user_namespace": backend == "bubblewrap-root",
        "landlock": backend != "unsafe",
        "seccomp": backend != "unsafe",
    }


def _bubblewrap(backend: str, read: Sequence[str], config: dict[str, Any]) -> list[str]:
    command = [shutil.which("bwrap") or "bwrap"]
    if backend == "bubblewrap":
        command += ["--unshare-all", "--cap-drop", "ALL"]
    else:
        for space in ("ipc", "pid", "net", "uts", "cgroup-try"):
            command.append(f"--unshare-{space}")
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    command += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
    for name, value in _ENVIRONMENT.items():
        command += ["--setenv", name, value]
    for folder in sorted({str(parent) for path in [*read, *_DEVICES] for parent in Path(path).parents} - {"/"}):
        if os.path.isdir(folder) and not os.path.islink(folder):
            command += ["--perms", "0755", "--dir", folder]  # open to the unprivileged user, whatever it is outside
    for path in read:
        command += ["--ro-bind", path, path]
    for path in _DEVICES:
        command += ["--dev-bind", path, path]
    command += ["--perms", "1777", "--size", str(TMPFS_BYTES), "--tmpfs", "/tmp", "--remount-ro", "/"]
    return [*command, "--chdir", "/tmp", "--", interpreter(), "-P", "-s", "-S", "-c", _BOOT, json.dumps(config)]


def start(backend: str) -> subprocess.Popen[bytes]:
    """Start one sandbox with pipes on standard input and output. Raises ``OSError`` when it cannot be
    started.
    """
    root = os.geteuid() == 0
    # a user number of its own for each launch, so that process limits count this sandbox only
    own = 61_184 + (os.getpid() * 31 + next(_launches)) % 4_000
    read, _ = _readable()
    drop = root and all(_others_can_read(p) for p in [interpreter(), str(INSIDE), sysconfig.get_path("stdlib")])
    extra: dict[str, Any] = {}
    if backend == "bubblewrap":
        config = _config(backend, None)
        command = _bubblewrap(backend, read, config)
        if root:
            extra = {"user": own, "group": own, "extra_groups": []}
    elif backend == "bubblewrap-root":
        config = _config(backend, own)
        command = _bubblewrap(backend, read, config)
    else:
        config = _config(backend, own if drop and backend == "landlock" else None)
        command = [interpreter(), "-P", "-s", "-S", "-c", _BOOT, json.dumps(config)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
        bufsize=0,
        **extra,
    )


@lru_cache(maxsize=1)
def backends() -> dict[str, str]:
    """Each backend that works here -> '' , and each that does not -> why. ``unsafe`` is not tried."""
    found: dict[str, str] = {}
    for backend in BACKENDS[:-1]:
        if backend == "bubblewrap-root" and os.geteuid() != 0:
            found[backend] = "not root"
        elif backend.startswith("bubblewrap") and shutil.which("bwrap") is None:
            found[backend] = "the program bwrap is not installed"
        else:
            found[backend] = _why_not(backend)
    return found


def _why_not(backend: str) -> str:
    try:
        process = start(backend)
        assert process.stdin is not None
        out, err = process.communicate(timeout=20)
    except (OSError, subprocess.TimeoutExpired, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"
    if b'"ready"' in out:
        return ""
    return (err.decode(errors="replace").strip().splitlines() or ["it did not start"])[-1]


def choose(unsafe_execution: bool = False) -> str:
    """The best backend that works here.

    Raises ``ResourceError`` when none does and ``unsafe_execution`` was not given: model-written code is
    then not run.
    """
    found = backends()
    for backend, problem in found.items():
        if not problem:
            return backend
    if unsafe_execution:
        return "unsafe"
    reasons = "; ".join(f"{name}: {problem}" for name, problem in found.items())
    raise ResourceError(
        f"no sandbox works on this machine ({reasons}), so code written by a model is not run; install bubblewrap "
        "(Debian, Ubuntu: apt install bubblewrap) or a kernel with Landlock, or pass --unsafe-execution"
    )
