"""Compatible mode: grade inside the program's own process, so that published numbers can be reproduced.

This follows the observable behaviour of LiveCodeBench's grader (2025-07, commit 28fef95): what a program
sees as standard input, which names are patched, when alarms ring, how results are compared and coded. It
inherits that grader's weaknesses: an object whose ``__eq__`` is always true passes, ``for line in
sys.stdin`` raises, and a process that ends early loses its result. The sandbox around it is the same as in
strict mode.
"""

from __future__ import annotations

import ast
import builtins
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType, ModuleType
from typing import Any

from .prelude import PRELUDE
from .verdicts import FAILED, LATE, PASSED, WRONG, lines_agree

_OS_REMOVED = (
    "kill",
    "system",
    "putenv",
    "remove",
    "removedirs",
    "rmdir",
    "fchdir",
    "setuid",
    "fork",
    "forkpty",
    "killpg",
    "rename",
    "renames",
    "truncate",
    "replace",
    "unlink",
    "fchmod",
    "fchown",
    "chmod",
    "chown",
    "chroot",
    "lchflags",
    "lchmod",
    "lchown",
    "getcwd",
    "chdir",
)
_MODULES_REMOVED = ("ipdb", "joblib", "resource", "psutil", "tkinter")


class TimeoutException(Exception):
    """An alarm rang. Programs are judged by this very name appearing in a repr."""


def _ring(signum: int, frame: FrameType | None) -> None:
    print("alarm")  # the official handler prints too: a program that swallows the alarm has a line too many
    raise TimeoutException


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _guard() -> None:
    """Take away the names that the public harnesses take away."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in _OS_REMOVED:
        setattr(os, name, None)
    for name in ("rmtree", "move", "chown"):
        setattr(shutil, name, None)
    for name in _MODULES_REMOVED:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in ("quit", "help"):
        setattr(builtins, name, None)
    subprocess.Popen = None  # type: ignore[assignment,misc]


def grade(job: dict[str, Any]) -> dict[str, Any]:
    """``{"codes": [...]}``: one result per test up to the first failure."""
    _as_worker(job["code"])
    signal.signal(signal.SIGALRM, _ring)
    tests, code, seconds = job["tests"], job["code"], int(job["timeout_s"])
    _guard()
    graders: dict[str, Callable[[], list[Any]]] = {
        "stdin": lambda: _stdin(code, tests["cases"], seconds),
        "functional": lambda: _functional(code, tests, seconds),
        "asserts": lambda: _together(code, "\n".join([tests.get("setup") or "", *tests["asserts"]]), seconds),
        "program": lambda: _together(
            (tests.get("setup") or "") + "\n" + code,
            f"{tests['code']}\ncheck({tests['entry_point']})" if "code" in tests else "",
            seconds,
        ),
    }
    try:
        codes = graders[tests["kind"]]()
    except Exception:
        codes = [FAILED]
    return {"codes": [_plain(c) for c in codes]}


def _as_worker(code: str) -> None:
    """The state of a multiprocessing worker: original standard input closed, the usual modules already
    imported (some cannot be once names are taken away)."""
    import asyncio  # noqa: F401
    import dataclasses  # noqa: F401
    import unittest.mock  # noqa: F401

    if "numpy" in code:
        with suppress(ImportError):
            import numpy  # noqa: F401
    if sys.__stdin__ is not None:
        sys.__stdin__.close()
        os.open("/dev/null", os.O_RDONLY)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def _plain(code: Any) -> Any:
    """Scalars as they are; an object of a foreign class cannot leave the process, which is then lost."""
    if type(code).__module__ == "numpy" and bool(getattr(code, "size", False)):
        code = code.item(0)  # of an array the first element counts
    if type(code) in (bool, int, float):
        return code
    os._exit(1)


def _execute(source: str, seconds: int) -> ModuleType:
    module = ModuleType("tmp_sol", "")
    with _alarm(seconds):
        exec(compile(source, "<string>", "exec", dont_inherit=True), module.__dict__)
    return module


def _together(code: str, tests: str, seconds: int) -> list[Any]:
    """MBPP and HumanEval: program and tests executed one after the other in one namespace."""
    space: dict[str, Any] = {"__name__": "__main__"}
    sys.stdout = io.StringIO()
    try:
        with _alarm(seconds):
            exec(compile(code + "\n" + tests, "<string>", "exec", dont_inherit=True), space)
    except TimeoutException:
        return [LATE]
    except AssertionError:
        return [WRONG]
    except Exception:
        return [FAILED]
    return [PASSED]


def _late(error: Exception) -> bool:
    return "timeoutexception" in repr(error).lower()


def _functional(code: str, tests: dict[str, Any], seconds: int) -> list[Any]:
    module = _execute(PRELUDE + "\n\n" + code, seconds)
    with _alarm(seconds):
        target: Any = module
        if "class Solution" in code:
            target = module.__dict__["Solution"]()
    method = getattr(target, tests["entry_point"])
    given = [[json.loads(line) for line in case["input"].split("\n")] for case in tests["cases"]]
    expected = [json.loads(case["output"]) for case in tests["cases"]]
    codes: list[Any] = []
    for arguments, wanted in zip(given, expected):
        try:
            with _alarm(seconds):
                result = method(*arguments)
                signal.alarm(0)
                result = list(result) if isinstance(result, tuple) else result
                same = result == wanted
                codes.append(same)
                if not same:
                    str(result)  # the official grader describes the result here, and a failing description counts
                    return codes
        except Exception as error:
            codes.append(LATE if _late(error) else FAILED)
            return codes
    return codes


def _one_function(code: str) -> str:
    """The program as the body of ``wrapped_function``, its imports before it, its main guard opened."""
    try:
        body = ast.parse(code).body
        last = body[-1]
        if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'":
            body = ast.parse(ast.unparse(ast.Module([*body[:-1], *last.body], []))).body
    except (SyntaxError, ValueError, IndexError, RecursionError):
        return code if code.strip() else "def wrapped_function():\n"
    imports: list[ast.stmt] = [s for s in body if isinstance(s, ast.Import | ast.ImportFrom)]
    others = [s for s in body if not isinstance(s, ast.Import | ast.ImportFrom)]
    nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    function = ast.FunctionDef(name="wrapped_function", args=nothing, body=others, decorator_list=[], lineno=-1)
    return PRELUDE + "\n" + ast.unparse(ast.Module(imports, [])) + "\n" + ast.unparse(function)


class _Input:
    """What stands in for standard input: whole text from ``read``, a moving position only for
    ``readline``."""

    def __init__(self, text: str) -> None:
        self._text, self._lines = text, io.StringIO(text)
        self.buffer = _InputBytes(text.encode("utf-8"))

    def read(self, *size: int) -> str:
        return self._text

    def readline(self, *size: int) -> str:
        return self._lines.readline(*size)

    def readlines(self, *hint: int) -> list[str]:
        return self._text.split("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lines, name)


class _InputBytes:
    """Its ``buffer``: ``readline`` gives the first line every time."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, *size: int) -> bytes:
        return self._data

    def readline(self, *size: int) -> bytes:
        return self._data.split(b"\n")[0] + b"\n"


