"""Code verification: LiveCodeBench's recorded verdicts, strict mode's own, references of public benchmarks."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from infra.data.schema import Message, Record
from infra.errors import InputError
from infra.evals import get_task, verify, verify_many
from infra.evals.sandbox import Job, Limits, run_jobs
from infra.evals.sandbox.inside.verdicts import lines_agree
from infra.evals.tasks.livecodebench import decode_tests, files_of

DATA = Path(__file__).parent / "data"
SHARED = Path(os.environ.get("INFRA_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
PROBLEMS = json.loads((DATA / "livecodebench_problems.json").read_text())
PROGRAMS = [json.loads(line) for line in (DATA / "livecodebench_programs.jsonl").read_text().splitlines()]
MEMORY = Limits(memory=4 << 30)

# where strict mode says something else than the official grader, and why (docs/explanation/grading.md)
STRICTLY_RIGHT = {
    "iterates, reopens or mixes ways of reading standard input": [
        "sum-007",
        "sum-008",
        "sum-009",
        "sum-010",
        "sum-011",
        "sum-012",
        "sum-013",
        "sum-014",
        "sum-016",
        "sum-017",
        "sum-021",
        "sum-022",
        "sum-024",
        "sum-027",
        "sum-033",
        "sum-034",
        "sum-035",
        "sum-042",
        "words-130",
        "blank-161",
        "blank-162",
        "blank-163",
        "blank-164",
        "blank-165",
    ],
    "writes to the real standard output": ["sum-023", "sum-091", "sum-092", "sum-095"],
    "is a script, not the body of a function": ["sum-046", "sum-048", "sum-049", "sum-051", "sum-083"],
}
STRICTLY_WRONG = {
    "an object that equals everything": ["pair-237", "pair-238"],
    "an array where a number is expected": ["half-273"],
    "exit status other than 0": ["sum-085"],
}


def jobs(mode: str, programs: list[dict[str, Any]]) -> list[Job]:
    return [Job(p["code"], PROBLEMS[p["problem"]], 6.0, mode, MEMORY) for p in programs]


def test_a_tenth_of_the_programs_get_the_official_result_codes() -> None:
    some = PROGRAMS[3::12]
    ran = run_jobs(jobs("compatible", some))
    assert {p["id"]: list(r.codes) for p, r in zip(some, ran)} == {p["id"]: p["official_codes"] for p in some}


@pytest.mark.slow
def test_all_programs_get_the_official_result_codes() -> None:
    assert len(PROGRAMS) >= 200
    ran = run_jobs(jobs("compatible", PROGRAMS))
    assert {p["id"]: list(r.codes) for p, r in zip(PROGRAMS, ran)} == {p["id"]: p["official_codes"] for p in PROGRAMS}
    assert [r.outcome == "correct" for r in ran] == [p["official_correct"] for p in PROGRAMS]


@pytest.mark.slow
def test_strict_mode_differs_only_where_the_table_says() -> None:
    ran = run_jobs(jobs("strict", PROGRAMS))
    differ = {p["id"]: r.outcome == "correct" for p, r in zip(PROGRAMS, ran)}
    differ = {p["id"]: differ[p["id"]] for p in PROGRAMS if differ[p["id"]] != p["official_correct"]}
    expected = {i: True for ids in STRICTLY_RIGHT.values() for i in ids}
    expected |= {i: False for ids in STRICTLY_WRONG.values() for i in ids}
    assert differ == expected


@pytest.mark.parametrize(
    ("output", "expected", "agree"),
    [
        ("1 2\n3", "1 2 \n3\n\n", True),
        ("1.0", "1", True),
        ("1e1", "10", True),
        ("a", "A", False),
        ("1\n\n2", "1\n2", False),
        ("0.1", "0.10000000001", False),
        ("50000000000000001", "50000000000000000", False),
        ("", "", True),
        ("x 1.0", "x 1", False),
    ],
)
def test_lines_are_compared_as_text_or_as_decimals(output: str, expected: str, agree: bool) -> None:
    assert lines_agree(output, expected) is agree


def problem(tests: dict[str, Any]) -> Record:
    return Record("r1", (Message("user", "q"),), "code", "test", tests=tests)


ADD = {"kind": "asserts", "setup": "", "asserts": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]}


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        ("```python\ndef add(a, b):\n    return a + b\n```", "correct"),
        ("first\n```python\nbroken(\n```\nthen\n```python\ndef add(a, b):\n    return a + b\n```\ndone", "correct"),
        ("```python\ndef add(a, b):\n    return a - b\n```", "wrong"),
        ("```python\ndef add(a, b):\n    return a +\n```", "error"),
        ("```python\ndef plus(a, b):\n    return a + b\n```", "error"),
        ("def add(a, b): return a + b", "no_answer"),
        ("```python\n```", "no_answer"),
    ],
)
def test_outcomes_are_kept_apart(response: str, outcome: str) -> None:
    assert verify(problem(ADD), response).outcome == outcome


def test_tests_may_use_classes_exceptions_iterators_and_keyword_arguments() -> None:
    code = (
        "class Node:\n    def __init__(self, v, next=None): self.v, self.next = v, next\n"
        "def total(n):\n    t = 0\n    while n: t, n = t + n.v, n.next\n    return t\n"
        "def pairs(xs): return zip(xs, xs[1:])\n"
        "def half(x):\n    if x % 2: raise ValueError('odd')\n    return x // 2\n"
    )
    tests = {
        "kind": "asserts",
        "setup": "n = Node(1, next=Node(2))\nn.next.next = Node(4)",
        "asserts": [
            "assert total(n) == 7 and n.next.v == 2",
            "assert list(pairs([1, 2, 3])) == [(1, 2), (2, 3)]",
            "assert half(x=4) == 2",
            "try:\n    half(3)\n    ok = False\nexcept ValueError:\n    ok = True\nassert ok",
        ],
    }
    assert verify(problem(tests), f"```python\n{code}\n```").outcome == "correct"


def test_a_function_named_like_a_builtin_can_be_tested_but_not_abused() -> None:
    tests = {"kind": "asserts", "setup": "", "asserts": ["assert sum(10, 15) == 6"]}
    assert verify(problem(tests), "```\ndef sum(a, b): return 6\n```").outcome == "correct"
    tests = {"kind": "asserts", "setup": "", "asserts": ["assert abs(f(2) - 4.0) < 1e-6"]}
    assert verify(problem(tests), "```\ndef f(x): return 9\ndef abs(x): return 0\n```").outcome == "wrong"


def test_ungradable_tests_and_records_without_any_are_named() -> None:
    broken = problem({"kind": "asserts", "setup": "", "asserts": ["assert ("]})
    assert verify(broken, "```\nx = 1\n```").outcome == "ungradable"
    neither = verify(Record("r2", (Message("user", "q"),), "math", "test"), "5")
    assert neither.outcome == "ungradable" and "record r2 has neither" in neither.detail
    with pytest.raises(InputError, match="mode 'lenient'"):
        verify_many([broken], ["x"], mode="lenient")


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/infra-owned",)


def packed(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def test_private_tests_are_decoded_without_unpickling_objects() -> None:
    cases = [{"input": "1", "output": "2", "testtype": "stdin"}]
    assert decode_tests(packed(json.dumps(cases)), "x") == cases == decode_tests(json.dumps(cases), "x")
    for bad in (packed(Evil()), packed(cases), packed(["a"]), "!!", base64.b64encode(b"x").decode(), "[1]"):
        with pytest.raises(InputError, match="file f, line 3"):
            decode_tests(bad, "file f, line 3")
    assert not Path("/tmp/infra-owned").exists()


def lcb_row(**changes: Any) -> dict[str, Any]:
    cases = [{"input": "[1]\n2", "output": "3", "testtype": "functional"}]
    return {
        "question_title": "t",
        "question_content": "Add.",
        "platform": "leetcode",
        "question_id": "1",
        "contest_id": "c",
        "contest_date": "2024-03-01T00:00:00",
        "starter_code": "class Solution:\n    def add(self, a, b):",
        "difficulty": "easy",
        "public_test_cases": json.dumps(cases),
        "private_test_cases": packed(json.dumps(cases)),
        "metadata": json.dumps({"func_name": "add"}),
        **changes,
    }


def test_livecodebench_rows_are_read_filtered_and_graded(tmp_path: Path) -> None:
    later = {"contest_date": "2024-09-01T00:00:00", "difficulty": "hard", "platform": "atcoder"}
    rows = [lcb_row(), lcb_row(metadata="{}", **later)]
    (tmp_path / "test.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    (tmp_path / "test2.jsonl").write_text(json.dumps(lcb_row(question_id="3")))
    task = get_task("livecodebench", tmp_path)
    assert len(task.load(release="release_v2")) == 3
    assert len(task.load(release="v2")) == 1 and len(task.load(release="v1_v2")) == 3
    (late,) = task.load(release="v1", start="2024-06-01")
    assert late.attributes["difficulty"] == 3 and late.tests is not None and late.tests["kind"] == "stdin"
    (easy,) = task.load(release="v1", difficulty="easy")
    good = "```python\nclass Solution:\n    def add(self, a: List[int], b):\n        return a[0] + b\n```"
    assert [v.outcome for v in verify_many([easy, easy], [good, good.replace("+", "-")])] == ["correct", "wrong"]
    with pytest.raises(InputError, match="no release 'v9'"):
        task.load(release="v9")
    with pytest.raises(InputError, match="no option colour"):
        task.load(colour="red")
    assert files_of("v4_v6") == ["test4.jsonl", "test5.jsonl", "test6.jsonl"]


REFERENCES = [
    (name, file, mode)
    for name, file in (("mbpp", "mbpp.jsonl"), ("humaneval", "HumanEval.jsonl.gz"))
    for mode in ("strict", "compatible")
    if (SHARED / file).exists()
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file", "mode"), REFERENCES)
def test_every_reference_solution_passes(name: str, file: str, mode: str) -> None:
    records = get_task(name, SHARED / file).load()
    # MBPP 123 needs about 4 s of processor time, close to the customary limit
    verdicts = verify_many(records, [r.response or "" for r in records], mode=mode, timeout_s=30)
    assert [(r.id, v.detail) for r, v in zip(records, verdicts) if not v.correct] == []


def test_lone_surrogates_end_nothing() -> None:
    """Neither in a program nor in what it raises, prints or returns; what is said about it can be written anywhere."""
    responses = [
        "```python\ndef add(a, b):\n    raise ValueError('\\ud800')\n```",
        "```python\n# \ud800\ndef add(a, b):\n    return a - b\n```",
        "```python\ndef add(a, b):\n    return '\\udfff'\n```",
        "```python\nclass E(Exception): pass\nE.__name__ = '\\ud83d'\ndef add(a, b):\n    raise E('\\ud83d')\n```",
        "\udcff only text",
    ]
    for mode in ("strict", "compatible"):
        verdicts = verify_many([problem(ADD)] * len(responses), responses, mode=mode)
        assert [v.outcome for v in verdicts][2:] == ["wrong", "error", "no_answer"]
        assert all(v.outcome in ("error", "wrong") for v in verdicts[:2])
        assert all(v.detail.encode() is not None for v in verdicts)
