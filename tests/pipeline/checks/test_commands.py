"""The commands: refused in one message with the right exit code, dry runs, and an earlier run left as it was."""

from __future__ import annotations

import json

import pytest

from infra.world import BASE_MODEL
from tests.pipeline.checks.conftest import row, tree, write
from tests.pipeline.test_cli import infra


def score(good, out, *more):
    return infra(
        *("score", "--model", BASE_MODEL, "--train", good["train"], "--queries", good["queries"], "--out", out), *more
    )


def test_a_dry_run_of_score_checks_everything_and_writes_nothing(good, tmp_path):
    done = score(good, tmp_path / "run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "scores" in done.stdout and "nothing was run" in done.stdout and not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_score_lists_all_faults_and_leaves_no_folder(good, tmp_path, more):
    good["train"] = write(tmp_path / "train.jsonl", [row(0), row(1, "long " * 400)])
    done = score(good, tmp_path / "run", "--max-length", "64", "--tracked", "mlpp", "--device", "cuda:9", *more)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for words in ("3 problems", "--max-length", "train.jsonl", "line 2 has ", "'mlpp'", "cuda:9"):
        assert words in done.stderr
    assert not (tmp_path / "run").exists()


def test_run_lists_all_faults_and_leaves_no_folder(tmp_path):
    changes = ["--set", "method=no-such", "--set", "curvature.tracked=mlpp", "--set", "model.device=cuda:9"]
    done = infra("run", "--quick", "--out", tmp_path / "run", *changes)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    for words in ("no-such", "mlpp", "cuda:9"):
        assert words in done.stderr


def finished_run(folder):
    """The least that `infra validate` asks of a run before it begins."""
    model = folder / "sft" / "original-s0" / "model"
    model.mkdir(parents=True)
    (model / "sft.json").write_text("{}")
    (model / "order.npy").write_bytes(b"")
    recipe = {
        "name": "done",
        "data": {"world": "default"},
        "tasks": [{"name": "world-math", "target": "math"}],
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


def test_a_refused_validation_leaves_the_run_untouched(tmp_path):
    run = finished_run(tmp_path / "run")
    before = tree(run)
    done = infra("validate", run, "--methods", "random,TYPO,gradinet")
    assert done.returncode == 2 and "'TYPO'" in done.stderr and "'gradinet'" in done.stderr
    assert tree(run) == before


def test_validating_what_is_no_run_says_what_is_missing(tmp_path):
    (run := finished_run(tmp_path / "run")).joinpath("sft/original-s0/model/order.npy").unlink()
    done = infra("validate", run, "--methods", "TYPO")
    assert done.returncode == 2 and "'TYPO'" in done.stderr and "order.npy" in done.stderr


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_eval_lists_all_faults(tmp_path, more):
    (tmp_path / "file").write_text("")
    tasks = f"gsm8k={tmp_path / 'none.jsonl'},no-such-task"
    words = ("--model", "./no-such-model", "--tasks", tasks, "--out", tmp_path / "file" / "x", "--device", "cuda:9")
    done = infra("eval", *words, *more)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    for word in ("none.jsonl", "no-such-task", "no-such-model", "cuda:9", "choose another --out"):
        assert word in done.stderr, word


def test_eval_in_order_passes_a_dry_run(tmp_path):
    write(tmp_path / "gsm.jsonl", [{"question": "1 + 1?", "answer": "#### 2"}])
    tasks = f"gsm8k={tmp_path / 'gsm.jsonl'}"
    done = infra("eval", "--model", BASE_MODEL, "--tasks", tasks, "--out", tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out").exists()
