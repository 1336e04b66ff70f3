"""The whole commands under torchrun: `infra score` in default tests on forked processes, and torchrun itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infra.influence.steps.worker import work_of
from infra.parallel.launch import Runtime, join_run
from infra.parallel.process_group import init_process_group as joined
from infra.pipeline import prepare, run_logged
from infra.pipeline.runner import follow
from infra.pipeline.score import score_recipe, score_stages
from infra.store import RunFolder
from infra.world import BASE_MODEL, build_world
from tests.parallel.processes import start, together

SETTINGS = {
    "data": {"max_length": 512},
    "model": {"base": str(BASE_MODEL)},
    "targets": {"folds": 2, "minimum": 4},
    "effects": {"bootstrap": 20},
    "scores": {"span_examples": 5, "delete_examples": 2, "query_top": 0, "shard_tokens": 192},
    "report": {"examples": 2},
    "threads": 1,
}


def files(folder: Path, n: int = 6) -> tuple[str, str]:
    train = [r for r in build_world().train if r.domain == "math"]
    for name, part in (("train", train[:n]), ("queries", train[n + 6 : n + 14])):
        rows = [{"prompt": r.question, "response": r.response} for r in part]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "train.jsonl"), str(folder / "queries.jsonl")


def score(train: str, queries: str, out: Path) -> None:
    """`infra score` up to its spans, which rank 0 makes alone as it does the convergence."""
    recipe = score_recipe(train, queries, **json.loads(json.dumps(SETTINGS)))
    prepare(recipe)
    stages = score_stages(recipe, None)
    stages = stages[: 1 + [s.name for s in stages].index("spans")]
    run = RunFolder(out)
    with joined() as here:
        if not here.first:
            follow(stages, run)
            return
        with run.lock():
            run_logged(stages, run, recipe)


def payload(out: Path) -> dict[str, bytes]:
    """Factors, directions and scores."""
    return {
        p.relative_to(out).as_posix(): p.read_bytes()
        for stage in ("curvature", "directions", "scores")
        for p in sorted((out / stage).rglob("*"))
        if p.is_file()
    }


def test_infra_score_writes_the_same_bytes_on_one_and_two_processes(tmp_path: Path) -> None:
    data = files(tmp_path)
    together(1, score, *data, tmp_path / "one")
    together(2, score, *data, tmp_path / "two")
    one = payload(tmp_path / "one")
    assert len(one) > 8 and payload(tmp_path / "two") == one
    told = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert any(t.get("unit") == "token" and t["done"] == t["total"] for t in told)
    last = json.loads((tmp_path / "two" / "runtime.jsonl").read_text().splitlines()[-1])
    assert last["environment"]["processes"] == 2 and last["environment"]["torch"]


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# without --multi_gpu it starts one process; on a machine without GPUs its two then use gloo, as torchrun's do
ACCELERATE = [
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_a_launcher_runs_the_whole_job_as_one_process_does(launcher: list[str], tmp_path: Path) -> None:
    """Evaluation, SFT, attribution and arms on two processes. SFT sums gradients in another order, so to tolerance."""
    from tests.pipeline.conftest import MINI

    recipe = tmp_path / "mini.yaml"
    recipe.write_text(json.dumps({**MINI, "threads": 1, "model": {"dtype": "float64"}}))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for out, begun_by in (("one", []), ("two", launcher)):
        command = [sys.executable, *begun_by, "-m", "infra", "run", str(recipe), "--out", str(tmp_path / out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("report:") == 1
    for stage in ("evals/base", "evals/original-s0", "responses"):
        one, two = (pd.read_parquet(tmp_path / out / stage / "rows.parquet") for out in ("one", "two"))
        pd.testing.assert_frame_equal(one, two)
    one, two = (np.load(tmp_path / out / "scores" / "folds.npy") for out in ("one", "two"))
    assert np.linalg.norm(one - two) / np.linalg.norm(one) < 1e-8


def help_out(run: Path) -> None:
    while not (run / ".lock").exists():
        time.sleep(0.01)
    done = join_run(run, work_of, Runtime(threads=1), poll=0.01)
    (run.parent / f"helped-{os.getpid()}").write_text(str(done))


@pytest.mark.slow
def test_helpers_come_and_are_killed_without_a_trace_in_the_bytes(tmp_path: Path) -> None:
    """One helper stays to the end, another is killed as soon as it has worked for a while."""
    data = files(tmp_path, 36)  # enough that work is left for helpers when they see it
    together(1, score, *data, tmp_path / "one")
    run = tmp_path / "two"
    helpers = [start(1, help_out, run)[0] for _ in range(2)]
    [command] = start(1, score, *data, run)
    while not list(run.glob("scores.part/.work/*-examples/locks/*.lock")) and command.is_alive():
        time.sleep(0.005)
    helpers[1].kill()
    for process in (command, *helpers):
        process.join(280)
    assert [command.exitcode, helpers[0].exitcode] == [0, 0]
    assert int(next(tmp_path.glob("helped-*")).read_text()) > 0
    assert payload(run) == payload(tmp_path / "one")
