"""Whatever stands in a user's file: one of the project's errors, in time, in flat memory. Never anything else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, Target
from tests.fuzz.wild import Hang, deadline, fuzz, resident_mib

QUICK, THOROUGH, GUIDED = 400, 100_000, 20_000


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_a_few_hundred_wild_inputs(target: Target, tmp_path: Path) -> None:
    count = max(20, round(QUICK * target.share))
    assert fuzz(target.make(tmp_path), target.inputs, count) > 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_a_hundred_thousand_wild_inputs(target: Target, tmp_path: Path) -> None:
    count = round(THOROUGH * target.share)
    before, start = resident_mib(), time.process_time()
    refused = fuzz(target.make(tmp_path), target.inputs, count, first_seed=1000)
    seconds = time.process_time() - start
    print(
        f"\n{target.name}: {count} inputs, {refused} refused, {seconds:.0f} s of processor time, "
        f"memory {before:.0f} -> {resident_mib():.0f} MiB"
    )
    assert refused > count // 20


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("parser", ["recipe", "records", "manifest", "livecodebench"])
def test_bytes_guided_by_coverage(parser: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.fuzz.guided", parser, str(tmp_path), f"-runs={GUIDED}"]
    done = subprocess.run(
        [*command, "-timeout=36000", "-rss_limit_mb=3000", "-max_len=4096", f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    print("\n".join(done.stderr.splitlines()[-3:]))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {GUIDED} runs" in done.stderr


def test_the_guard_sees_a_hang_and_a_foreign_error(tmp_path: Path) -> None:
    def hang(value: object) -> None:
        while True:
            pass

    with pytest.raises(Hang), deadline(0.2):
        hang(None)
    with pytest.raises(KeyError):
        fuzz(lambda value: {}["x"], TARGETS[0].inputs, 5)
