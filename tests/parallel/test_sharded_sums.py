"""Sums of a model sharded over processes: each process holds its rows, results are the plain ones, restarts go on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.influence import (
    Curvature,
    FitSettings,
    SavedDirections,
    directions,
    fit_curvature,
    fit_ekfac,
    open_directions,
)
from infra.influence.engine import rows
from infra.influence.engine.batches import build_batch, empty_batch
from infra.influence.engine.functional import Backbone, engine_mode
from infra.influence.engine.layer_inputs import Capture
from infra.influence.steps import OnDisk
from infra.influence.steps.settings import forget_model
from infra.models import load_model, tracked_weights
from infra.parallel.launch import Launcher, Runtime
from infra.parallel.process_group import barrier, this_rank
from infra.parallel.process_group import init_process_group as joined
from infra.parallel.shards import open_shards
from infra.parallel.tasks import TaskFolder
from tests.influence import toys
from tests.influence.test_architectures import build
from tests.parallel.jobs import Case, attribute, make
from tests.parallel.processes import together
from tests.parallel.test_command import SETTINGS, files, score
from tests.parallel.test_same_scores import errors, reference

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make(tmp_path_factory.mktemp("case"))


HARD = {"eigenvalues": "per_token", "fisher": "empirical", "include_prompt": False, "block_size": 7}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ekfac", HARD),
        pytest.param("kfac", {"block_size": 7}, marks=pytest.mark.slow),
        pytest.param("diagonal", {}, marks=pytest.mark.slow),
    ],
)
def test_every_curvature_and_bases_in_blocks(case: Case, tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    together(2, attribute, case, tmp_path / "out", True, FitSettings(kind, **settings))
    assert max(errors(tmp_path / "out", reference(case, kind, **settings))) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["Conv1D with bias", "output head"])
def test_other_weights(tmp_path: Path, kind: str, recompute: bool) -> None:
    """Three processes: rows divide unevenly, GPT-2's weights are cut along the other side than its sums, and the output
    head lies outside the layers, whole on every process.
    """
    model, tracked = build(kind)
    case = replace(make(tmp_path, model=model), tracked=tracked.pattern, recompute=recompute)
    together(3, attribute, case, tmp_path / "out", True)
    assert max(errors(tmp_path / "out", reference(case))) < 1e-10


def test_float32_is_within_its_tolerance_of_float64(tmp_path: Path) -> None:
    single = replace(make(tmp_path, dtype=torch.float32), dtype="float32", recompute=True)
    together(2, attribute, single, tmp_path / "out", True)
    assert max(errors(tmp_path / "out", reference(replace(single, dtype="float64")))) < 1e-4


def measured(case: Case, out: Path) -> None:
    """:func:`attribute` on a sharded model, with the most numbers that each kind of set had in this process."""
    most = {"sums": 0, "bases": 0, "directions": 0}

    def note(kind: str, tensors: Any) -> None:
        most[kind] = max(most[kind], sum({id(t): t.numel() for t in tensors}.values()))

    into, gathered, read = rows.RowTotals.into, rows.GatheredBases.__init__, rows.read_shards

    @contextmanager
    def noted_into(self: rows.RowTotals, name: str, empty: Callable[[], torch.Tensor]) -> Iterator[torch.Tensor]:
        with into(self, name, empty) as own:
            yield own
        note("sums", self.tensors.values())

    def noted_bases(self: rows.GatheredBases, own: Any) -> None:
        note("bases", [t for b in own.values() for t in (b.outputs, b.inputs)])
        gathered(self, own)

    def noted_read(saved: SavedDirections, model: Any) -> Any:
        found = read(saved, model)
        note("directions", [t for d in found for t in d.tensors.values()])
        return found

    def whole(*_: Any, **__: Any) -> Any:
        raise AssertionError("a whole set is read")

    changed: dict[Any, dict[str, Any]] = {
        rows.RowTotals: {"into": noted_into},
        rows.GatheredBases: {"__init__": noted_bases},
        rows: {"read_shards": noted_read},
        Curvature: {"load": whole},
        SavedDirections: {"__getitem__": whole},
        directions: {"stack": whole},
    }
    for owner, attributes in changed.items():  # in this process alone
        for name, function in attributes.items():
            setattr(owner, name, function)
    attribute(case, out, True)
    (out / f"most-{os.environ['RANK']}.json").write_text(json.dumps(most))


def test_a_process_holds_its_share_of_every_set(case: Case, tmp_path: Path) -> None:
    """All sides are even, so that two processes hold exactly half each."""
    together(2, measured, case, tmp_path / "out")
    tracked = tracked_weights(load_model(case.model.path, dtype=case.dtype)[0], case.tracked)
    inputs = [b for b in tracked.blocks if "up_proj" not in b.key]  # gate's are theirs too
    bases = sum(b.shape[0] ** 2 for b in tracked.blocks) + sum(b.columns**2 for b in inputs)
    values = sum(b.shape[0] * b.columns for b in tracked.blocks)
    gradients = 2 * values  # of two groups; larger than either side's covariances
    for rank in range(2):
        most = json.loads((tmp_path / "out" / f"most-{rank}.json").read_text())
        assert most == {"sums": gradients / 2, "bases": bases / 2, "directions": 2 * values / 2}
    assert len(list((tmp_path / "out" / "directions").glob("*.safetensors"))) == len(tracked.weights)
    assert not (tmp_path / "out" / "curvature" / "factors.safetensors").exists()


def fitted(case: Case, work: Path, out: Path) -> None:
    """The curvature alone; the work folder stays."""
    with joined() as here:
        data = open_shards(case.folder / "train.parquet")
        launcher = Launcher(runtime=Runtime(fsdp=True, threads=1))
        found = fit_curvature(OnDisk(work, data, case.model, launcher, most=3), FitSettings())
        if here.first:
            found.curvature(case.hash).save(out)
        barrier()
        assert here.size == this_rank().size
    forget_model()


def test_a_restart_makes_what_is_damaged_again_with_another_number_of_processes(case: Case, tmp_path: Path) -> None:
    together(2, fitted, case, tmp_path / "work", tmp_path / "one")
    folder = TaskFolder.open(tmp_path / "work" / "covariances")
    first, second, third = folder.results()
    before = {p: p.stat().st_mtime_ns for p in first.parent.iterdir()}
    part = second.with_name(json.loads(second.read_text())[1])
    part.write_bytes(part.read_bytes()[:-8] + bytes(8))
    third.with_name(json.loads(third.read_text())[0]).unlink()
    for later in ("bases", "eigenvalues", "factors"):  # as if the first command had been killed before them
        shutil.rmtree(tmp_path / "work" / later)
    together(3, fitted, case, tmp_path / "work", tmp_path / "two")
    assert {p: p.stat().st_mtime_ns for p in first.parent.iterdir()} == before
    again = TaskFolder.open(tmp_path / "work" / "covariances").results()
    assert [len(json.loads(p.read_text())) for p in again] == [2, 3, 3]
    model, _ = load_model(case.model.path, dtype=case.dtype)
    expected = fit_ekfac(model, toys.examples(23), tracked_weights(model, case.tracked))
    for out in ("one", "two"):
        found, opened = (how(tmp_path / out) for how in (Curvature.load, Curvature.open))
        assert found.info == replace(expected.info, model_hash=case.hash, available=0)
        gate, up = (found.factors[f"model.layers.0.mlp.{n}_proj.weight"] for n in ("gate", "up"))
        assert gate.inputs is up.inputs
        for key, factor in expected.factors.items():
            assert toys.error(found.factors[key].eigenvalues, factor.eigenvalues) < 1e-9
            for side in ("eigenvalues", "outputs", "inputs"):
                assert torch.equal(getattr(opened.factors[key], side), getattr(found.factors[key], side))


def sharded_score(train: str, queries: str, out: Path) -> None:
    """`infra score` up to its scores with ``scale.fsdp`` and ``scale.recompute``."""
    SETTINGS["scale"] = {"fsdp": True, "recompute": True}  # in this process alone
    score(train, queries, out)


@pytest.mark.slow
def test_infra_score_on_a_sharded_model(tmp_path: Path) -> None:
    """The stages leave the folders that a plain run leaves, read as those are."""
    data = files(tmp_path)
    together(1, score, *data, tmp_path / "one")
    together(2, sharded_score, *data, tmp_path / "two")
    one, two = (np.load(tmp_path / out / "scores" / "folds.npy") for out in ("one", "two"))
    assert toys.error(two, one) < 1e-4
    check = json.loads((tmp_path / "two" / "scores" / "check.json").read_text())
    assert max(check["token_sums_against_example_scores"].values()) < 1e-3
    one_direction, other = (open_directions(tmp_path / out / "directions").loaded()[0] for out in ("one", "two"))
    assert (other - one_direction).norm() < 1e-3 * one_direction.norm()
    assert not (tmp_path / "two" / "directions" / ".work").exists()


def test_a_batch_without_loss_shows_every_block_and_adds_nothing() -> None:
    """Else a process whose examples have no loss would leave the others waiting for its share of the output head."""
    model = toys.qwen2(tie_word_embeddings=False)
    tracked = tracked_weights(model, r"lm_head|layers\.1\.mlp")
    silent = replace(toys.example("a", 9, 3, 0), loss_mask=np.zeros(9, bool))
    for batch in (empty_batch(7), build_batch([silent], [0])):
        seen: dict[str, float] = {}

        def note(block: Any, calls: Any, seen: dict[str, float] = seen) -> None:
            seen[block.key] = max(float(u.gradients.abs().sum()) for u in calls)

        with engine_mode(model):
            Capture(Backbone(model), tracked).backward_pass(batch, note)
        assert seen == dict.fromkeys((b.key for b in tracked.blocks), 0.0) and not batch.flows.any()
