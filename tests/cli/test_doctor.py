"""`infra doctor`: what it finds is what other means find, and it never fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import pytest
import torch
from typer.testing import CliRunner

from infra.cli import app, doctor
from infra.errors import ResourceError


def found() -> dict[str, doctor.Finding]:
    return {f.what: f for f in doctor.findings()}


def test_versions_cores_memory_and_disk_are_this_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INFRA_CACHE", str(tmp_path / "not" / "yet"))
    here = found()
    assert f"torch {torch.__version__}" in here["packages"].found
    assert f"{len(os.sched_getaffinity(0))} cores" in here["processor"].found
    assert 0 < float(here["memory"].found.split()[0]) <= psutil.virtual_memory().total / 1e9
    assert str(tmp_path) in here["disk of models"].found
    assert float(here["disk of models"].found.split()[0]) == pytest.approx(
        shutil.disk_usage(tmp_path).free / 1e9, abs=1
    )


def test_what_is_missing_comes_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_works() -> str:
        raise ResourceError("no sandbox works on this machine; install bubblewrap")

    monkeypatch.setattr("infra.evals.sandbox.choose", none_works)
    monkeypatch.setattr(doctor, "EXTRAS", {"ray": "no-such-package-anywhere"})
    monkeypatch.setattr(doctor, "LITTLE_MEMORY", 1e18)
    monkeypatch.setattr(doctor, "MATRIX", {})
    here = found()
    assert "cannot be graded" in here["sandbox"].found and "install bubblewrap" in here["sandbox"].advice
    assert here["extras"].found == "none" and "infra-attribution[ray]" in here["extras"].advice
    assert here["memory"].advice and "float32" in here["processor"].advice
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0 and "[ray]" in done.stdout.replace("\n", "").replace(" ", "").replace("│", "")
