"""Verifying responses: math by value, code by running it, many at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from infra.data.rows import whole_text
from infra.data.schema import Record
from infra.errors import InputError
from infra.evals._code_blocks import last_code_block, program_of
from infra.evals._types import Verdict
from infra.evals.mathcheck import grade_many
from infra.evals.sandbox import Job, run_jobs

Progress = Callable[[int], object]
MODES = ("strict", "compatible")
DEFAULT_TIMEOUT_S = 6.0
MATH_TIMEOUT_S = 10.0

_seen: dict[str, Verdict] = {}  # verdicts by (program, tests, mode, limit): the same program is not run twice
SEEN_MAX = 200_000


def verify(record: Record, response: str, **settings: object) -> Verdict:
    """One response; see :func:`verify_many`, which is much faster for many."""
    return verify_many([record], [response], **settings)[0]  # type: ignore[arg-type]


def verify_many(
    records: Sequence[Record],
    responses: Sequence[str],
    *,
    mode: str = "strict",
    timeout_s: float | None = None,
    workers: int | None = None,
    unsafe_execution: bool = False,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Verdict of each response on its record, in order.

    A record with ``tests`` is code, one with an ``answer`` is math. ``mode`` is ``strict`` (the program is
    judged from outside its process) or ``compatible`` (as the public harnesses judge it). ``timeout_s`` per
    test defaults to the record's own ``tests["timeout_s"]``, else 6 s for code and 10 s for math. A record
    with neither tests nor answer is ``ungradable``: it says nothing about the response, and does not end an
    evaluation. Half characters in a response are replaced by U+FFFD. Raises ``ResourceError`` when code
    cannot be contained here (see ``unsafe_execution``).
    """
    if len(records) != len(responses):
        raise InputError(f"{len(records)} records but {len(responses)} responses; give one response per record")
    if mode not in MODES:
        raise InputError(f"mode {mode!r} is unknown; use one of {', '.join(MODES)}")
    code = [i for i, r in enumerate(records) if r.tests is not None]
    math = [i for i, r in enumerate(records) if r.tests is None]
    responses = [whole_text(response) for response in responses]
    out: dict[int, Verdict] = {}
    out |= _code(code, records, responses, mode, timeout_s, workers, unsafe_execution, progress)
    out |= _math(math, records, responses, timeout_s, workers, progress)
    return [out[i] for i in range(len(records))]


def _math(
    which: Sequence[int],
    records: Sequence[Record],
    responses: Sequence[str],
    timeout_s: float | None,
    workers: int | None,
    progress: Progress | None,
) -> dict[int, Verdict]:
    asked = [i for i in which if records[i].answer is not None]
    pairs = [(records[i].answer or "", responses[i]) for i in asked]
    verdicts = grade_many(pairs, workers=workers, timeout_s=timeout_s or MATH_TIMEOUT_S, progress=progress)
    out = {i: Verdict("ungradable", None, f"record {records[i].id} has neither an answer nor tests") for i in which}
    if progress is not None and len(asked) < len(which):
        progress(len(which) - len(asked))
    return out | dict(zip(asked, verdicts))


def _code(
    which: Sequence[int],
    records: Sequence[Record],
    responses: Sequence[str],
    mode: str,
    timeout_s: float | None,
    workers: int | None,
    unsafe_execution: bool,
    progress: Progress | None,
) -> dict[int, Verdict]:
    out: dict[int, Verdict] = {}
    jobs: dict[str, Job] = {}
    keys: dict[int, str] = {}
    programs: dict[int, str] = {}
    for i in which:
        official = mode == "compatible"
        program = last_code_block(responses[i]) if official else program_of(responses[i], records[i].tests or {})
        if program is None or not program.strip():
            out[i] = Verdict("no_answer")
            if progress is not None:
                progress(1)
            continue
        tests = {k: v for k, v in (records[i].tests or {}).items() if k != "timeout_s"}
        limit = timeout_s or float((records[i].tests or {}).get("timeout_s", DEFAULT_TIMEOUT_S))
        body = json.dumps([program, tests, limit, mode], sort_keys=True)
        keys[i] = key = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
        programs[i] = program
        if key not in _seen and key not in jobs:
            jobs[key] = Job(program, tests, limit, mode)
        elif progress is not None:
            progress(1)
    ran = run_jobs(list(jobs.values()), workers=workers, unsafe_execution=unsafe_execution, progress=progress)
    if len(_seen) + len(jobs) > SEEN_MAX:
        _seen.clear()
    fresh = {k: Verdict(r.outcome, None, r.detail, r.codes) for k, r in zip(jobs, ran)}
    for i, key in keys.items():
        found = fresh.get(key) or _seen[key]
        out[i] = Verdict(found.outcome, programs[i], found.detail, found.codes)
    _seen.update({k: v for k, v in fresh.items() if v.outcome in ("correct", "wrong")})
    return out
