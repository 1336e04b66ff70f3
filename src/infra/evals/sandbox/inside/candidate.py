"""A candidate: the process in which a program under test runs. It learns inputs, never expected outputs.

The judge's first message names the kind:

- ``stdin``: the program is run as ``__main__`` with real descriptors 0 and 1.
- ``calls``: the program is loaded as a module, and then every message asks for one operation on it: a call, an
  attribute, an item. Results go back as plain data or, where they are not plain, as handles.
- ``official``: one process for program and grader, as public harnesses do it (see ``official``).
"""

from __future__ import annotations

import builtins
import io
import itertools
import os
import sys
import threading
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import wire
from .prelude import PRELUDE

MAX_MESSAGE = 1 << 28
ERROR_TEXT = 400


def main(channel: int) -> int:
    """Run what the first message on ``channel`` asks for; returns the exit status."""
    job = wire.receive(channel, MAX_MESSAGE)
    sys.set_int_max_str_digits(job.get("int_digits", 4300))
    _interactive_builtins()
    sys.stdin = _stream(0, "r")
    sys.stdout = _stream(1, "w")
    sys.stderr = _stream(2, "w")
    sys.argv = ["solution.py"]
    _open_standard_streams_by_name()
    if job["kind"] == "stdin":
        return _as_program(job, channel)
    if job["kind"] == "official":
        from . import official

        wire.send(channel, {**official.grade(job), "nonce": job["nonce"]})
        return 0
    return _serve(job, channel)


def _stream(fd: int, how: str) -> Any:
    return open(fd, how, encoding="utf-8", errors="surrogateescape", closefd=False)


def _open_standard_streams_by_name() -> None:
    # there is no /proc here, so /dev/stdin cannot be a link to the descriptor as it is outside
    real = io.open

    def opened(file: Any, *arguments: Any, **named: Any) -> Any:
        if file in ("/dev/stdin", "/dev/stdout"):
            file = os.dup(0 if file == "/dev/stdin" else 1)
        return real(file, *arguments, **named)

    builtins.open = io.open = opened


def _interactive_builtins() -> None:
    # the interpreter runs without `site`, which normally provides these
    import _sitebuiltins

    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)"))


def _module(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    module.__dict__["__builtins__"] = builtins
    sys.modules[name] = module
    exec(compile(source, "solution.py", "exec", dont_inherit=True), module.__dict__)
    return module


def _as_program(job: dict[str, Any], channel: int) -> int:
    code = 0
    try:
        _module("__main__", (PRELUDE if job["prelude"] else "") + job["code"])
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 0 if leave.code is None else 1
    except BaseException:
        wire.send(channel, traceback.format_exc(limit=-3)[-ERROR_TEXT:])
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        import atexit

        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        code = code or 1
    return code & 0xFF


def _describe(error: BaseException) -> list[str]:
    try:
        return [type(error).__name__, str(error)[:ERROR_TEXT]]
    except BaseException:
        return [type(error).__name__, ""]


def _serve(job: dict[str, Any], channel: int) -> int:
    held: list[object] = []

    def hold(value: object) -> Any:
        held.append(value)
        return {"h": [len(held) - 1, type(value).__name__]}

    def unheld(handle: Any) -> object:
        if isinstance(handle[0], int):
            return held[handle[0]]
        if handle[0].isidentifier():
            return getattr(target, handle[0])
        return eval(handle[0], module.__dict__)  # an entry point such as Solution().twoSum, written by the tests

    try:
        source = (PRELUDE if job["prelude"] else "") + job["code"]
        module = _module("solution", source)
        target: object = module
        if job.get("instance") and "class Solution" in job["code"]:
            target = module.__dict__["Solution"]()
        wire.send(channel, {"names": sorted(n for n in module.__dict__ if isinstance(n, str))})
    except BaseException as error:
        wire.send(channel, {"error": _describe(error)})
        return 1
    while True:
        try:
            request = wire.receive(channel, MAX_MESSAGE)
        except wire.Gone:
            return 0
        try:
            classes = _classes(module, job["classes"])
            read = wire.decode_with(request["objects"], classes, unheld)
            arguments = [read(a) for a in request["args"]]
            named = {k: read(v) for k, v in request["named"].items()}
            value = OPERATIONS[request["do"]](*arguments, **named)
            objects = wire.Objects({c: n for n, c in classes.items()}, hold)
            answer = {"value": objects.encode(value), "objects": objects.table()}
        except BaseException as error:
            answer = {"error": _describe(error)}
        wire.send(channel, answer)


def _classes(module: ModuleType, names: list[str]) -> dict[str, type]:
    """The program's own classes of those names."""
    found = {name: getattr(module, name, None) for name in names}
    return {name: value for name, value in found.items() if isinstance(value, type)}


def _call(function: Callable[..., object], *arguments: object, **named: object) -> object:
    return function(*arguments, **named)


def _set(target: object, name: str, value: object) -> None:
    setattr(target, name, value)


def _set_item(target: Any, key: object, value: object) -> None:
    target[key] = value


def _calls(calls: list[Any]) -> list[Any]:
    """Results of several calls as ``(True, value)``, up to the first that raises, which gives its
    description.
    """
    results: list[Any] = []
    for function, arguments in calls:
        try:
            results.append((True, function(*arguments)))
        except BaseException as error:
            return [*results, ": ".join(_describe(error))]
    return results


def _items(target: Any, count: int) -> list[Any]:
    """``[whether that was all, items]``: the next ``count`` of an iterator, or all of anything else."""
    if not hasattr(type(target), "__next__"):
        return [True, list(target)]
    some = list(itertools.islice(target, count))
    return [len(some) < count, some]


OPERATIONS: dict[str, Callable[..., object]] = {
    "call": _call,
    "calls": _calls,
    "getattr": getattr,
    "setattr": _set,
    "getitem": lambda target, key: target[key],
    "setitem": _set_item,
    "items": _items,
    "value": lambda target: target,
    "len": len,
    "bool": bool,
    "str": str,
    "int": int,
    "float": float,
}
