"""A small attribution from start to end, as any number of processes do it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infra.influence import Damping, FitSettings, fit_curvature, save_directions
from infra.influence.steps import OnDisk, each_shard
from infra.influence.steps.settings import ModelSettings, forget_model
from infra.models import model_hash
from infra.parallel.launch import Launcher, Runtime
from infra.parallel.process_group import barrier, init_process_group
from infra.parallel.shards import open_shards, write_shards
from infra.world import BASE_MODEL
from tests.influence import toys

GROUPS = np.array([0, 1, 1, 0, 1])
TARGETS = {"first": [1.0, 0.0], "difference": [1.0, -1.0]}


@dataclass(frozen=True)
class Case:
    """A model on disk, training examples and queries in shards."""

    folder: Path
    hash: str
    dtype: str = "float64"
    tracked: str = "mlp"
    recompute: bool = False

    @property
    def model(self) -> ModelSettings:
        where = str(self.folder / "model")
        return ModelSettings(where, self.hash, self.tracked, self.dtype, max_tokens=60, recompute=self.recompute)


def make(folder: Path, n: int = 23, shard_tokens: int = 40, model: Any = None, **changes: object) -> Case:
    """23 examples of 3 to 12 tokens in shards of about 40 tokens; five queries in two groups. ``model``: another than a
    small Qwen2 with ``changes``.
    """
    model = toys.qwen2(**changes) if model is None else model
    model.save_pretrained(folder / "model")
    for file in BASE_MODEL.glob("*token*"):
        shutil.copy(file, folder / "model")
    write_shards(toys.examples(n), folder / "train.parquet", shard_tokens)
    write_shards([toys.example(f"q{i}", 9, 4, 900 + i) for i in range(5)], folder / "queries.parquet", 20)
    return Case(folder, model_hash(folder / "model"))


def attribute(case: Case, out: Path, fsdp: bool = False, settings: FitSettings | None = None) -> None:
    """Curvature, directions, example and token scores into ``out``; call it in every process."""
    launcher = Launcher(runtime=Runtime(fsdp=fsdp, threads=1))
    train, queries = open_shards(case.folder / "train.parquet"), open_shards(case.folder / "queries.parquet")
    with init_process_group() as here:
        found = fit_curvature(OnDisk(out / "work", train, case.model, launcher), settings or FitSettings())
        if here.first:
            found.curvature(case.model.model_hash).save(out / "curvature")
        barrier()
        v = OnDisk(out / "work", queries, case.model, launcher).directions(
            GROUPS, ["a", "b"], out / "curvature", Damping(0.1), "per_token"
        )
        if v is not None:
            save_directions(v, out / "directions", case.hash)
        barrier()
        place = OnDisk(out / "scored", train, case.model, launcher)
        examples = place.example_scores(out / "directions")
        tokens = place.token_scores(out / "directions", TARGETS)
        if here.first:
            np.save(out / "scores.npy", np.concatenate(list(each_shard(examples))))
            for i, path in enumerate(tokens.results()):
                shutil.copy(path, out / f"tokens-{i}.parquet")
            shutil.rmtree(out / "work")
            shutil.rmtree(out / "scored")
        barrier()
    forget_model()
