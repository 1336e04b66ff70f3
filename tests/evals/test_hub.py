"""Benchmarks by their hub ids, through the real client libraries, from a stand-in for the hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.evals import hub

pytest.importorskip("datasets")

CARD = "---\nconfigs:\n{}---\n"
CONFIG = "- config_name: {name}\n{default}  data_files:\n"
FILE = "  - split: {split}\n    path: {path}\n"


def repository(root: Path, name: str, configs: dict[str, dict[str, tuple[str, list[dict[str, Any]]]]]) -> None:
    """Write a data set as its owners publish it: configuration -> split -> (file, rows)."""
    folder, card = root / name, ""
    for config, splits in configs.items():
        default = "  default: true\n" if config in ("full", "default") else ""
        card += CONFIG.format(name=config, default=default)
        for split, (path, rows) in splits.items():
            card += FILE.format(split=split, path=path)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix == ".parquet":
                import pyarrow as pa
                import pyarrow.parquet as pq

                pq.write_table(pa.Table.from_pylist(rows), target)
            else:
                target.write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "README.md").write_text(CARD.format(card))


def mbpp(number: int) -> dict[str, Any]:
    return {
        "task_id": number,
        "text": f"Write a function to add {number}.",
        "code": f"def f(x):\n    return x + {number}",
        "test_list": [f"assert f(1) == {number + 1}"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }


GSM = [{"question": f"What is {i} + {i}?", "answer": f"<<{i}+{i}={2 * i}>>{2 * i}.\n#### {2 * i}"} for i in range(3)]
MATH = {
    "problem": "Add 1 and 1.",
    "solution": "\\boxed{2}",
    "answer": "2",
    "subject": "Algebra",
    "level": 1,
    "unique_id": "test/algebra/1.json",
}
HUMAN = {
    "task_id": "HumanEval/0",
    "prompt": 'def inc(x):\n    """Add one."""\n',
    "entry_point": "inc",
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}
CASES = json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}])
LCB = {
    "question_title": "t",
    "question_content": "Add one.",
    "platform": "atcoder",
    "question_id": "a",
    "contest_id": "c",
    "contest_date": "2024-03-01T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": CASES,
    "private_test_cases": CASES,
    "metadata": "{}",
}
AIME24 = {"id": 60, "problem": "Find 25.", "solution": "...", "answer": "025", "url": "https://x.org", "year": "2024"}
AIME25 = {"problem": "Find 70.", "answer": "70", "id": "0"}


def publish(root: Path) -> None:
    one = "data/{}-00000-of-00001.parquet"
    repository(root, "HuggingFaceH4/aime_2024", {"default": {"train": (one.format("train"), [AIME24])}})
    repository(root, "math-ai/aime25", {"default": {"test": ("test.jsonl", [AIME25])}})
    repository(root, "HuggingFaceH4/MATH-500", {"default": {"test": ("test.jsonl", [MATH])}})
    gsm = {c: {s: (f"{c}/{s}-00000-of-00001.parquet", GSM) for s in ("train", "test")} for c in ("main", "socratic")}
    repository(root, "openai/gsm8k", gsm)
    parts = {"prompt": [1], "test": [11, 12], "validation": [511], "train": [601]}
    full = {s: (f"full/{s}-00000-of-00001.parquet", [mbpp(n) for n in ns]) for s, ns in parts.items()}
    other = {"test": ("sanitized/test.jsonl", [MATH])}
    repository(root, "google-research-datasets/mbpp", {"full": full, "sanitized": other})
    human = {"test": ("openai_humaneval/test.parquet", [HUMAN])}
    repository(root, "openai/openai_humaneval", {"openai_humaneval": human})
    lite = root / "livecodebench/code_generation_lite"
    lite.mkdir(parents=True)
    for number in range(1, 7):
        (lite / ("test.jsonl" if number == 1 else f"test{number}.jsonl")).write_text(
            json.dumps({**LCB, "question_id": str(number)}) + "\n"
        )


ASK = """
import json
from infra.evals import get_task
from infra.errors import InputError
out = {}
for name, options in json.loads(input()):
    try:
        rows = get_task(name).load(**options)
        out[name + str(options or '')] = [[r.question[:40], r.answer, bool(r.tests)] for r in rows]
    except InputError as error:
        out[name + str(options or '')] = str(error)
print(json.dumps(out))
"""


def loaded(endpoint: str, home: Path, wanted: list[tuple[str, dict[str, str]]]) -> dict[str, Any]:
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_ETAG_TIMEOUT": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0, done.stderr[-1500:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
def test_every_benchmark_loads_by_its_hub_id(tmp_path: Path) -> None:
    publish(tmp_path / "hub")
    names: list[tuple[str, dict[str, str]]] = [
        (n, {}) for n in ("aime24", "aime25", "math500", "gsm8k", "mbpp", "humaneval", "livecodebench")
    ]
    names += [("mbpp", {"part": "test"}), ("livecodebench", {"release": "v2_v3"})]
    with hub.serving(tmp_path / "hub") as (endpoint, asked):
        found = loaded(endpoint, tmp_path / "home", names)
    assert {k: len(v) if isinstance(v, list) else v for k, v in found.items()} == {
        "aime24": 1,
        "aime25": 1,
        "math500": 1,
        "gsm8k": 3,
        "mbpp": 5,
        "humaneval": 1,
        "livecodebench": 6,
        "mbpp{'part': 'test'}": 2,
        "livecodebench{'release': 'v2_v3'}": 2,
    }, asked[-20:]
    assert found["aime24"][0][1] == "25" and found["gsm8k"][2][1] == "4" and found["humaneval"][0][2]


@pytest.mark.slow
def test_a_hub_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    found = loaded("http://127.0.0.1:9", tmp_path, [("livecodebench", {}), ("gsm8k", {})])
    assert "livecodebench=FILE" in found["livecodebench"]
    assert "cannot be read" in found["gsm8k"]
