"""Artifacts are complete or absent, skipped when unchanged, refused when damaged."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from infra.errors import ArtifactError
from infra.store import RunFolder, read_json, sha256_file, stage_key, write_json


def make(run: RunFolder, text: str = "hello", config: dict | None = None) -> None:
    with run.writing("a/b", config or {"x": 1}, {"in": "00"}) as part:
        (part / "file.txt").write_text(text)


def test_a_finished_stage_has_a_manifest_with_the_hash_of_each_output(tmp_path):
    run = RunFolder(tmp_path)
    make(run)
    manifest = run.verify("a/b")
    assert manifest is not None
    assert manifest.key == stage_key("a/b", {"x": 1}, {"in": "00"})
    assert manifest.outputs == {"file.txt": sha256_file(tmp_path / "a/b/file.txt")}
    assert not list(tmp_path.rglob("*.part"))


def test_a_block_that_fails_leaves_no_finished_stage_and_keeps_its_work(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(ValueError), run.writing("s", {}, {}) as part:
        (part / "half").write_text("1")
        raise ValueError
    assert run.verify("s") is None
    with run.writing("s", {}, {}) as part:
        assert (part / "half").read_text() == "1"  # same key: the work is handed back
    with pytest.raises(ValueError), run.writing("t", {"k": 1}, {}) as part:
        (part / "half").write_text("1")
        raise ValueError
    with run.writing("t", {"k": 2}, {}) as part:
        assert not (part / "half").exists()  # other settings: nothing of it is used


@pytest.mark.parametrize("damage", ["edit", "truncate", "remove", "flip"])
def test_a_damaged_output_is_refused_by_name(tmp_path, damage):
    run = RunFolder(tmp_path)
    make(run)
    file = tmp_path / "a/b/file.txt"
    if damage == "edit":
        file.write_text("other")
    elif damage == "truncate":
        file.write_text("hel")
    elif damage == "flip":
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    else:
        file.unlink()
    with pytest.raises(ArtifactError, match=r"file\.txt"):
        run.verify("a/b")


def test_a_damaged_manifest_is_refused_by_name(tmp_path):
    run = RunFolder(tmp_path)
    make(run)
    for text in ("", "{", "[]", "{}", json.dumps({"stage": 1})):
        (tmp_path / "a/b/manifest.json").write_text(text)
        with pytest.raises(ArtifactError, match="manifest"):
            run.verify("a/b")


def test_two_writers_do_not_share_a_run_and_a_killed_one_leaves_no_lock(tmp_path):
    run = RunFolder(tmp_path)
    script = textwrap.dedent(
        """
        import sys, time; from pathlib import Path; from infra.store import RunFolder
        with RunFolder(Path(sys.argv[1])).lock():
            print("held", flush=True); time.sleep(60)
        """
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    with pytest.raises(ArtifactError, match="another command"), run.lock():
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with run.lock():
        pass


def test_non_finite_numbers_are_no_json_and_a_torn_runtime_line_is_passed_over(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()
    run = RunFolder(tmp_path)
    run.log_runtime({"stage": "a", "seconds": 1})
    with open(tmp_path / "runtime.jsonl", "a") as handle:
        handle.write('{"stage": "b", "sec')
    assert list(run.runtimes()) == ["a"]
    with pytest.raises(ArtifactError, match="missing"):
        read_json(tmp_path / "none.json")
