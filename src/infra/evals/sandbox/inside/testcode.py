"""Tests that are code (MBPP's asserts, HumanEval's ``check``): the judge runs them on stand-ins for the program."""

from __future__ import annotations

import ast
import socket
from collections.abc import Sequence
from typing import Any

from . import names, remote
from .bounds import allow, said, shown
from .remote import Candidate, Ungradable
from .verdicts import Verdict, same, verdict

_TESTS_FAULT = (Ungradable, ImportError, SyntaxError, SystemExit, KeyboardInterrupt)


def judge(job: dict[str, Any], control: socket.socket) -> Verdict:
    """Judge one job whose tests are code. Raises ``Ungradable``."""
    tests, seconds = job["tests"], job["timeout_s"]
    parts = names.parts_of(tests)
    setup = (tests.get("setup") or "") if tests["kind"] == "program" else ""
    try:
        trees = [ast.parse(part) for part in parts]
        ast.parse(setup)
        wanted = names.supplied(tests)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise Ungradable(f"the tests are not Python: {error}") from error
    with Candidate(control, job["limits"]) as candidate:
        part = ""
        try:
            allow(seconds)
            space: dict[str, Any] = {"__name__": "tests", **names.borrowed(trees, wanted)}
            if setup:
                exec(compile(setup, "setup", "exec", dont_inherit=True), space)
                candidate.classes = {n: v for n, v in space.items() if isinstance(v, type) and v.__module__ == "tests"}
            there = candidate.load(f"{setup}\n{job['code']}" if setup else job["code"], seconds)
            candidate.budget = seconds
            space.update({n: candidate.named(n) for n in wanted if n in there})
            plain = _plain_calls(trees, space)
            if plain is not None:
                return _compare_all(candidate, plain, seconds)
            for part in _with_entry_point(candidate, parts, tests, space):
                allow(seconds)
                exec(compile(part, "tests", "exec", dont_inherit=True), space)
        except BaseException as error:
            return _blamed(error, candidate, part, wanted)
        if candidate.failed is not None:
            return verdict(candidate.failed.outcome, str(candidate.failed))
    return verdict("correct")


def _with_entry_point(
    candidate: Candidate, parts: list[str], tests: dict[str, Any], space: dict[str, Any]
) -> list[str]:
    """The parts to run. An entry point that is an expression, ``Solution().twoSum``, is looked up once, over there."""
    entry = tests.get("entry_point")
    if not entry or entry.isidentifier():
        return parts
    space["__candidate__"] = candidate.ask("value", [candidate.named(entry)], candidate.budget)
    return [parts[0], "check(__candidate__)"]


def _blamed(error: BaseException, candidate: Candidate, part: str, wanted: Sequence[str]) -> Verdict:
    """The verdict on an exception that ended the tests: the program's fault unless the tests alone can have
    caused it.
    """
    if candidate.failed is not None:
        return verdict(candidate.failed.outcome, str(candidate.failed))
    cause = error if isinstance(error, remote.CandidateError) else error.__cause__
    if isinstance(cause, remote.CandidateError):
        return verdict(cause.outcome, str(cause))
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, _TESTS_FAULT):
        kind = "" if isinstance(error, Ungradable) else f"{type(error).__name__}: "
        return verdict("ungradable", f"the tests cannot be run: {kind}{said(error)}")
    if isinstance(error, NameError):
        if error.name in wanted:
            return verdict("error", f"the program does not define {error.name}")
        return verdict("ungradable", f"the tests use {error.name}, which neither they nor their setup define")
    if not isinstance(error, AssertionError):
        return verdict("wrong", f"{type(error).__name__}: {said(error)} in the tests")
    return verdict("wrong", f"{part.strip()[:200]} {said(error)}".strip())


def _plain_calls(trees: list[ast.Module], space: dict[str, Any]) -> list[tuple[str, list[Any], Any, str]] | None:
    """``(function, arguments, expected, text)`` per assert, when all are ``assert f(literals) == literal``; else
    None.
    """
    found = []
    for statement in (s for tree in trees for s in tree.body):
        test = statement.test if isinstance(statement, ast.Assert) else None
        if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
            return None
        call = test.left
        if not isinstance(call, ast.Call) or call.keywords or not isinstance(call.func, ast.Name):
            return None
        if not isinstance(space.get(call.func.id), remote.Remote):
            return None
        try:
            arguments = [ast.literal_eval(a) for a in call.args]
            expected = ast.literal_eval(test.comparators[0])
        except (ValueError, TypeError, SyntaxError):
            return None
        found.append((call.func.id, arguments, expected, ast.unparse(statement)[:200]))
    return found


def _compare_all(candidate: Candidate, plain: list[tuple[str, list[Any], Any, str]], seconds: float) -> Verdict:
    """One message for all calls instead of one each; the program still sees no expected value."""
    calls = [[candidate.named(name), arguments] for name, arguments, _, _ in plain]
    allow(seconds * len(calls))
    results = candidate.ask("calls", [calls], seconds * len(calls))  # one limit for all together
    if not isinstance(results, list):
        return verdict("error", "the answer is no answer")
    for result, (_, _, expected, text) in zip(results, plain):
        if not (isinstance(result, tuple) and len(result) == 2):
            return verdict("error", f"{text}: {result[:200] if isinstance(result, str) else shown(result)}")
        if not same(result[1], expected):
            return verdict("wrong", f"{text} returned {shown(result[1])}")
    return verdict("correct") if len(results) == len(plain) else verdict("error", "an answer is missing")
