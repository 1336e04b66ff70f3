"""What a program finds around it, in every sandbox that works here: no way to the host, no root, no other packages."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import infra
from infra.evals.sandbox import Job, Ran, Sandbox, backends, run_jobs
from infra.evals.sandbox import _host as host
from infra.evals.sandbox import _pool as pool
from infra.evals.sandbox.inside import landlock

WORKING = [name for name, problem in backends().items() if not problem]
pytestmark = pytest.mark.parametrize("backend", WORKING)


def returned(backend: str, body: str, expected: object) -> None:
    """The program's ``f`` with this body returns this value."""
    code = "def f(x):\n" + "".join(f"    {line}\n" for line in body.strip().splitlines())
    tests = {"kind": "asserts", "asserts": [f"assert f(1) == {expected!r}"]}
    (ran,) = run_jobs([Job(code, tests, 6.0)], backend=backend)
    assert ran.outcome == "correct", ran


@pytest.fixture
def listening() -> Iterator[tuple[socket.socket, list[str]]]:
    """A datagram socket of the host under a path that anybody may write to, and its address and an abstract one."""
    folder = tempfile.mkdtemp(dir="/var/tmp")
    os.chmod(folder, 0o777)
    path, abstract = f"{folder}/s", f"\0infra-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as by_path:
        by_path.bind(path)
        os.chmod(path, 0o777)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as by_name:
            by_name.bind(abstract)
            by_path.settimeout(0.2)
            by_name.settimeout(0.2)
            yield [by_path, by_name], [path, abstract]  # type: ignore[misc]
    shutil.rmtree(folder)


SEND = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
sent = 0
for kind in [k | flags for k in (1, 2, 3, 5) for flags in (0, 0x800, 0x80000, 0x80800)]:
    pair = (ctypes.c_int * 2)()
    if libc.socketpair(1, kind, 0, pair):
        continue
    for address in {addresses!r}:
        name = struct.pack('H', 1) + address.encode() + (b'' if address[0] == chr(0) else bytes(1))
        for fd in (*pair, 3):
            sent += libc.sendto(fd, b'owned', 5, 0, name, len(name)) == 5
            sent += libc.connect(fd, name, len(name)) == 0
return sent
"""


def test_no_datagram_reaches_a_socket_of_the_host(
    backend: str, listening: tuple[list[socket.socket], list[str]]
) -> None:
    sockets, addresses = listening
    returned(backend, SEND.format(addresses=addresses), 0)
    for one in sockets:
        with pytest.raises(TimeoutError):
            one.recv(100)


def test_the_fixture_above_would_notice(backend: str, listening: tuple[list[socket.socket], list[str]]) -> None:
    sockets, addresses = listening
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for one, address in zip(sockets, addresses):
        left.sendto(b"seen", address)
        assert one.recv(100) == b"seen"
    left.close()
    right.close()


def test_a_connected_pair_and_asyncio_still_work(backend: str) -> None:
    returned(backend, "import socket\na, b = socket.socketpair()\na.send(b'x')\nreturn b.recv(9)", b"x")
    returned(backend, "import asyncio\nasync def g(): await asyncio.sleep(0)\nreturn asyncio.run(g())", None)


def test_a_program_is_never_root_and_cannot_become_it(backend: str) -> None:
    returned(backend, "import os\nreturn 0 in (os.getuid(), os.geteuid(), os.getgid(), os.getegid())", False)
    returned(
        backend,
        "import ctypes\nl = ctypes.CDLL(None)\nreturn [l.setuid(0), l.setgid(0), l.setresuid(0, 0, 0)]",
        [-1] * 3,
    )


def test_what_only_root_can_read_outside_the_interpreter_stays_closed(backend: str) -> None:
    names = ["/etc/shadow", "/root/.bashrc", "/root/.profile", "/proc/1/environ", str(Path(__file__).resolve())]
    body = f"out = []\nfor n in {names!r}:\n    try: out.append(open(n).read(1))\n    except OSError: pass\nreturn out"
    returned(backend, body, [])


def test_no_file_can_be_emptied(backend: str) -> None:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    os.chmod(folder, 0o777)
    file = folder / "open to all"
    file.write_text("kept")
    os.chmod(file, 0o666)
    body = f"""
