#!/usr/bin/env python3
"""Set-up and every routine command, with nothing but Python 3.11 or newer and git.

    python3 dev.py run [ARGS]     the main job: `infra run ARGS` (makes the environment on first use)
    python3 dev.py test [ARGS]    the tests: `pytest ARGS`
    python3 dev.py infra ARGS     any other `infra` command
    python3 dev.py lint           style, format, types and the order of the rooms: ruff, mypy, import-linter
    python3 dev.py docs [ARGS]    the documentation, into site/; a broken link fails (`docs serve`: while you write)
    python3 dev.py types | bench NAME | setup

The environment lies in .venv and is made again only when pyproject.toml, constraints.txt or Python change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(extra: str) -> str:
    """Hash of what the environment is made from."""
    digest = hashlib.sha256(f"{sys.version}{extra}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def setup(extra: str = "") -> None:
    """Make .venv and install the package in it; at no cost when nothing changed."""
    if sys.version_info < (3, 11):  # noqa: UP036 (said before anything newer than this file is needed)
        raise SystemExit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}")
    stamp = VENV / f".stamp{extra}"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == fingerprint(extra):
        return
    print(f"setting up {VENV} (a few minutes the first time) ...", file=sys.stderr, flush=True)
    if not PYTHON.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        except subprocess.CalledProcessError:
            shutil.rmtree(VENV, ignore_errors=True)
            raise SystemExit(
                "Python's venv module does not work here; on Debian and Ubuntu: apt install python3-venv"
            ) from None
    target = f".[{extra}]" if extra else "."
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "-c", "constraints.txt", "-e", target]
    if subprocess.run(command, cwd=ROOT).returncode:
        raise SystemExit("the installation failed; pip's message is above. Nothing else was changed: run it again.")
    stamp.write_text(fingerprint(extra))


def call(*command: str) -> int:
    """Run a module of the environment from the repository's root; Ctrl-C is the child's to handle."""
    process = subprocess.Popen([str(PYTHON), "-m", *command], cwd=ROOT)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def lint() -> int:
    """Every check that needs no test to run; the first that fails ends it. Returns its exit code."""
    files = ("src", "tests", "bench", "examples", "docgen", "dev.py")
    contract = [str(PYTHON.with_name("lint-imports")), "--no-logo"]  # a script: this package has no module to run
    return (
        call("ruff", "check", *files)
        or call("ruff", "format", "--check", *files)
        or subprocess.run(contract, cwd=ROOT).returncode
        or call("mypy")
    )


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DEFAULT_TESTS = "not slow and not gpu and not parity"


def without_browser(arguments: list[str]) -> list[str]:
    """Leave out the tests that need a browser where there is none, and say so."""
    if "-m" in arguments or "INFRA_CHROMIUM" in os.environ or any(map(shutil.which, BROWSERS)):
        return []
    print("no Chromium or Chrome here: the tests of the page in a browser are left out", file=sys.stderr)
    return ["-m", f"{DEFAULT_TESTS} and not browser"]


def side_by_side(arguments: list[str]) -> list[str]:
    """The whole suite runs in as many processes as there are cores, four at most; a file at a time in each of them.

    Whoever names files, marks, a number of processes (``-n``) or the debugger gets pytest as it is.
    """
    asked = any(a in ("-m", "-s", "--pdb", "--trace") or a.startswith(("-n", "tests")) for a in arguments)
    cores = min(os.cpu_count() or 1, 4)
    return [] if asked or cores == 1 else ["-n", str(cores), "--dist", "loadfile", "--no-loadscope-reorder"]


def main() -> int:
    verb, *rest = sys.argv[1:] or ["help"]
    if verb in ("run", "infra"):
        setup()
        return call("infra", *(["run"] if verb == "run" else []), *rest)
    if verb in ("test", "lint", "types", "bench", "setup", "docs"):
        setup("dev")
    if verb == "test":
        return call("pytest", *side_by_side(rest), *rest, *without_browser(rest))
    if verb == "lint":
        return lint()
    if verb == "docs":
        return call("mkdocs", *(rest or ["build"]), "--strict")
    if verb == "types":
        return call("mypy")
    if verb == "bench":
        return call(f"bench.{rest[0]}", *rest[1:]) if rest else 2
    if verb == "setup":
        return 0
    print(__doc__)
    return 0 if verb in ("help", "-h", "--help") else 2


if __name__ == "__main__":
    raise SystemExit(main())
