"""`infra grade`: files of responses in, the same rows with verdicts out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.errors import InputError
from infra.evals import GradeSettings, grade_file, grade_rows
from tests.evals import exam

ADD = "```python\ndef add(a, b):\n    return a + b\n```"
LESS = "```python\ndef add(a, b):\n    return a - b\n```"
READS = "```python\nprint(sum(map(int, input().split())))\n```"
METHOD = "```python\nclass Solution:\n    def add(self, a, b):\n        return a + b\n```"
CHECK = "def check(candidate):\n    assert candidate(1, 2) == 3\n"
CASES = json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}])


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"response": "\\boxed{4}", "answer": "4"}, "correct"),
        ({"response": "\\boxed{4}", "answer": 4}, "correct"),
        ({"response": "\\boxed{4}", "answer": ["4"]}, "correct"),
        ({"response": "\\boxed{4}", "gold": "4.0"}, "correct"),
        ({"response": "\\boxed{4}", "answer": "2+2=<<2+2=4>>4\n#### 4"}, "correct"),
        ({"response": "\\boxed{9}", "solution": "a $\\boxed{1}$, finally $\\boxed 9$."}, "correct"),
        ({"response": "\\boxed{1}", "solution": "a $\\boxed{1}$, finally $\\boxed 9$."}, "wrong"),
        ({"response": "hm", "answer": "4"}, "no_answer"),
        ({"response": "", "answer": "4"}, "no_answer"),
        ({"response": ADD, "tests": ["assert add(1, 2) == 3"]}, "correct"),
        ({"response": LESS, "tests": ["assert add(1, 2) == 3"]}, "wrong"),
        ({"response": ADD, "tests": json.dumps(["assert add(1, 2) == 3"])}, "correct"),
        ({"response": ADD, "tests": "x = 3\nassert add(1, 2) == x\nassert add(0, 0) == 0"}, "correct"),
        ({"response": ADD, "tests": {"kind": "asserts", "setup": "", "asserts": ["assert add(1, 2) == 3"]}}, "correct"),
        ({"response": ADD, "test_list": ["assert add(1, 2) == 3"], "test_setup_code": ""}, "correct"),
        ({"response": LESS, "test_list": ["assert add(1, 2) == 3"], "test_imports": ["import math"]}, "wrong"),
        ({"response": ADD, "test": CHECK, "entry_point": "add", "prompt": "def add(a, b):\n"}, "correct"),
        ({"response": LESS, "test": CHECK, "entry_point": "add"}, "wrong"),
        ({"response": METHOD, "test": CHECK, "entry_point": "Solution().add", "prompt": "import math\n"}, "correct"),
        ({"response": READS, "input_output": json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]})}, "correct"),
        ({"response": READS, "input_output": {"inputs": ["1 2\n"], "outputs": ["4\n"]}}, "wrong"),
        ({"response": METHOD, "input_output": {"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"}}, "correct"),
        ({"response": READS, "tests": [{"input": "1 2", "output": "3"}]}, "correct"),
        ({"response": READS, "public_test_cases": CASES, "private_test_cases": "", "metadata": "{}"}, "correct"),
        ({"response": "no code", "tests": ["assert add(1, 2) == 3"]}, "no_answer"),
    ],
)
def test_answers_and_tests_are_found_under_their_public_names(row: dict[str, Any], outcome: str) -> None:
    assert grade_rows([row])[0].outcome == outcome


BAD = [
    ({"answer": "4"}, "field 'response': missing"),
    ({"response": 4, "answer": "4"}, "field 'response': a text is expected, found int"),
    ({"response": "\\boxed{4}"}, "field 'answer': missing"),
    ({"response": "\\boxed{4}", "answer": ["1", "2"]}, "field 'answer': a text or a number is expected, found list"),
    ({"response": ADD, "tests": {"kind": "magic"}}, "field 'tests': an object of tests needs a kind"),
    ({"response": ADD, "tests": ["assert add(1, 2) == 3", 5]}, "field 'tests': a list of texts"),
    ({"response": ADD, "tests": "assert ("}, "field 'tests': the tests are not Python"),
    ({"response": ADD, "test": CHECK}, "field 'entry_point': missing"),
    ({"response": ADD, "input_output": "{"}, "field 'input_output': not JSON"),
    ({"response": ADD, "tests": {"kind": "asserts", "asserts": ["assert 1"], "timeout_s": "soon"}}, "timeout_s"),
    ({"response": ADD, "private_test_cases": "!", "public_test_cases": ""}, "field 'private_test_cases'"),
]


def test_a_row_that_cannot_be_graded_is_named_and_the_others_are_graded() -> None:
    graded = grade_rows([*(row for row, _ in BAD), {"response": "\\boxed{4}", "answer": "4"}])
    assert graded[-1].correct
    for (_, reason), found in zip(BAD, graded):
        assert found.outcome == "ungradable" and reason in found.why, found


def test_every_verdict_says_why() -> None:
    rows = [{"response": r, "answer": "4"} for r in ("\\boxed{4}", "\\boxed{5}", "\\boxed{4", "<think>4", "hm")]
    rows += [{"response": r, "tests": ["assert add(1, 2) == 3"]} for r in (ADD, LESS, "hm")]
    said = [g.why for g in grade_rows(rows)]
    for text, word in zip(said, ["same", "differs", "never closed", "thinking", "no box", "passes", "add(1, 2)", "no"]):
        assert word in text


def test_rows_keep_their_order_and_columns_and_bad_lines_their_place(tmp_path: Path) -> None:
    half = '{"id": 2, "response": "\\ud800 \\\\boxed{4}", "answer": "4", "correct": "no"}'
    file = write(tmp_path / "in.jsonl", [{"id": 1, "response": ADD, "tests": ["assert add(1, 2) == 3"]}, half, "{", {}])
    summary = grade_file(file, tmp_path / "out.jsonl")
    rows = read(tmp_path / "out.jsonl")
    assert [r["outcome"] for r in rows] == ["correct", "correct", "ungradable", "ungradable"]
    assert [r.get("id") for r in rows] == [1, 2, None, None] and rows[1]["correct_before"] == "no"
    assert summary.outcomes == {"correct": 2, "ungradable": 2} and summary.sandbox is not None
    assert [line.split(":")[0] for line in summary.ungradable] == [f"{file}, line 3", f"{file}, line 4"]
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob("*.writing"))


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_parquet_and_gzip_hold_the_same_verdicts(tmp_path: Path, name: str) -> None:
    rows = [
        {"response": f"\\boxed{{{i}}}", "answer": str(i % 3), "meta": {"i": i} if i % 2 else "text"} for i in range(9)
    ]
    pq.write_table(
        pa.Table.from_pylist([{k: r[k] for k in ("response", "answer")} for r in rows]), tmp_path / "in.parquet"
    )
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(r) + "\n" for r in rows))
    for source in ("in.parquet", "in.jsonl.gz"):
        grade_file(tmp_path / source, tmp_path / name)
        out = tmp_path / name
        if name.endswith("parquet"):
            found = pq.read_table(out).to_pylist()
        else:
            data = gzip.decompress(out.read_bytes()) if name.endswith("gz") else out.read_bytes()
            found = [json.loads(line) for line in data.splitlines()]
        assert [r["correct"] for r in found] == [i < 3 for i in range(9)]
        assert [r["extracted"] for r in found] == [str(i) for i in range(9)]


def test_a_table_as_people_export_it(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    tests = json.dumps(["assert add(1, 2) == 3"]).replace('"', '""')
    file.write_text(f'response,answer,tests\n"So \\boxed{{1,000}}.",1000,\n"{ADD}",,"{tests}"\nhm,3,\n')
    grade_file(file, tmp_path / "out.jsonl")
    assert [r["outcome"] for r in read(tmp_path / "out.jsonl")] == ["correct", "correct", "no_answer"]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.evals._grade_file.BATCH", 4)
    file = write(tmp_path / "in.jsonl", [{"response": f"\\boxed{{{i}}}", "answer": "3"} for i in range(10)])
    asked: list[int] = []

    def dies(rows: Any, *args: Any, **options: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(rows))
        return grade_rows(rows, *args, **options)

    monkeypatch.setattr("infra.evals._grade_file.grade_rows", dies)
    with pytest.raises(KeyboardInterrupt):
        grade_file(file, tmp_path / "out.jsonl")
    part = tmp_path / "out.jsonl.part"
    assert len(part.read_text().splitlines()) == 9 and not (tmp_path / "out.jsonl").exists()
    part.write_text(part.read_text() + '{"torn": ')
    monkeypatch.setattr("infra.evals._grade_file.grade_rows", grade_rows)
    summary = grade_file(file, tmp_path / "out.jsonl")
    assert (summary.rows, summary.resumed, summary.outcomes["correct"]) == (10, 8, 1)
    grade_file(file, tmp_path / "whole.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_kept_rows_of_another_file_or_setting_are_not_used(tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [{"response": "\\boxed{1}", "answer": "1", "other": "2"}])
    (tmp_path / "out.jsonl.part").write_text('{"graded": "other"}\n{"outcome": "correct", "correct": true}\n')
    assert grade_file(file, tmp_path / "out.jsonl", GradeSettings(answer="other")).outcomes == {"wrong": 1}


def test_files_that_hold_nothing_to_grade_are_refused_before_work(tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [{"text": "a", "label": "b"}])
    with pytest.raises(InputError, match=r"no row can be graded: field 'response': missing.*columns are label, text"):
        grade_file(file, tmp_path / "out.jsonl")
    with pytest.raises(InputError, match=r"written as \.jsonl"):
        grade_file(file, tmp_path / "out.txt")
    with pytest.raises(InputError, match="would replace"):
        grade_file(file, file)
    with pytest.raises(InputError, match="no such file"):
        grade_file(tmp_path / "none.jsonl", tmp_path / "out.jsonl")


def test_the_command_prints_counts_the_sandbox_and_rows_without_a_verdict(tmp_path: Path) -> None:
    rows = [{"response": ADD, "tests": ["assert add(1, 2) == 3"]}, {"response": "\\boxed{4}"}, {"text": 3}]
    file = write(tmp_path / "in.jsonl", rows)
    done = CliRunner().invoke(app, ["grade", str(file), "--out", str(tmp_path / "o.jsonl"), "--limit", "2"])
    assert done.exit_code == 2, done.output
    assert "1 of 2 correct (50.0%, 95% interval 9.5% to 90.5%)" in done.output and "code ran in sandbox" in done.output
    assert f"{file}, line 2: field 'answer': missing" in done.output.replace("\n", "")
    done = CliRunner().invoke(app, ["grade", str(file), "--out", str(tmp_path / "o.jsonl"), "--limit", "1"])
    assert done.exit_code == 0 and "line" not in done.output


def test_the_exam_of_user_faults_through_a_file(tmp_path: Path) -> None:
    rows, _ = exam.load("kinds")
    picked = [r for r in rows if r["class"] in ("times_as_ratios", "box_in_thinking", "echoed_box", "no_brace")]
    file = write(tmp_path / "in.jsonl", [{"response": r["response"], "answer": r["gold"]} for r in picked])
    grade_file(file, tmp_path / "out.jsonl")
    assert [r["correct"] for r in read(tmp_path / "out.jsonl")] == [r["label"] == "correct" for r in picked]