import os
done = 0
for name in ({str(file)!r}, os.__file__, __import__('inside.wire').wire.__file__):
    for attempt in (
        lambda: os.truncate(name, 0),
        lambda: os.open(name, os.O_RDONLY | os.O_TRUNC),
        lambda: os.open(name, os.O_WRONLY),
        lambda: os.chmod(name, 0),
        lambda: os.utime(name),
        lambda: os.rename(name, name + 'x'),
        lambda: os.unlink(name),
    ):
        try:
            attempt()
            done += 1
        except OSError:
            pass
return done
"""
    returned(backend, body, 0)
    assert file.read_text() == "kept"
    shutil.rmtree(folder)


def test_the_standard_library_and_numpy_are_there_and_nothing_else(backend: str) -> None:
    body = """
found = []
for name in ('numpy', 'sqlite3', 'statistics', 'pandas', 'torch', 'infra', 'pytest', 'no_such_module'):
    try:
        __import__(name)
        found.append(name)
    except ImportError:
        pass
return found
"""
    returned(backend, body, ["numpy", "sqlite3", "statistics"])


def test_what_one_job_does_to_its_judge_is_gone_in_the_next(backend: str) -> None:
    patch = "import math, builtins\nmath.pi = 3\nbuiltins.ascii = lambda x: 0\nassert f(1) == 1"
    plain = "assert f(ascii(7)) == '7' and 3.14 < pi"
    tests = [{"kind": "asserts", "asserts": [text]} for text in (patch, plain)]
    ran = run_jobs([Job("def f(x): return x", t, 6.0) for t in tests], workers=1, backend=backend)
    assert [r.outcome for r in ran] == ["correct", "correct"], ran


def test_programs_have_a_folder_where_the_temporary_one_holds_the_interpreter(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host._scratch(["/usr/lib"]) == "/tmp" and host._scratch(["/tmp/python/lib"]) == "/scratch"
    monkeypatch.setattr(host, "_scratch", lambda read: "/scratch")
    body = "import tempfile\nwith tempfile.TemporaryFile() as f: f.write(b'x')\nreturn tempfile.gettempdir()"
    if backend.startswith("bubblewrap"):
        returned(backend, body, "/scratch")


SHOW = """
import json, infra.evals.sandbox as sandbox
assert sandbox.__file__.startswith("/tmp/")
tests = {{"kind": "asserts", "asserts": ["assert f(1) == 2"]}}
ran = sandbox.run_jobs([sandbox.Job("def f(x): return x + 1", tests)], backend={backend!r})
print(json.dumps([r.outcome for r in ran]))
"""


def test_a_checkout_below_the_temporary_folder_has_the_same_sandboxes(backend: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        here, there = Path(infra.__file__).parent, Path(folder, "infra")
        shutil.copytree(here / "evals/sandbox", there / "evals/sandbox", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("errors.py", "progress.py"):
            shutil.copy(here / name, there / name)
        for package in (there, there / "evals"):
            Path(package, "__init__.py").touch()  # without all that the real ones import
        done = subprocess.run(
            [sys.executable, "-c", SHOW.format(backend=backend)],
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd="/",
        )
    assert done.returncode == 0, done.stderr[-800:]
    assert json.loads(done.stdout) == ["correct"]


def test_a_lost_sandbox_is_replaced_and_the_job_run_again(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, calls = Sandbox.run, []

    def killed_first(self: Sandbox, job: Job) -> Ran:
        calls.append(job)
        if len(calls) == 1:
            self._process.kill()
            self._process.wait()
        return run(self, job)

    monkeypatch.setattr(pool.Sandbox, "run", killed_first)
    tests = {"kind": "asserts", "asserts": ["assert f(1) == 2"]}
    (ran,) = run_jobs([Job("def f(x): return x + 1", tests)], backend=backend)
    assert ran.outcome == "correct" and len(calls) == 2


def test_landlock_that_cannot_forbid_truncation_is_no_sandbox(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 2)
    if backend == "landlock":
        with pytest.raises(OSError, match="cannot forbid truncating"):
            Sandbox(backend)
