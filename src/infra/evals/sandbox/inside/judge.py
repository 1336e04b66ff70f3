"""The judge: holds the tests, asks candidates for outputs, compares plain data, and says what happened.

A verdict is ``[outcome, detail, codes]``. Outcomes: ``correct``, ``wrong``, ``error`` (the program raised,
died or broke a limit), ``timeout``. ``codes`` are LiveCodeBench's, one per test that was run: True passed,
-2 wrong answer, -3 time limit, -4 runtime error.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import socket
import time
from decimal import Decimal, InvalidOperation
from typing import Any

from . import remote, wire
from .remote import Candidate

Verdict = dict[str, Any]
PASSED, WRONG, LATE, FAILED = True, -2, -3, -4
OUTCOMES = {WRONG: "wrong", LATE: "timeout", FAILED: "error"}


def verdict(outcome: str, detail: str = "", codes: list[Any] | None = None) -> Verdict:
    """The judge's answer to one job."""
    return {"outcome": outcome, "detail": detail[:500], "codes": codes or []}


def judge(job: dict[str, Any], control: socket.socket) -> Verdict:
    """Run one job and judge it."""
    tests = job["tests"]
    if job["mode"] == "compatible":
        return _official(job, control)
    kind = tests["kind"]
    if kind == "stdin":
        return _stdin(job, tests["cases"], control)
    if kind == "functional":
        return _functional(job, tests, control)
    return _test_code(job, tests, control)


def lines_agree(output: str, expected: str) -> bool:
    """LiveCodeBench's comparison: stripped lines, equal as text or token by token as decimal numbers."""
    mine, theirs = output.strip().split("\n"), expected.strip().split("\n")
    if len(mine) != len(theirs):
        return False
    for a, b in zip(mine, theirs):
        if a.strip() == b.strip():
            continue
        try:
            if [Decimal(x) for x in a.split()] != [Decimal(x) for x in b.split()]:
                return False
        except (InvalidOperation, ValueError):
            return False
    return True


def _stdin(job: dict[str, Any], cases: list[dict[str, str]], control: socket.socket) -> Verdict:
    codes: list[Any] = []
    for number, case in enumerate(cases):
        code, detail = _one_run(job, case["input"], case["output"], control)
        codes.append(code)
        if code is not PASSED:
            return verdict(OUTCOMES[code], f"test {number}: {detail}", codes)
    return verdict("correct", "", codes)


def _one_run(job: dict[str, Any], given: str, expected: str, control: socket.socket) -> tuple[Any, str]:
    source = os.memfd_create("stdin")
    os.write(source, given.encode("utf-8", "surrogateescape"))
    os.lseek(source, 0, os.SEEK_SET)
    seconds = job["timeout_s"]
    with Candidate(control, job["limits"], source) as candidate:
        candidate.tell({"kind": "stdin", "code": job["code"], "prelude": True, "int_digits": 50_000})
        output, ended = _read_all(candidate, seconds, job["limits"]["output"])
        if ended == "late":
            return LATE, f"no end after {seconds} s"
        if ended == "long":
            return FAILED, f"more than {job['limits']['output']} bytes of output"
        status = candidate.end(seconds)
        if status["signal"] == 24 or (status["signal"] == 9 and status["killed"]):
            return LATE, f"no end after {seconds} s"
        if status["signal"] or status["code"]:
            return FAILED, candidate.last_words() or f"exit status {status['code']}, signal {status['signal']}"
    if lines_agree(output, expected):
        return PASSED, ""
    return WRONG, f"printed {output.strip()[:120]!r}"


def _read_all(candidate: Candidate, seconds: float, limit: int) -> tuple[str, str]:
    parts: list[bytes] = []
    size = 0
    began = time.monotonic()
    while True:
        # a program that keeps printing is late as well
        spent = time.monotonic() - began > seconds and candidate.cpu() >= seconds
        if spent or not candidate.wait_for(candidate.stdout, seconds):
            return "", "late"
        part = os.read(candidate.stdout, 1 << 16)
        if not part:
            return b"".join(parts).decode("utf-8", "replace"), "end"
        parts.append(part)
        size += len(part)
        if size > limit:
            return "", "long"


def _functional(job: dict[str, Any], tests: dict[str, Any], control: socket.socket) -> Verdict:
    codes: list[Any] = []
    with Candidate(control, job["limits"]) as candidate:
        try:
            candidate.load(job["code"], job["timeout_s"], prelude=True, instance=True)
            method = candidate.named(tests["entry_point"])
        except remote.CandidateError as error:
            return verdict(error.outcome, str(error), [FAILED])
        for number, case in enumerate(tests["cases"]):
            arguments = [json.loads(line) for line in case["input"].split("\n")]
            expected = json.loads(case["output"])
            try:
                result = candidate.ask("call", [method, *arguments], job["timeout_s"])
            except remote.CandidateError as error:
                codes.append(LATE if error.outcome == "timeout" else FAILED)
                return verdict(error.outcome, f"test {number}: {error}", codes)
            result = list(result) if isinstance(result, tuple) else result
            if not _same(result, expected):
                return verdict("wrong", f"test {number}: returned {str(result)[:120]}", [*codes, WRONG])
            codes.append(PASSED)
    return verdict("correct", "", codes)


def _same(result: Any, expected: Any) -> bool:
    try:
        return bool(result == expected)
    except (TypeError, ValueError, RecursionError, ArithmeticError):
        return False


