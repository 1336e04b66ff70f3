"""`infra eval` as a whole: options of loaders, groups in the summary, going on after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence, Set
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.errors import InputError
from infra.evals import EvalSettings, run_eval
from infra.evals.sandbox import BACKENDS
from infra.models.generation import Generation, Prompt, Sampling
from infra.pipeline.standalone import print_accuracy, split_options


class Knows:
    """A generator that answers from a table and counts what it is asked; it dies after ``life`` answers."""

    identity = "knows"

    def __init__(self, answers: dict[str, str], life: int = 10**9) -> None:
        self.answers, self.life, self.asked = answers, life, 0

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seed: int,
        on_result: Callable[[Generation], None] | None = None,
        skip: Set[tuple[str, int]] = frozenset(),
    ) -> list[Generation]:
        out = []
        for prompt in prompts:
            question = prompt.messages[-1].content
            text = next(a for q, a in self.answers.items() if q in question)
            for index in range(sampling.n):
                if (prompt.id, index) in skip:
                    continue
                if self.asked == self.life:
                    raise KeyboardInterrupt
                self.asked += 1
                said = text if index == 0 else "```python\nprint(0)\n```"
                out.append(Generation(prompt.id, index, said, 3, "stop"))
                if on_result is not None:
                    on_result(out[-1])
        return out


def livecodebench(folder: Path) -> None:
    cases = json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}])
    rows = [
        {
            "question_title": "t",
            "question_content": f"Problem number {i}.",
            "platform": ("atcoder", "leetcode")[i % 2],
            "question_id": str(i),
            "contest_id": "c",
            "contest_date": f"2024-0{1 + i}-01T00:00:00",
            "starter_code": "",
            "difficulty": ("easy", "hard")[i % 2],
            "public_test_cases": cases,
            "private_test_cases": cases,
            "metadata": "{}",
        }
        for i in range(4)
    ]
    (folder / "lcb.jsonl").write_text("\n".join(json.dumps(r) for r in rows))


RIGHT = "```python\nprint(int(input()) + 1)\n```"
ANSWERS = {f"Problem number {i}.": RIGHT if i != 3 else "no idea" for i in range(4)}


def settings(folder: Path, **options: str) -> EvalSettings:
    return EvalSettings(
        ("livecodebench",),
        Sampling(temperature=1.0, n=2),
        paths={"livecodebench": str(folder / "lcb.jsonl")},
        options=options,
    )


def test_the_summary_has_groups_and_all_that_a_number_needs(tmp_path: Path) -> None:
    livecodebench(tmp_path)
    summary = run_eval(Knows(ANSWERS), settings(tmp_path), tmp_path / "out")
    found = summary["tasks"]["livecodebench"]
    assert (found["n"], found["k"], found["mode"], found["revision"]) == (4, 2, "strict", "lite")
    assert found["sandbox"] in BACKENDS
    assert found["avg_at_k"] == 3 / 8 and found["pass_at_k"] == {1: 3 / 8, 2: 3 / 4}
    assert found["outcomes"] == {"correct": 3, "no_answer": 1, "wrong": 4}
    assert {k: v["value"] for k, v in found["by_platform"].items()} == {"atcoder": 0.5, "leetcode": 0.25}
    assert {k: v["n"] for k, v in found["by_month"].items()} == {f"2024-0{i}": 1 for i in range(1, 5)}
    assert {k: v["value"] for k, v in found["by_difficulty"].items()} == {"1": 0.5, "3": 0.25}
    assert sum(v["n"] for v in found["by_split"].values()) == 4 and set(found["by_split"]) <= {"target", "held-out"}
    assert summary["settings"]["sampling"]["temperature"] == 1.0


def test_options_reach_the_loader(tmp_path: Path) -> None:
    livecodebench(tmp_path)
    options = split_options(["platform=atcoder", "start=2024-02-01"], ["livecodebench"])
    assert run_eval(Knows(ANSWERS), settings(tmp_path, **options), tmp_path / "out")["tasks"]["livecodebench"]["n"] == 1
    for bad in ("color=red", "platform"):
        with pytest.raises(InputError, match="write name=value with one of difficulty, end, platform, release, start"):
            split_options([bad], ["livecodebench"])


def test_a_file_in_place_of_the_folder_is_one_sentence(tmp_path: Path) -> None:
    livecodebench(tmp_path)
    with pytest.raises(InputError, match="give a folder"):
        run_eval(Knows(ANSWERS), settings(tmp_path), tmp_path / "lcb.jsonl")


def test_a_killed_evaluation_asks_for_nothing_twice(tmp_path: Path) -> None:
    livecodebench(tmp_path)
    first, second = Knows(ANSWERS, life=5), Knows(ANSWERS)
    with pytest.raises(KeyboardInterrupt):
        run_eval(first, settings(tmp_path), tmp_path / "out")
    cache = tmp_path / "out/generations.jsonl"
    assert len(cache.read_text().splitlines()) == 5
    cache.write_text(cache.read_text() + '{"key": "half a li')  # killed in the middle of a line
    resumed = run_eval(second, settings(tmp_path), tmp_path / "out")
    assert second.asked == 3
    whole = run_eval(Knows(ANSWERS), settings(tmp_path), tmp_path / "other")
    assert resumed == whole


def test_one_broken_row_neither_ends_an_evaluation_nor_ends_it_again(tmp_path: Path) -> None:
    rows = [
        {"problem": "p1", "solution": "so it is $\\boxed 2$.", "level": "Level 3", "type": "Algebra"},
        {"problem": "p2", "solution": "no box here", "level": "Level 1", "type": "Algebra"},
        {"problem": "p3", "solution": "a $\\boxed{1}$, finally $\\boxed 9$.", "level": "Level 1", "type": "Algebra"},
        {"problem": "p4", "solution": "\\boxed {4}", "level": "Level 1", "type": "Algebra"},
    ]
    (tmp_path / "math.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    chosen = EvalSettings(("math500",), paths={"math500": str(tmp_path / "math.jsonl")})
    answers = {"p1": "\\boxed{2} \ud800", "p2": "\\boxed{5}", "p3": "\ud83d\ude00 \\boxed{9}", "p4": "\\boxed{\udc00}"}
    first = run_eval(Knows(answers), chosen, tmp_path / "out")
    again = run_eval(Knows(answers, life=0), chosen, tmp_path / "out")
    assert first == again
    assert first["tasks"]["math500"]["outcomes"] == {"correct": 2, "ungradable": 1, "wrong": 1}
    said = pq.read_table(tmp_path / "out/math500.parquet").to_pylist()
    assert [r["text"] for r in said] == ["\\boxed{2} \ufffd", "\\boxed{5}", "😀 \\boxed{9}", "\\boxed{\ufffd}"]


def test_the_sandbox_in_force_is_printed_and_only_where_code_was_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    livecodebench(tmp_path)
    summary = run_eval(Knows(ANSWERS), settings(tmp_path), tmp_path / "out")
    print_accuracy(summary)
    assert "code was run in: " in capsys.readouterr().out
    assert json.loads((tmp_path / "out/summary.json").read_text())["tasks"]["livecodebench"]["sandbox"] in BACKENDS
    (tmp_path / "gsm.jsonl").write_text(json.dumps({"question": "What is 1 + 1?", "answer": "#### 2"}) + "\n")
    math = EvalSettings(("gsm8k",), Sampling(), paths={"gsm8k": str(tmp_path / "gsm.jsonl")})
    plain = run_eval(Knows({"What is 1 + 1?": "\\boxed{2}"}), math, tmp_path / "math")
    print_accuracy(plain)
    assert plain["tasks"]["gsm8k"]["sandbox"] is None and "code was run in" not in capsys.readouterr().out


def test_a_lone_surrogate_ends_no_evaluation_and_none_that_is_gone_on_with(tmp_path: Path) -> None:
    livecodebench(tmp_path)
    said = (
        "```python\nraise ValueError('\\ud800')\n```",
        "```python\nprint('\ud800')\n```",
        "\udfff no code",
        "```python\ndef f(: \ud83d\n```",
    )
    answers = {f"Problem number {i}.": text for i, text in enumerate(said)}
    first = run_eval(Knows(answers), settings(tmp_path), tmp_path / "out")
    resumed = Knows(answers)
    assert run_eval(resumed, settings(tmp_path), tmp_path / "out") == first and resumed.asked == 0
    assert first["tasks"]["livecodebench"]["outcomes"] == {"error": 2, "no_answer": 1, "wrong": 5}
