"""The command line: help that reads, codes that mean something, one sentence per mistake."""

import subprocess
import sys

import pytest

from tests.command import infra


def test_the_command_is_a_module_too():
    done = subprocess.run([sys.executable, "-m", "infra", "run", "none.yaml"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "none.yaml" in done.stderr


def test_help_names_every_command():
    done = infra("--help")
    assert done.returncode == 0
    for command in ("run", "score", "select", "data", "eval", "validate", "view"):
        assert command in done.stdout


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    done = infra("run", "--quick", "--dry-run", "--out", tmp_path / "x")
    assert done.returncode == 0 and "evals/base" in done.stdout and "report" in done.stdout
    assert not (tmp_path / "x").exists()


RECIPE = "name: x\ndata: {world: default}\ntasks: [{name: world-math, target: math}]\n"


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ("", 2, "mapping"),
        (RECIPE + "seedz: 1\n", 2, "did you mean 'seed"),
        (RECIPE.replace("default", "mars"), 2, "data.world"),
        (RECIPE.replace("world-math,", "no-such-task,"), 2, "no-such-task"),
        (RECIPE.replace("{world: default}", "{sources: [{path: ./missing.jsonl}]}"), 2, "missing.jsonl"),
        (RECIPE + "model: {base: ./missing-model}\n", 2, "missing-model"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, text, code, sentence):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    done = infra("run", recipe, "--out", tmp_path / "run")
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def test_a_missing_recipe_and_an_unwritable_folder(tmp_path):
    done = infra("run", tmp_path / "none.yaml")
    assert done.returncode == 2 and "none.yaml" in done.stderr
    (tmp_path / "file").write_text("")
    done = infra("run", "--quick", "--out", tmp_path / "file" / "run")
    assert done.returncode == 3 and "choose another --out" in done.stderr
    assert infra("run", "--no-such-option").returncode == 2


def test_score_needs_queries_or_directions(tmp_path):
    done = infra("score", "--model", "m", "--train", "t.jsonl", "--out", tmp_path)
    assert done.returncode == 2 and "--queries" in done.stderr