def _test_code(job: dict[str, Any], tests: dict[str, Any], control: socket.socket) -> Verdict:
    """MBPP's asserts and HumanEval's ``check``, run here on a stand-in for the candidate's functions."""
    if tests["kind"] == "asserts":
        parts = [tests.get("setup") or "", *tests["asserts"]]
    else:
        parts = [tests["code"], f"check({tests['entry_point']})"]
    try:
        trees = [ast.parse(part) for part in parts]
    except SyntaxError as error:
        return verdict("ungradable", f"the tests are not Python: {error}")
    with Candidate(control, job["limits"]) as candidate:
        try:
            program = (tests.get("setup") or "") + "\n" if tests["kind"] == "program" else ""
            names = candidate.load(program + job["code"], job["timeout_s"])
            space: dict[str, Any] = {"__name__": "tests"}
            if tests["kind"] == "program" and tests.get("setup"):
                exec(compile(tests["setup"], "setup", "exec", dont_inherit=True), space)
            for name in shared_names(trees, names, tests):
                space[name] = candidate.named(name)
            candidate.budget = job["timeout_s"]
            plain = _plain_calls(trees, space)
            if plain is not None:
                return _compare_all(candidate, plain, parts[1:], job["timeout_s"])
            for part in parts:
                exec(compile(part, "tests", "exec", dont_inherit=True), space)
        except Exception as error:
            cause = error if isinstance(error, remote.CandidateError) else error.__cause__
            if isinstance(cause, remote.CandidateError):
                return verdict(cause.outcome, str(cause))
            if isinstance(error, NameError):
                return verdict("error", f"the program does not define {error.name}")
            if not isinstance(error, AssertionError):
                return verdict("wrong", f"{type(error).__name__}: {error} in the tests")
            return verdict("wrong", f"{part.strip()[:200]} {error}".strip())
    return verdict("correct")


def _plain_calls(trees: list[ast.Module], space: dict[str, Any]) -> list[tuple[str, list[Any], Any]] | None:
    """``(function, arguments, expected)`` per assert, when all are ``assert f(literals) == literal``; else
    None.
    """
    found = []
    for tree in trees:
        for statement in tree.body:
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
                found.append((call.func.id, arguments, ast.literal_eval(test.comparators[0])))
            except (ValueError, TypeError, SyntaxError):
                return None
    return found


def _compare_all(
    candidate: Candidate, plain: list[tuple[str, list[Any], Any]], parts: list[str], seconds: float
) -> Verdict:
    """One message for all calls instead of one each; the program still sees no expected value."""
    calls = [[candidate.named(name), arguments] for name, arguments, _ in plain]
    results = candidate.ask("calls", [calls], seconds * len(calls))  # one limit for all together
    if not isinstance(results, list):
        return verdict("error", "the answer is no answer")
    for part, result, (_, _, expected) in zip(parts, results, plain):
        if not (isinstance(result, tuple) and len(result) == 2):
            return verdict("error", f"{part.strip()[:200]}: {result}")
        if not _same(result[1], expected):
            return verdict("wrong", part.strip())
    return verdict("correct") if len(results) == len(plain) else verdict("error", "an answer is missing")


def shared_names(trees: list[ast.Module], names: list[str], tests: dict[str, Any]) -> list[str]:
    """Names of the program that the tests may see. A program's own ``abs`` or ``set`` replaces the builtin
    only where it
    is what is being tested: the entry point, or the outermost call of an assert that uses no other program
    name."""
    used = {n.id for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Name)}
    own = {name.name for tree in trees for name in tree.body if isinstance(name, ast.FunctionDef | ast.ClassDef)}
    visible = [n for n in names if n in used and n not in own and not hasattr(builtins, n) and n[:2] != "__"]
    entry = tests.get("entry_point")
    if entry is not None and entry in names:
        return [*visible, entry] if entry not in visible else visible
    if not any(isinstance(n, ast.Name) and n.id in visible for t in trees for n in ast.walk(t)):
        visible += sorted({n for tree in trees for n in _outermost(tree) if n in names and hasattr(builtins, n)})
    return visible


def _outermost(tree: ast.Module) -> list[str]:
    found = []
    for statement in tree.body:
        if isinstance(statement, ast.Assert):
            test = statement.test.left if isinstance(statement.test, ast.Compare) else statement.test
            if isinstance(test, ast.Call) and isinstance(test.func, ast.Name):
                found.append(test.func.id)
    return found


def _official(job: dict[str, Any], control: socket.socket) -> Verdict:
    """Program and grader in one process, as the public harnesses do it; the process's own word is taken."""
    tests = job["tests"]
    cases = len(tests.get("cases", ())) or len(tests.get("asserts", ())) or 1
    allowed = (job["timeout_s"] + 1) * cases + 5
    with Candidate(control, job["limits"]) as candidate:
        nonce = os.urandom(16).hex()  # what a program writes on its own account does not carry it
        candidate.tell(
            {
                "kind": "official",
                "code": job["code"],
                "tests": tests,
                "timeout_s": job["timeout_s"],
                "int_digits": 50_000,
                "nonce": nonce,
            }
        )
        try:
            answer = candidate.hear(allowed)
            if answer["nonce"] != nonce:
                raise KeyError("nonce")
            codes = answer["codes"]
        except (remote.CandidateError, wire.Gone, TypeError, KeyError) as error:
            # the official harness loses the result of a process that died or overran, and counts it as wrong
            late = isinstance(error, remote.CandidateError) and error.outcome == "timeout"
            return verdict("timeout" if late else "error", f"no result: {error}", [WRONG])
    passed = bool(codes) and all(_positive(code) for code in codes)
    if passed:
        return verdict("correct", "", codes)
    last = codes[-1] if codes else WRONG
    return verdict(OUTCOMES.get(last if isinstance(last, int) and last is not False else WRONG, "wrong"), "", codes)


def _positive(code: Any) -> bool:
    return isinstance(code, bool | int | float) and code > 0