def _run_with_input(function: Callable[[], object], text: str) -> None:
    from unittest import mock

    following = iter(text.split("\n"))
    with ExitStack() as stack:
        # a name imported from sys before now is the real stdin, which therefore gets readers of its own
        stack.enter_context(mock.patch("sys.stdin.read", lambda *a: text))
        stack.enter_context(mock.patch("sys.stdin.readlines", lambda *a: text.split("\n")))
        stack.enter_context(mock.patch("sys.stdin.readline", lambda *a: next(following)))
        stack.enter_context(mock.patch("sys.stdin", _Input(text)))
        stack.enter_context(mock.patch("builtins.open", mock.mock_open(read_data=text)))
        with suppress(SystemExit):
            function()


def _needs_an_argument(x: object) -> int:
    return 1


def _stdin(code: str, cases: list[dict[str, str]], seconds: int) -> list[Any]:
    function = getattr(_execute(_one_function(code), seconds), "wrapped_function")  # noqa: B009
    codes: list[Any] = []
    for case in cases:
        real, sys.stdout = sys.stdout, io.StringIO()
        captured = sys.stdout
        captured.close = _needs_an_argument  # type: ignore[assignment]
        try:
            with _alarm(seconds):
                _run_with_input(function, case["input"])
        except Exception as error:
            codes.append(LATE if _late(error) else FAILED)
            return codes
        finally:
            sys.stdout = real
        codes.append(PASSED if lines_agree(captured.getvalue(), case["output"]) else WRONG)
        if codes[-1] is not PASSED:
            return codes
    return codes
