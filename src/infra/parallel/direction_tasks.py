"""Directions in tasks: gradients of the folds by shard of the queries, preconditioning by weight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infra.influence import Curvature, Direction, ekfac_direction
from infra.influence.engine.gradient import add_gradients, from_blocks
from infra.influence.targets import weights_of
from infra.models.tracked import Block
from infra.parallel.settings import Data, ModelSettings, Runtime, limit, lots, model_of, totals_of
from infra.parallel.tasks import Task, Work
from infra.parallel.tensors import Reader, save, total


def gradient_work(settings: dict[str, Any], root: Path, runtime: Runtime) -> Work:
    """A shard's share of the gradients of all groups. ``sizes`` counts each group's queries over all shards."""
    model_settings = ModelSettings(**settings["model"])
    data = Data(**settings["data"]).open(root)
    groups = np.load(root / settings["groups"])
    sizes = np.bincount(groups[groups >= 0], minlength=settings["n_groups"])
    model, tracked = model_of(model_settings, root, runtime)

    def work(task: Task | None, path: Path | None) -> None:
        assert task is not None and path is not None
        totals = totals_of(runtime)()
        for places, examples in lots(data, task, runtime.fsdp):
            own = groups[places]
            factors = np.zeros((settings["n_groups"], len(examples)))
            chosen = np.flatnonzero(own >= 0)
            if len(chosen):
                factors[own[chosen], chosen] = weights_of(examples, settings["form"])[chosen] / sizes[own[chosen]]
            share = torch.from_numpy(factors)
            add_gradients(model, examples, tracked, share, totals, limit(model_settings, task))
        save(path, {"gradients": totals.tensors})

    return work


def direction_tasks(curvature: Curvature, n_groups: int, damping: float, absolute: bool = False) -> tuple[Task, ...]:
    """One task a weight. Its cost: rotating every group's matrix there and back."""
    dampings = curvature.dampings(damping, absolute)
    by_weight: dict[str, list[Block]] = {}
    for block in curvature.blocks:
        by_weight.setdefault(block.weight, []).append(block)
    return tuple(
        Task(
            f"{i:05d}",
            float(sum(4 * n_groups * b.shape[0] * b.columns * (b.shape[0] + b.columns) for b in blocks)),
            {"keys": {b.key: dampings[b.key] for b in blocks}},
        )
        for i, blocks in enumerate(by_weight.values())
    )


def direction_work(settings: dict[str, Any], root: Path, runtime: Runtime) -> Work:
    """``(H + lambda)^-1 g`` of one weight for every group, from the shards' gradients added in order."""
    _, tracked = model_of(ModelSettings(**settings["model"]), root, runtime)
    curvature = Curvature.open(root / settings["curvature"], model_hash=settings["model"]["model_hash"])
    blocks = {b.key: b for b in curvature.blocks}
    files = [root / f for f in settings["gradients"]]

    def work(task: Task | None, path: Path | None) -> None:
        if task is None or path is None:
            return
        readers = [Reader(f) for f in files]
        keys = task.about["keys"]
        own = tuple(blocks[k] for k in keys)
        names = {n for b in own for n in (b.weight, b.bias) if n is not None}
        sub = replace(tracked, weights=tuple(w for w in tracked.weights if w.name == own[0].weight))
        sub = replace(sub, parameters={n: p for n, p in tracked.parameters.items() if n in names})
        sums = {k: total(readers, "gradients", k) for k in keys}
        solved: list[Direction] = []
        for group in range(settings["n_groups"]):
            gradient = from_blocks({k: t[group] for k, t in sums.items()}, sub, str(group))
            whole = {n: torch.zeros_like(t) for n, t in gradient.tensors.items()}
            for block in own:
                one = Curvature({block.key: curvature.factors[block.key]}, (block,), curvature.info)
                part = ekfac_direction(one, gradient, damping=keys[block.key], absolute=True)
                block.store(block.matrix(part.tensors), whole)
            solved.append(Direction(whole, str(group)))
        save(path, {"": {n: torch.stack([d.tensors[n] for d in solved]) for n in sorted(names)}})

    return work
