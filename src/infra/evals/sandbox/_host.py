"""Starting a sandbox on this machine: which walls are there, and the command that puts an interpreter inside them.

Backends, best first, each tried once by starting it:

- ``bubblewrap``: every namespace unshared, read-only system, small tmpfs; started as an unprivileged user.
- ``bubblewrap-root``: the same started by root, for an interpreter that only root can reach; the user changes, and
  the user namespace is unshared, inside.
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
from infra.evals.sandbox.inside import landlock

BACKENDS = ("bubblewrap", "bubblewrap-root", "landlock", "unsafe")
TMPFS_BYTES = 16 << 20
PACKAGES = ("numpy", "numpy.libs")  # the only third-party code a program may import
INSIDE = Path(__file__).with_name("inside")
_INSIDE_AT, _PACKAGES_AT = "/infra/inside", "/infra/packages"

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


def _stdlib() -> list[str]:
    """Folders of the standard library: those of the interpreter itself, not of a virtual environment."""
    own = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    return [sysconfig.get_path(name, vars=own) for name in ("stdlib", "platstdlib")]


def _readable() -> list[str]:
    """Paths of the system that a sandboxed interpreter must read."""
    paths = [*_SYSTEM, interpreter(), *_stdlib()]
    library = sysconfig.get_config_var("LIBDIR")
    if library and any(Path(str(library)).glob("libpython*")):
        paths.append(str(library))
    return [p for p in dict.fromkeys(paths) if p and os.path.exists(p)]


def _packages() -> list[Path]:
    """Folders of the packages a program may import; they are beside each other."""
    found = importlib.util.find_spec("numpy")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).resolve().parent.parent
    return [folder / name for name in PACKAGES if (folder / name).exists()]


def _others_can_read(path: str) -> bool:
    steps = [Path(path).resolve(), *Path(path).resolve().parents]
    return all(step.stat().st_mode & (0o005 if step.is_dir() else 0o004) for step in steps)


def _only_root_can_read() -> bool:
    """Whether a file that a sandbox needs is closed to other users, by itself or by a folder above it."""
    modules = [str(Path(folder, "os.py")) for folder in _stdlib()] + [str(INSIDE / "main.py")]
    needed = [interpreter(), *modules, *(str(p / "__init__.py") for p in _packages())]
    return not all(_others_can_read(p) for p in needed if os.path.exists(p))


def _scratch(read: Sequence[str]) -> str:
    """The folder that programs may write to: /tmp, except where the interpreter itself is below it."""
    return "/scratch" if any(Path(p).is_relative_to("/tmp") for p in read) else "/tmp"


def _config(backend: str, uid: int | None, read: Sequence[str]) -> dict[str, Any]:
    """What ``inside.main`` is told. Under bubblewrap our own files and the packages have places of their own, so
    that the folder for programs hides nothing, wherever this checkout is."""
    bubbled = backend.startswith("bubblewrap")
    inside = _INSIDE_AT if bubbled else str(INSIDE)
    packages = [p.parent for p in _packages()][:1]
    site = [_PACKAGES_AT if bubbled else str(p) for p in packages]
    own = [_PACKAGES_AT] if bubbled else [str(p) for p in _packages()]
    return {
        "started_by": os.getpid(),  # unused inside; tells this run's sandboxes from others in a list of processes
        "inside": inside,
        "packages": site,
        "names": [p.name for p in _packages()],
        "read": [*read, inside, *own, *_DEVICES],
        "listed": site,
        "write": [_scratch(read), "/dev/null"] if bubbled else ["/dev/null"],
        "uid": uid,
        "own_uid": uid is not None or backend == "bubblewrap",
        "read_all": uid is not None and _only_root_can_read(),
        "user_namespace": backend == "bubblewrap-root",
        "landlock": backend == "landlock" or (bubbled and landlock.abi() > 0),
        "seccomp": backend != "unsafe",
    }


def _bubblewrap(backend: str, read: Sequence[str], config: dict[str, Any]) -> list[str]:
    command = [shutil.which("bwrap") or "bwrap"]
    if backend == "bubblewrap":
        command += ["--unshare-all", "--cap-drop", "ALL"]
    else:
        for space in ("ipc", "pid", "net", "uts", "cgroup-try"):
            command.append(f"--unshare-{space}")
        command += ["--cap-drop", "ALL"]
        for capability in ("SETUID", "SETGID", *(("DAC_READ_SEARCH",) if config["read_all"] else ())):
            command += ["--cap-add", f"CAP_{capability}"]
    scratch = _scratch(read)
    command += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
    for name, value in {**_ENVIRONMENT, "HOME": scratch, "TMPDIR": scratch}.items():
        command += ["--setenv", name, value]
    places = {path: path for path in read}
    places |= {_INSIDE_AT: str(INSIDE), **{f"{_PACKAGES_AT}/{p.name}": str(p) for p in _packages()}}
    for folder in sorted({str(parent) for path in [*places, *_DEVICES] for parent in Path(path).parents} - {"/"}):
        if not os.path.islink(folder):
            command += ["--perms", "0755", "--dir", folder]  # open to the unprivileged user, whatever it is outside
    for path, source in places.items():
        command += ["--ro-bind", source, path]
    for path in _DEVICES:
        command += ["--dev-bind", path, path]
    command += ["--perms", "1777", "--size", str(TMPFS_BYTES), "--tmpfs", scratch, "--remount-ro", "/"]
    return [*command, "--chdir", scratch, "--", interpreter(), "-P", "-s", "-S", "-c", _BOOT, json.dumps(config)]


def start(backend: str) -> subprocess.Popen[bytes]:
    """Start one sandbox with pipes on standard input and output. Raises ``OSError`` when it cannot be
    started.
    """
    if backend == "landlock" and landlock.abi() < landlock.LEAST_ABI:
        raise OSError(
            f"this kernel's Landlock (version {landlock.abi()}) cannot forbid truncating files; Linux 6.2 can"
        )
    root = os.geteuid() == 0
    # a user number of its own for each launch, so that process limits count this sandbox only
    own = 61_184 + (os.getpid() * 31 + next(_launches)) % 4_000
    changes_inside = root and backend in ("bubblewrap-root", "landlock")
    read = _readable()
    config = _config(backend, own if changes_inside else None, read)
    if backend.startswith("bubblewrap"):
        command = _bubblewrap(backend, read, config)
    else:
        command = [interpreter(), "-P", "-s", "-S", "-c", _BOOT, json.dumps(config)]
    extra: dict[str, Any] = {"user": own, "group": own, "extra_groups": []} if root and backend == "bubblewrap" else {}
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
        out, err = process.communicate(timeout=60)
    except (OSError, subprocess.TimeoutExpired, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"
    if b'"ready"' in out:
        return ""
    return (err.decode(errors="replace").strip().splitlines() or ["it did not start"])[-1]


def describe(backend: str) -> str:
    """What contained the programs, in a few words for people."""
    return {
        "bubblewrap": "bubblewrap",
        "bubblewrap-root": "bubblewrap, started by root",
        "landlock": "Landlock and seccomp, without namespaces",
        "unsafe": "NONE: resource limits only",
    }[backend]


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
