"""The number of processes, and whether the model is sharded over them, does not change what is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from infra.influence import (
    Damping,
    Engine,
    FitSettings,
    combine,
    example_influence,
    fit_diagonal,
    fit_ekfac,
    fit_kfac,
    gradients,
    token_influence,
)
from infra.models import load_model, tracked_weights
from tests.influence import toys
from tests.parallel.jobs import GROUPS, TARGETS, Case, attribute, make
from tests.parallel.processes import contents, together

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make(tmp_path_factory.mktemp("case"))


def reference(case: Case, kind: str = "ekfac", **settings: object) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores by the plain functions, in this process and without shards: ``[n, 2]`` and one ``[2, T]`` an example."""
    model, _ = load_model(case.model.path, dtype=case.dtype)
    train, queries = toys.examples(23), [toys.example(f"q{i}", 9, 4, 900 + i) for i in range(5)]
    tracked = tracked_weights(model, case.tracked)
    fit = {"ekfac": fit_ekfac, "kfac": fit_kfac, "diagonal": fit_diagonal}[kind]
    curvature = fit(model, train, tracked, **settings)
    v = [curvature.inverse(Damping(0.1)) @ g for g in gradients(Engine(model, tracked), queries, GROUPS, ["a", "b"])]
    tokens: dict[int, np.ndarray] = {}
    for chunk in token_influence(model, train, [combine(v, w, n) for n, w in TARGETS.items()]):
        tokens |= dict(zip(chunk.indices, chunk.scores))
    return example_influence(model, train, v), [tokens[i] for i in range(len(train))]


def found(out: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """What :func:`attribute` wrote, in the same form."""
    tokens = []
    for path in sorted(out.glob("tokens-*.parquet")):
        table = pq.read_table(path).to_pydict()
        tokens += [np.array(rows) for rows in zip(*(table[f"loss_{name}"] for name in TARGETS))]
    return np.load(out / "scores.npy"), tokens


def errors(out: Path, expected: tuple[np.ndarray, list[np.ndarray]]) -> tuple[float, float]:
    examples, tokens = found(out)
    flat = [np.concatenate([t.ravel() for t in side]) for side in (tokens, expected[1])]
    return toys.error(examples, expected[0]), toys.error(*flat)


def test_one_two_and_four_processes_write_the_same_bytes_and_the_engines_scores(case: Case, tmp_path: Path) -> None:
    for size in (1, 2, 4):
        together(size, attribute, case, tmp_path / str(size))
    one = contents(tmp_path / "1")
    assert len(one) == 15 and contents(tmp_path / "2") == one and contents(tmp_path / "4") == one
    assert max(errors(tmp_path / "1", reference(case))) < 1e-10


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_a_sharded_model_gives_the_same_scores(case: Case, tmp_path: Path, size: int) -> None:
    """There are four shards of training examples and three of queries: some rounds have a process without one."""
    together(size, attribute, case, tmp_path / "fsdp", True)
    assert max(errors(tmp_path / "fsdp", reference(case))) < 1e-10


@pytest.mark.parametrize("fsdp", [False, True])
def test_recomputed_activations_give_the_same_scores(case: Case, tmp_path: Path, fsdp: bool) -> None:
    together(2, attribute, replace(case, tracked="all", recompute=True), tmp_path / "out", fsdp)
    assert max(errors(tmp_path / "out", reference(replace(case, tracked="all")))) < 1e-10


def test_more_processes_than_rows_of_a_weight(tmp_path: Path) -> None:
    """On three processes most weights' rows divide unevenly, and the four rows of the key head as two, two and none."""
    case = replace(make(tmp_path, num_key_value_heads=1), tracked="attention")
    together(3, attribute, case, tmp_path / "fsdp", True)
    assert max(errors(tmp_path / "fsdp", reference(case))) < 1e-10


def test_more_processes_than_weights_and_shards(tmp_path: Path) -> None:
    """One weight, two shards, four processes: two have nothing to do in any phase."""
    case = replace(make(tmp_path, shard_tokens=100), tracked=r"layers\.1\.mlp\.down_proj")
    together(4, attribute, case, tmp_path / "out")
    assert max(errors(tmp_path / "out", reference(case))) < 1e-10


@pytest.mark.parametrize("kind", ["kfac", "diagonal"])
def test_the_other_curvatures(case: Case, tmp_path: Path, kind: str) -> None:
    together(2, attribute, case, tmp_path / kind, False, FitSettings(kind))
    assert max(errors(tmp_path / kind, reference(case, kind))) < 1e-10


def test_float32_is_within_its_tolerance_of_float64(case: Case, tmp_path: Path) -> None:
    single = make(tmp_path, dtype=torch.float32)
    single = replace(single, dtype="float32")
    together(2, attribute, single, tmp_path / "out")
    assert max(errors(tmp_path / "out", reference(replace(single, dtype="float64")))) < 1e-4
