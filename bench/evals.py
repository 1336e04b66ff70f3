"""How fast answers are verified: sandboxed launches, programs per launch, math checks.

    python -m bench.evals [--seconds 10] [--workers 2] [--benchmarks FOLDER] [--out bench/results/evals.json]

Every program and every answer is different, so that no cache helps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from infra.evals import get_task
from infra.evals.mathcheck import grade_many
from infra.evals.sandbox import Job, Sandbox, backends, run_jobs

TESTS = {"kind": "asserts", "setup": "", "asserts": [f"assert f({i}) == {i + 1}" for i in range(8)]}
STDIN = {"kind": "stdin", "cases": [{"input": "3\n1 2 3\n", "output": "6\n"}]}


def launches(backend: str, seconds: float) -> float:
    """Sandboxes started, used for one program and killed, per second, one after another."""
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        with Sandbox(backend) as sandbox:
            assert sandbox.run(Job("def f(x): return x + 1", TESTS)).outcome == "correct"
        count += 1
    return count / (time.monotonic() - began)


def programs(backend: str, tests: dict[str, Any], code: str, count: int, workers: int) -> float:
    """Programs per second with long-lived sandboxes."""
    jobs = [Job(f"{code}\n# {i}", tests) for i in range(count)]
    began = time.monotonic()
    assert {r.outcome for r in run_jobs(jobs, workers=workers, backend=backend)} == {"correct"}
    return count / (time.monotonic() - began)


def math_pairs(count: int) -> list[tuple[str, str]]:
    """Nine in ten are plain numbers in different notations, as in the benchmarks; the rest needs symbols."""
    out: list[tuple[str, str]] = []
    for i in range(count):
        plain = [(str(i), f"{i:,}"), (f"\\frac{{{i}}}{{7}}", f"{i}/7"), (f"{i}.50", f"{i}.5"), (str(i), str(i + 1))]
        symbols = [(f"x+{i}", f"{i}+x"), (f"({i},2)", f"({i}, 2.0)"), (f"\\sqrt{{{i}}}", f"{i}^{{1/2}}")]
        out.append(symbols[i % 3] if i % 10 == 0 else plain[i % 4])
    return out


def benchmark_pairs(folder: Path) -> list[tuple[str, str]]:
    """Every reference of AIME24, GSM8K and MATH-500 found in ``folder`` against itself, written a little otherwise, and
    against the reference of the next problem: what checking a model on these benchmarks asks for, none of it twice."""
    golds: list[str] = []
    for name, file in (("aime24", "aime24.jsonl"), ("gsm8k", "gsm8k_test.jsonl"), ("math500", "math500.jsonl")):
        if (folder / file).exists():
            golds += [r.answer or "" for r in get_task(name, folder / file).load()]
    right = [(g, "\\displaystyle " + g.replace("\\frac", "\\dfrac") + ".") for g in golds]
    return list(dict.fromkeys([*right, *itertools.pairwise(golds)]))


_rounds = itertools.count(1)


def math_rate(pairs: list[tuple[str, str]], workers: int) -> float:
    """Checks per minute, the start of the processes excluded. Spaces keep a round from finding another's verdicts."""
    spaces = " " * next(_rounds)
    grade_many([(f"y+{i}", f"\\boxed{{{i}+y}}") for i in range(16 * workers)], workers=workers)
    boxed = [(gold, f"\\boxed{{{answer}{spaces}}}") for gold, answer in pairs]
    began = time.monotonic()
    grade_many(boxed, workers=workers)
    return 60 * len(pairs) / (time.monotonic() - began)


def main() -> None:
    """Measure and print; write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--programs", type=int, default=600)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--benchmarks", type=Path, help="folder with aime24.jsonl, gsm8k_test.jsonl, math500.jsonl")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {
        "machine": {"processors": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()},
        "workers": options.workers,
    }
    for backend, problem in backends().items():
        if problem:
            found[backend] = problem
            continue
        function, script = "def f(x): return x + 1", "input()\nprint(sum(map(int, input().split())))"
        found[backend] = {
            "launches_per_second_per_core": launches(backend, options.seconds),
            "functions_per_second": programs(backend, TESTS, function, options.programs, options.workers),
            "scripts_per_second": programs(backend, STDIN, script, options.programs // 2, options.workers),
        }
    found["math_checks_per_minute"] = {
        "mixed, one in ten symbolic": math_rate(math_pairs(options.pairs), options.workers),
        "symbolic only": math_rate(math_pairs(options.pairs)[::10], options.workers),
        "plain numbers": math_rate([p for i, p in enumerate(math_pairs(options.pairs)) if i % 10], options.workers),
    }
    if options.benchmarks is not None:
        pairs = benchmark_pairs(options.benchmarks)
        rate = math_rate(pairs, options.workers)
        found["math_checks_per_minute"][f"references of AIME24, GSM8K and MATH-500, {len(pairs)} pairs"] = rate
    found["machine"]["load_after"] = os.getloadavg()
    text = json.dumps(found, indent=1)
    print(text)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
