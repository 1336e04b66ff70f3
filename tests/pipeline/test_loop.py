"""The whole loop runs, says only what its artifacts say, and a second command does nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from infra.errors import ArtifactError
from infra.pipeline import run_recipe, stages_of
from infra.pipeline.runner import plan_table
from infra.store import RunFolder, read_json
from tests.pipeline.conftest import MINI, mini


def digests(folder):
    run = RunFolder(folder)
    names = [s.name for s in stages_of(mini(), folder)]
    return {n: (m.digest if (m := run.verify(n)) else None) for n in names}


def test_summary_holds_what_the_issue_asks_for(finished):
    summary = read_json(finished / "summary.json")
    tables = summary["results"]["tables"]
    arms = {row["arm"] for row in tables["accuracy"]}
    assert arms == {"base", "sft", "flip", "same-difficulty-swap"}
    assert all({"n", "low", "high", "accuracy", "seed", "task"} <= set(row) for row in tables["accuracy"])
    assert {"target", "domain", "value", "effect", "low", "high"} <= set(tables["effects"][0])
    assert {"predicted", "measured_f"} <= set(tables["arms"][0])
    for stage in stages_of(mini(), finished):
        assert summary["runtime"]["stages"][stage.name]["peak_memory_bytes"] > 0


def test_accuracy_in_the_summary_is_the_share_of_correct_rows(finished):
    for row in read_json(finished / "summary.json")["results"]["tables"]["accuracy"]:
        if row["seed"] == "mean":
            continue
        name = "base" if row["arm"] == "base" else f"{'original' if row['arm'] == 'sft' else row['arm']}-s{row['seed']}"
        rows = pd.read_parquet(finished / "evals" / name / "rows.parquet")
        assert row["accuracy"] == pytest.approx(rows.correct[rows.task == row["task"]].mean())


def test_token_scores_add_up_to_example_scores(finished):
    check = read_json(finished / "scores" / "check.json")["token_sums_against_example_scores"]
    assert check and max(check.values()) < 1e-4
    examples = pd.read_parquet(finished / "scores" / "examples.parquet").set_index("id")
    table = pq.read_table(finished / "scores" / "tokens" / "train-00000.parquet")
    column = next(c for c in table.column_names if c.startswith("loss_"))
    sums = [float(np.sum(v)) for v in table[column].to_pylist()]
    exact = examples.loc[table["id"].to_pylist(), column.replace("loss_", "score_")]
    assert np.allclose(sums, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


def test_steps_add_up_to_the_example(finished):
    steps = pd.read_parquet(finished / "spans" / "steps.parquet")
    column = next(c for c in steps.columns if c.startswith("loss_"))
    examples = pd.read_parquet(finished / "scores" / "examples.parquet").set_index("id")
    total = steps.groupby("id")[column].sum()
    exact = examples[column.replace("loss_", "score_")].loc[total.index]
    # the end-of-turn token belongs to no step of the text, so only most of the influence lies in steps
    assert np.corrcoef(total, exact)[0, 1] > 0.9


def test_duckdb_opens_the_scores(finished):
    count = duckdb.sql(f"select count(*) from '{finished}/scores/examples.parquet' where \"set\" = 'train'").fetchall()
    assert count == [(60,)]


def test_arms_swap_what_their_manifest_says(finished):
    original = set(pq.read_table(finished / "records" / "train.parquet")["id"].to_pylist())
    pool = set(pq.read_table(finished / "records" / "pool.parquet")["id"].to_pylist())
    out = {}
    for arm in ("flip", "same-difficulty-swap"):
        manifest = read_json(finished / "arms" / f"{arm}.json")
        ids = pq.read_table(finished / "arms" / f"{arm}.parquet")["id"].to_pylist()
        assert original - set(ids) == set(manifest["out"]) and set(ids) - original == set(manifest["in"])
        assert set(manifest["in"]) <= pool and len(ids) == len(original)
        out[arm] = set(manifest["out"])
    assert out["flip"] == out["same-difficulty-swap"]


def test_the_report_is_one_offline_page(finished):
    page = (finished / "report.html").read_text()
    assert "too small" in page
    for forbidden in ('rel="stylesheet', 'src="http', 'href="http', "@import", "url(http"):
        assert forbidden not in page


def test_a_second_command_runs_nothing(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("manifest.json")}
    run_recipe(mini(), finished)
    assert before == {p: p.stat().st_mtime_ns for p in finished.rglob("manifest.json")}
    assert {state for _, state, _ in plan_table(stages_of(mini(), finished), RunFolder(finished))} == {"done"}


class Command:
    """`infra run` of the mini recipe in a process of its own."""

    def __init__(self, folder):
        folder.mkdir()
        (folder / "mini.yaml").write_text(yaml.safe_dump(MINI))
        self.out = folder / "run"
        self.line = [sys.executable, "-m", "infra", "run", str(folder / "mini.yaml"), "--out", str(self.out)]

    def start(self, steps):
        """A process that has said of so many steps that they are done, or that has ended."""
        process = subprocess.Popen(self.line, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            steps -= "done in" in line
            if steps == 0:
                break
        return process


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A command stopped by Ctrl-C after its first step: (command, exit code, what it said then)."""
    command = Command(tmp_path_factory.mktemp("interrupted") / "mini")
    process = command.start(steps=1)
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    return command, process.wait(timeout=300), said


def test_ctrl_c_stops_with_one_sentence_and_code_130(interrupted):
    command, code, said = interrupted
    assert code == 130
    assert "the same command goes on" in said and "Traceback" not in said and "leaked" not in said
    assert (command.out / "records" / "manifest.json").exists()


def test_stopped_and_killed_again_and_again_it_ends_with_the_same_bytes(finished, interrupted):
    command, rng = interrupted[0], random.Random(0)
    for steps in (1, 2, 3, 4):
        process = command.start(steps)
        time.sleep(rng.uniform(0, 2))  # into the next steps
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert None in digests(command.out).values()
    done = subprocess.run(command.line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert digests(command.out) == digests(finished) and None not in digests(command.out).values()


def test_a_damaged_artifact_is_refused_by_name(finished, tmp_path):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    target = copy / "effects" / "effects.parquet"
    target.write_bytes(target.read_bytes()[:-10] + b"0123456789")
    with pytest.raises(ArtifactError, match=r"effects\.parquet does not match"):
        run_recipe(mini(), copy)


def test_manifests_name_settings_inputs_and_outputs(finished):
    for path in finished.rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        assert set(manifest) == {"stage", "key", "config", "inputs", "outputs"} and manifest["outputs"]
        assert "seconds" not in path.read_text()
