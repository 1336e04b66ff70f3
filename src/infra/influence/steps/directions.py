"""The steps of a direction: gradients of the folds over the queries, preconditioning by weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from infra.influence.curvature import Curvature, InverseCurvature
from infra.influence.damping import Damping
from infra.influence.directions import Direction
from infra.influence.engine.engine import Engine
from infra.influence.engine.gradient import add_gradients, from_blocks
from infra.influence.steps.step import Item, Results
from infra.influence.targets import Form, weights_of
from infra.models.tracked import Block
from infra.parallel.tensors import TensorGroups, total

AT_ONCE = 8
"""Groups of queries whose gradients of one weight are solved together."""


def gradient_step(engine: Engine, groups: Path, n_groups: int, form: Form) -> Callable[[Item], TensorGroups]:
    """A piece's share of the gradients of all groups. The file ``groups`` has each query's group, -1 for none."""
    group_of = np.load(groups)
    sizes = np.bincount(group_of[group_of >= 0], minlength=n_groups)

    def run(item: Item) -> TensorGroups:
        totals = engine.totals()
        for places, examples in item.chunks:
            own = group_of[np.asarray(places, dtype=np.int64)]
            share = np.zeros((n_groups, len(examples)))
            chosen = np.flatnonzero(own >= 0)
            if len(chosen):
                share[own[chosen], chosen] = weights_of(examples, form)[chosen] / sizes[own[chosen]]
            add_gradients(item.engine, examples, torch.from_numpy(share), totals)
        return TensorGroups({"gradients": totals.tensors})

    return run


def direction_step(
    engine: Engine, gradients: Results, curvature: Path, model_hash: str, n_groups: int
) -> Callable[[Item], TensorGroups]:
    """``(H + lambda)^-1 g`` of one weight for every group; ``keys`` of a piece gives each block's lambda."""
    opened = Curvature.open(curvature, model_hash=model_hash)
    blocks = {b.key: b for b in opened.blocks}

    def run(item: Item) -> TensorGroups:
        assert isinstance(item.keys, Mapping)
        own = [blocks[key] for key in item.keys]
        names = {n for b in own for n in (b.weight, b.bias) if n is not None}
        tracked = replace(
            engine.tracked,
            weights=tuple(w for w in engine.tracked.weights if w.name == own[0].weight),
            parameters={n: p for n, p in engine.tracked.parameters.items() if n in names},
        )
        sums = {block.key: total(gradients, "gradients", block.key) for block in own}
        gradients_of = [
            from_blocks({key: t[group] for key, t in sums.items()}, tracked, str(group)) for group in range(n_groups)
        ]
        part = Curvature({block.key: opened.factors[block.key] for block in own}, tuple(own), opened.info)
        solved: list[Direction] = []
        for first in range(0, n_groups, AT_ONCE):
            solved += InverseCurvature(part, Damping(), item.keys).apply(gradients_of[first : first + AT_ONCE])
        return TensorGroups({"": {n: torch.stack([d.tensors[n] for d in solved]) for n in sorted(names)}})

    return run


def weights_of_blocks(blocks: Sequence[Block]) -> list[list[Block]]:
    """The blocks, those of one weight together."""
    by_weight: dict[str, list[Block]] = {}
    for block in blocks:
        by_weight.setdefault(block.weight, []).append(block)
    return list(by_weight.values())
