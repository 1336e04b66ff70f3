"""submitit and Ray do what the processes of one command do: the same tasks by the same function, the same bytes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ArtifactError, InputError
from infra.influence import FitSettings, fit_curvature
from infra.influence.steps import OnDisk
from infra.influence.steps.worker import work_of
from infra.parallel.launch import Launcher, Runtime, run_tasks, worker
from infra.parallel.shards import open_shards
from infra.parallel.tasks import ShardPlan, ShardTask
from tests.parallel.jobs import make
from tests.parallel.processes import contents, together


def fitted(folder: Path, out: Path, launcher: Launcher) -> None:
    case = make(folder)
    place = OnDisk(out / "work", open_shards(case.folder / "train.parquet"), case.model, launcher)
    fit_curvature(place, FitSettings()).curvature(case.hash).save(out / "curvature")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit-local", "ray"])
def test_other_launchers_write_the_same_bytes(tmp_path: Path, launcher: Any) -> None:
    pytest.importorskip(launcher.partition("-")[0])
    options = {"timeout_min": 5} if launcher == "submitit-local" else {"num_cpus": 1}
    together(1, fitted, tmp_path, tmp_path / "here", Launcher(runtime=Runtime(threads=1)))
    together(1, fitted, tmp_path, tmp_path / "there", Launcher(launcher, 2, Runtime(threads=1), options))
    here, there = (contents(tmp_path / side / "curvature") for side in ("here", "there"))
    assert len(here) > 1 and here == there
    if launcher == "submitit-local":  # it was the jobs that worked
        assert list((tmp_path / "there" / "work" / "covariances" / "jobs").glob("*_result.pkl"))


@pytest.mark.parametrize("launcher", ["slurm", "ray"])
def test_a_missing_package_is_said_with_what_to_install(
    tmp_path: Path, launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("submitit", "ray"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails, installed or not
    with pytest.raises(InputError, match=rf"infra-attribution\[{launcher}\]"):
        run_tasks(tmp_path / "x", lambda: ShardPlan("bases", "txt", {}, (ShardTask("0"),)), Launcher(launcher), work_of)


def test_a_launcher_under_torchrun_and_tasks_of_another_version_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="torchrun"):
        run_tasks(
            tmp_path / "x",
            lambda: ShardPlan("bases", "txt", {}, ()),
            Launcher("ray", runtime=Runtime(fsdp=True)),
            work_of,
        )
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "plan.json").write_text(
        json.dumps({"kind": "divination", "suffix": "txt", "settings": {}, "tasks": [{"name": "0"}]})
    )
    with pytest.raises(ArtifactError, match="divination"):
        worker(str(tmp_path / "y"), work_of)
