"""The judge: holds the tests, asks candidates for outputs, compares plain data, and says what happened.

It runs in a process of its own for each job (see ``supervisor``).
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

from . import testcode, wire
from .bounds import allow, shown
from .remote import Candidate, CandidateError, Ungradable
from .verdicts import FAILED, LATE, OUTCOMES, PASSED, WRONG, Verdict, lines_agree, same, verdict

_GRACE = 5.0


def judge(job: dict[str, Any], control: socket.socket) -> Verdict:
    """Run one job and judge it."""
    tests = job["tests"]
    try:
        if job["mode"] == "compatible":
            return _official(job, control)
        if tests["kind"] == "stdin":
            return _stdin(job, tests["cases"], control)
        if tests["kind"] == "functional":
            return _functional(job, tests, control)
        return testcode.judge(job, control)
    except Ungradable as error:
        return verdict("ungradable", str(error))


def _stdin(job: dict[str, Any], cases: list[dict[str, str]], control: socket.socket) -> Verdict:
    try:
        given = [case["input"].encode("utf-8", "surrogateescape") for case in cases]
    except UnicodeEncodeError as error:
        raise Ungradable(f"a test's input is not text: {error.reason}") from error
    codes: list[Any] = []
    for number, case in enumerate(cases):
        allow(job["timeout_s"])
        try:
            code, detail = _one_run(job, given[number], case["output"], control)
        except CandidateError as error:
            code, detail = LATE if error.outcome == "timeout" else FAILED, str(error)
        codes.append(code)
        if code is not PASSED:
            return verdict(OUTCOMES[code], f"test {number}: {detail}", codes)
    return verdict("correct", "", codes)


def _one_run(job: dict[str, Any], given: bytes, expected: str, control: socket.socket) -> tuple[Any, str]:
    source = os.memfd_create("stdin")
    view = memoryview(given)
    while view:
        view = view[os.write(source, view) :]
    os.lseek(source, 0, os.SEEK_SET)
    seconds = job["timeout_s"]
    with Candidate(control, job["limits"], source) as candidate:
        candidate.tell({"kind": "stdin", "code": job["code"], "prelude": True, "int_digits": 50_000}, seconds)
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
    return WRONG, f"printed {shown(output.strip())}"


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
    try:
        cases = [
            ([json.loads(line) for line in c["input"].split("\n")], json.loads(c["output"])) for c in tests["cases"]
        ]
    except (ValueError, RecursionError) as error:
        raise Ungradable(f"a test is not JSON: {error}") from error
    codes: list[Any] = []
    with Candidate(control, job["limits"]) as candidate:
        try:
            allow(job["timeout_s"])
            candidate.load(job["code"], job["timeout_s"], prelude=True, instance=True)
            method = candidate.named(tests["entry_point"])
        except CandidateError as error:
            return verdict(error.outcome, str(error), [FAILED])
        for number, (arguments, expected) in enumerate(cases):
            allow(job["timeout_s"])
            try:
                result = candidate.ask("call", [method, *arguments], job["timeout_s"])
            except CandidateError as error:
                codes.append(LATE if error.outcome == "timeout" else FAILED)
                return verdict(error.outcome, f"test {number}: {error}", codes)
            result = list(result) if isinstance(result, tuple) else result
            if not same(result, expected):
                return verdict("wrong", f"test {number}: returned {shown(result)}", [*codes, WRONG])
            codes.append(PASSED)
    return verdict("correct", "", codes)


def _arguments(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n")]


def _official(job: dict[str, Any], control: socket.socket) -> Verdict:
    """Program and grader in one process, as the public harnesses do it; the process's own word is taken."""
    tests = job["tests"]
    cases = len(tests.get("cases", ())) or len(tests.get("asserts", ())) or 1
    allowed = (job["timeout_s"] + 1) * cases + 5
    allow(allowed + _GRACE)
    with Candidate(control, job["limits"]) as candidate:
        nonce = os.urandom(16).hex()  # what a program writes on its own account does not carry it
        request = {"kind": "official", "code": job["code"], "tests": tests, "timeout_s": job["timeout_s"]}
        try:
            candidate.tell({**request, "int_digits": 50_000, "nonce": nonce}, allowed)
            answer = candidate.hear(allowed)
            if answer["nonce"] != nonce:
                raise KeyError("nonce")
            codes = [_code(c) for c in answer["codes"]][:cases]
        except (CandidateError, wire.Gone, TypeError, KeyError) as error:
            # the official harness loses the result of a process that died or overran, and counts it as wrong
            late = isinstance(error, CandidateError) and error.outcome == "timeout"
            return verdict("timeout" if late else "error", f"no result: {error}", [WRONG])
    passed = bool(codes) and all(_positive(code) for code in codes)
    if passed:
        return verdict("correct", "", codes)
    last = codes[-1] if codes else WRONG
    return verdict(OUTCOMES.get(last if isinstance(last, int) and last is not False else WRONG, "wrong"), "", codes)


def _code(code: Any) -> Any:
    """A result code as the program's process sent it; what is no number is a wrong answer."""
    small = isinstance(code, float) or (isinstance(code, int) and abs(code) < 1 << 31)
    return code if small else WRONG


def _positive(code: Any) -> bool:
    return bool(code > 0)
