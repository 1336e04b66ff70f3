"""The paper's recipes: valid without the hub, and run end to end on small models of their families."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from infra.data import Message, Record, read_records, tokenize
from infra.pipeline.recipe import load_recipe
from infra.store import read_json
from tests.models.generation.test_server import serving
from tests.recipes import families, published

RECIPES = Path(__file__).parents[2] / "recipes"
Here = Callable[..., tuple[int, str]]
PAPER = ("llama3-8b-metamath-oss", "qwen2.5-7b-stratos", "qwen2.5-14b-stratos")


def infra(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra", *map(str, arguments)], capture_output=True, text=True, timeout=1500
    )


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """The command line in this process: exit code, and what it printed."""
    from infra.cli import main

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["infra", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out + said.err

    return call


@pytest.mark.parametrize("name", PAPER)
def test_a_dry_run_needs_neither_hub_nor_server(name: str, here: Here, tmp_path: Path) -> None:
    anywhere = ("--offline", "--set", "model.device=cpu")
    code, said = here("run", RECIPES / f"{name}.yaml", "--dry-run", *anywhere, "--out", tmp_path / "run")
    assert code == 0 and "nothing was run" in said and "from the hub" in said
    assert "asked over the network" in said and not (tmp_path / "run").exists()


def test_the_two_sizes_of_setup_b_differ_in_the_model_alone() -> None:
    small, large = (load_recipe(RECIPES / f"{n}.yaml").model_dump() for n in PAPER[1:])
    differing = {k for k in small if small[k] != large[k]}
    assert differing == {"name", "question", "model", "curvature"}
    assert {k for k, v in small["curvature"].items() if v != large["curvature"][k]} == {"tracked"}
    assert small["data"]["difficulty"] == {"math": "judge", "code": "judge"}


def test_a_setting_on_the_command_line_reaches_the_plan(here: Here, tmp_path: Path) -> None:
    rows = published.write(tmp_path / "mine.jsonl", published.stratos(4, 0))
    args = ("run", RECIPES / "qwen2.5-7b-stratos.yaml", "--dry-run", "--out", tmp_path / "run")
    code, said = here(*args, "--set", f"data.sources.0.path={rows}", "--set", "arms.names=[flip]")
    assert "sft/flip-s2" in said and "sft/random-swap-s0" not in said
    assert code != 0 and "problems" in said  # four records and no judge: the plan is printed, and what is wrong
    for change, words in (
        ("data.sources.0.path=./nothere.jsonl", "nothere.jsonl: no such file"),
        ("data.sources.7.path=x", "data.sources is a list of 2"),
        ("sft.epoch=1", "did you mean 'epochs'"),
        ("tasks.0.split=held-out", "none can make target 'math'"),
        ("seeds", "a key and a value are expected"),
    ):
        code, said = here(*args, "--set", change)
        assert code == 2 and words in said.replace("\n", ""), (change, said)


TURN = (Message("system", "S"), Message("user", "What is 2 + 3?"), Message("assistant", "It is 5."))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            families.qwen2_tokenizer,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n"
            "<|im_start|>assistant\n[It is 5.<|im_end|>]\n",
        ),
        (
            lambda texts: families.llama3_tokenizer(texts, instruct=True),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nWhat is 2 + 3?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n[It is 5.<|eot_id|>]",
        ),
        (
            families.llama3_tokenizer,
            "<|begin_of_text|><|im_start|>system\nS<|end_of_text|>\n<|im_start|>user\nWhat is 2 + 3?<|end_of_text|>\n"
            "<|im_start|>assistant\n[It is 5.<|end_of_text|>]\n",
        ),
    ],
    ids=["qwen2.5-instruct", "llama3-instruct", "llama3-base"],
)
def test_each_familys_turns_and_loss_mask(make: Any, text: str) -> None:
    """The brackets stand around what is under the loss."""
    tokenizer = make(["What is 2 + 3? It is 5."] * 3)
    [example] = tokenize([Record("r", TURN, "math", "s")], tokenizer, max_length=None).examples
    assert tokenizer.decode(example.input_ids) == text.replace("[", "").replace("]", "")
    assert tokenizer.decode(example.input_ids[example.loss_mask]) == text[text.index("[") + 1 : text.index("]")]


def rate(body: dict[str, Any], number: int) -> tuple[int, Any]:
    """A judge: problems with more terms are harder."""
    problem = body["messages"][0]["content"].split("Problem:\n")[1]
    score = 1 + len(re.findall(r" and \d| or ", problem))
    answer = {"message": {"content": f"It has {score} terms.\nRating: {min(score, 10)}"}, "finish_reason": "stop"}
    return 200, {"choices": [answer], "usage": {"completion_tokens": 9}}


SMALL = [
    "model.device=cpu",
    "model.dtype=float32",
    "sft.autocast=null",
    "sft.max_tokens_per_microbatch=2048",
    "sft.batch_size=8",
    "sft.epochs=5",
    "sft.learning_rate=0.005",
    "seeds=1",
    "targets.folds=2",
    "targets.minimum=5",
    "targets.samples=1",
    "curvature.fraction=1",
    "curvature.tracked=mlp",
    "scale.fsdp=false",
    "scores.span_examples=20",
    "scores.delete_examples=5",
    "effects.bootstrap=50",
    "eval.max_new_tokens=80",
    "eval.max_batch_tokens=65536",
]


def run_small(name: str, folder: Path, base: Path, files: dict[str, list[dict[str, Any]]], changes: list[str]) -> Path:
    """Run a recipe of the paper through the command line with the files and the small model in place."""
    for file, rows in files.items():
        published.write(folder / file, rows)
    with serving(rate) as (url, asked):
        sets = [*SMALL, *changes, f"model.base={base}", f"data.judge.server={url}"]
        arguments = [a for s in sets for a in ("--set", s)]
        done = infra("run", RECIPES / f"{name}.yaml", "--out", folder / "run", *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        n_asked = len(asked)
        again = infra("run", RECIPES / f"{name}.yaml", "--out", folder / "run", *arguments)
        assert again.returncode == 0 and len(asked) == n_asked, "the judge was asked again"
    return folder / "run"


def texts_of(*rows: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(row) for part in rows for row in part]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_setup_a_runs_on_a_small_llama3(tmp_path: Path) -> None:
    math, code = published.metamath(150, 0), published.oss_instruct(150, 1)
    base = families.small_llama3(texts_of(math, code), tmp_path / "base")
    files = {
        "metamath.jsonl": math,
        "oss.jsonl": code,
        "gsm8k.jsonl": published.gsm8k(45, 2),
        "mbpp.jsonl": published.mbpp(45, 3),
    }
    run = run_small(
        PAPER[0],
        tmp_path,
        base,
        files,
        [
            f"data.sources.0.path={tmp_path / 'metamath.jsonl'}",
            f"data.sources.1.path={tmp_path / 'oss.jsonl'}",
            "data.sources.0.shares={train: 1.0}",
            "data.sources.1.shares={train: 1.0}",
            f"tasks.0.path={tmp_path / 'gsm8k.jsonl'}",
            f"tasks.1.path={tmp_path / 'mbpp.jsonl'}",
        ],
    )
    targets = {t["target"]: t for t in read_json(run / "targets" / "targets.json")}
    assert set(targets) == {"math", "code"} and all(t["kept"] >= 5 for t in targets.values())
    scores = pd.read_parquet(run / "scores" / "examples.parquet")
    assert {"score_math", "score_code"} <= set(scores.columns) and scores.domain.value_counts().to_dict() == {
        "math": 150,
        "code": 150,
    }
    assert read_json(run / "records" / "counts.json")["judge"]["math"] == {
        "n": 150,
        "unreadable_votes": 0,
        "alpha": 1.0,
    }
    table = pd.read_parquet(run / "effects" / "effects.parquet")
    assert {"math", "code"} <= set(table.target) and (run / "report.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_setup_b_runs_on_a_small_qwen2(tmp_path: Path) -> None:
    train, pool = published.stratos(200, 0), published.stratos(200, 1)
    base = families.small_qwen2(texts_of(train, pool), tmp_path / "base")
    files = {
        "stratos.jsonl": train,
        "openthoughts.jsonl": pool + train[:20],
        "math500.jsonl": published.math500(45, 2),
        "aime24.jsonl": published.aime24(3),
        "aime25.jsonl": published.aime25(4),
        "lcb.jsonl": published.livecodebench(45, 5),
    }
    tasks = ("math500", "aime24", "aime25", "lcb")
    run = run_small(
        PAPER[1],
        tmp_path,
        base,
        files,
        [
            f"data.sources.0.path={tmp_path / 'stratos.jsonl'}",
            f"data.sources.1.path={tmp_path / 'openthoughts.jsonl'}",
            "data.sources.1.shares={pool: 1.0}",
            *(f"tasks.{i}.path={tmp_path / name}.jsonl" for i, name in enumerate(tasks)),
            "tasks.1.samples=2",
            "tasks.2.samples=1",
            "arms.names=[flip,same-difficulty-swap,reverse-flip]",
            "eval.temperature=0",
            "eval.top_p=1",
            "eval.max_new_tokens=160",
            "sft.epochs=9",
        ],
    )
    assert len(read_records(run / "records" / "pool.parquet").records) == 200  # the training problems were taken out
    problems = {n: read_records(run / "records" / "problems" / f"{n}.parquet").records for n in ("aime24", "math500")}
    assert all(p.attributes["split"] == "held-out" for p in problems["aime24"])
    assert problems["math500"][0].messages[0].content == published.SYSTEM
    rows = pd.read_parquet(run / "evals" / "flip-s0" / "rows.parquet")
    assert rows.task.value_counts()["aime24"] == 60 and rows.task.value_counts()["aime25"] == 30
    targets = {t["target"]: t for t in read_json(run / "targets" / "targets.json")}
    assert targets["math"]["kept"] >= 5 and targets["code"]["source"] == "verified"
    assert targets["code"]["solved"] >= 1, "no answer to a LiveCodeBench problem was verified"
    for arm, direction in (("flip", 1), ("reverse-flip", -1)):
        manifest = read_json(run / "arms" / f"{arm}.json")
        for domain, sign in (("math", 1), ("code", -1)):
            levels = manifest["domains"][domain]
            mean = [
                sum(int(k) * n for k, n in levels[w].items()) / sum(levels[w].values())
                for w in ("levels_before", "levels_after")
            ]
            assert (mean[1] - mean[0]) * sign * direction > 0, (arm, domain)
            assert levels["n_swapped"] == 30 and abs(levels["tokens_change"]) <= 0.01
    tables = read_json(run / "summary.json")["results"]["tables"]
    assert {r["arm"] for r in tables["accuracy"]} >= {"base", "sft", "flip", "same-difficulty-swap"}
    assert tables["contrasts"] and (run / "report.html").exists()
