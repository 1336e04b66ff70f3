"""The function that does the tasks of a folder: one worker for every step."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ArtifactError, ResourceError
from infra.influence.engine.batches import Batch, on_halving
from infra.influence.engine.recompute import recomputed_activations
from infra.influence.steps.registry import STEPS
from infra.influence.steps.settings import ModelSettings, engine_of, from_json, rows_of, shards_of, sum_of
from infra.influence.steps.step import AttributionStep, Item, Value
from infra.models.precision import products_in
from infra.parallel.launch import Runtime
from infra.parallel.tasks import BatchTooLarge, ShardPlan, ShardTask, TaskFunction
from infra.parallel.tensors import TensorGroups

ROW_GROUP = 128
"""Examples of a table that are read together when one is opened."""


def work_of(plan: ShardPlan, root: Path, runtime: Runtime) -> TaskFunction:
    """The function that does a plan's tasks. Raises :class:`ArtifactError` for a step this version does not know."""
    if plan.kind not in STEPS:
        raise ArtifactError(f"{root} holds tasks of kind {plan.kind!r}, which this version of infra does not know")
    step, model = STEPS[plan.kind], ModelSettings(**plan.settings["model"])
    engine = engine_of(model, root, runtime)
    run = step.prepare(engine, **from_json(plan.settings["arguments"], root))

    def work(task: ShardTask | None, path: Path | None) -> None:
        if step.over == "keys" and task is None:  # no collective inside
            return
        halvings = 0 if task is None else task.about.get("halvings", 0)
        item = Item(
            replace(engine, max_tokens=max(1, model.max_tokens >> halvings)),
            _chunks(step, plan.settings.get("data"), root, task, runtime),
            {} if task is None else task.about.get("keys", {}),
        )
        token = on_halving.set(_refuse if runtime.fsdp else _again)
        try:
            with recomputed_activations(model.recompute), products_in(model.precision, model.device):
                value = run(item)
        finally:
            on_halving.reset(token)
        if path is not None:
            _write(value, path)

    return work


def _chunks(step: AttributionStep, data: Any, root: Path, task: ShardTask | None, runtime: Runtime) -> Iterable[Any]:
    if step.over == "keys":
        return ()
    shards = shards_of(os.path.normpath(root / data["file"]), data["digest"])
    if step.over == "rows":
        return rows_of(shards, task, runtime.fsdp)
    assert task is not None
    return sum_of(shards, task, runtime.fsdp)


def _write(value: Value, path: Path) -> None:
    if isinstance(value, TensorGroups):
        value.save(path)
    elif isinstance(value, pa.Table):
        pq.write_table(value, path, compression="zstd", row_group_size=ROW_GROUP)
    else:
        with open(path, "wb") as handle:
            np.save(handle, value)


def _again(batch: Batch) -> None:
    raise BatchTooLarge


def _refuse(batch: Batch) -> None:
    raise ResourceError(
        f"out of memory with {batch.input_ids.numel():,} positions in a batch of a model sharded over processes; lower "
        "scores.max_tokens"
    )
