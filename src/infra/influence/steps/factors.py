"""The steps of a fit: covariances over the data, eigenvectors by weight, corrected eigenvalues over the data, factors.

Sums are kept per piece and added in the pieces' order, so the number of processes does not enter the result. A piece of
a sum is as large as the sum; there are few of them. On a model sharded over processes all of them add to one sum after
the other, each holds its rows, and eigenvalues are put together block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from infra.influence.engine.covariances import Covariances, covariances
from infra.influence.engine.eigenbases import Basis, corrected_eigenvalues, eigenbases
from infra.influence.engine.engine import Engine, FitSettings
from infra.influence.engine.totals import Totals
from infra.influence.steps.step import Item, Results
from infra.models.tracked import TrackedWeights
from infra.parallel.tensors import TensorGroups, total

BUNDLE_ELEMENTS = 1 << 25
"""Elements of the factors that one task decomposes (128 MB in float32)."""


def covariance_step(engine: Engine, fit: FitSettings) -> Callable[[Item], TensorGroups]:
    """Sums of a a^T and g g^T over a piece of the data."""

    def run(item: Item) -> TensorGroups:
        sums: Covariances | None = None
        for _, examples in item.chunks:
            part = covariances(item.engine, examples, fit, item.progress)
            if sums is not None:
                _add(sums.inputs, part.inputs)
                _add(sums.outputs, part.outputs)
                part = replace(sums, positions={k: n + part.positions[k] for k, n in sums.positions.items()})
            sums = part
        assert sums is not None
        facts = {"leader": sums.leader, "positions": sums.positions}
        return TensorGroups({"inputs": sums.inputs, "outputs": sums.outputs}, facts)

    return run


def basis_step(engine: Engine, fit: FitSettings, covariances: Results) -> Callable[[Item], TensorGroups]:
    """Eigenvectors of the factors of a few blocks, from the sums of all pieces added in order.

    Computed in float64 for K-FAC, whose eigenvalues are the factors' own. EK-FAC measures its eigenvalues in whatever
    orthogonal basis it is given, so that the sums' own float32 is enough.
    """
    dtype = torch.float64 if fit.kind == "kfac" else engine.accumulator

    def run(item: Item) -> TensorGroups:
        keys = list(item.keys)
        leader = {k: covariances[0].facts["leader"][k] for k in keys}
        leaders = sorted(set(leader.values()))
        sums = Covariances(
            {k: total(covariances, "inputs", k) for k in leaders},
            {k: total(covariances, "outputs", k) for k in keys},
            leader,
            {k: sum(part.facts["positions"][k] for part in covariances) for k in leaders},
        )
        bases, warned = eigenbases(sums, _only(engine.tracked, keys), dtype)
        return TensorGroups(
            {
                "outputs": {k: b.outputs for k, b in bases.items()},
                "inputs": {leader[k]: b.inputs for k, b in bases.items()},
                "output_values": {k: b.output_values for k, b in bases.items()},
                "input_values": {leader[k]: b.input_values for k, b in bases.items()},
            },
            {"leader": leader, "positions": sums.positions, "warnings": warned},
        )

    return run


def eigenvalue_step(engine: Engine, fit: FitSettings, bases: Results) -> Callable[[Item], TensorGroups]:
    """Sums over sequences of squared gradients in the eigenbasis (the standard one where ``bases`` is empty)."""
    found: Mapping[str, Basis]
    if engine.totals is Totals:
        found = load_bases(bases, engine.device)
    else:
        from infra.influence.engine.rows import GatheredBases
        from infra.parallel.fsdp import own_rows

        found = GatheredBases(load_bases(bases, engine.device, own_rows))

    def run(item: Item) -> TensorGroups:
        sums: dict[str, Tensor] = {}
        for _, examples in item.chunks:
            part = corrected_eigenvalues(item.engine, examples, found, fit, item.progress)
            if sums:
                _add(sums, part)
            else:
                sums = part
        return TensorGroups({"eigenvalues": sums})

    return run


def factor_step(engine: Engine, eigenvalues: Results, bases: Results, n: int) -> Callable[[Item], TensorGroups]:
    """The eigenvalues of some blocks from ``n`` examples: the mean of the corrected ones, or, where there are none
    (K-FAC), the products of the factors' own times positions / n.
    """
    basis_of = {key: result for result in bases for key in result.facts["leader"]}

    def values(key: str) -> Tensor:
        if eigenvalues:
            return total(eigenvalues, "eigenvalues", key) / n
        basis = basis_of[key]
        leader = basis.facts["leader"][key]
        scale = 1.0 / (n * max(1, basis.facts["positions"][leader]))
        products = torch.outer(basis.get("output_values", key), basis.get("input_values", leader)) * scale
        return products.to(basis.dtype("outputs", key))

    def run(item: Item) -> TensorGroups:
        return TensorGroups({"eigenvalues": {key: values(key) for key in item.keys}})

    return run


def load_bases(results: Results, device: Any = "cpu", cut: Callable[[int], slice] = slice) -> dict[str, Basis]:
    """Every block's basis out of the results of :func:`basis_step`; blocks with the same inputs share the tensor.

    ``cut(n)``: which of its n rows are read, all by default.
    """
    bases = {}
    for result in results:
        shared = {k: result.rows("inputs", k, cut).to(device) for k in result.names("inputs")}
        for key in result.names("outputs"):
            leader = result.facts["leader"][key]
            bases[key] = Basis(
                outputs=result.rows("outputs", key, cut).to(device),
                inputs=shared[leader],
                output_values=result.get("output_values", key),
                input_values=result.get("input_values", leader),
            )
    return bases


def sharing_inputs(tracked: TrackedWeights, leader: Mapping[str, str]) -> list[list[str]]:
    """The keys of the blocks, those whose inputs are the very same tensor together."""
    groups: dict[str, list[str]] = {}
    for block in tracked.blocks:
        groups.setdefault(leader[block.key], []).append(block.key)
    return list(groups.values())


def bundled(groups: Sequence[Sequence[str]], tracked: TrackedWeights, most: int = BUNDLE_ELEMENTS) -> list[list[str]]:
    """Neighbouring groups together as long as their factors have at most ``most`` elements: one group alone leaves
    threads idle, all groups leave processes idle.
    """
    sizes = {b.key: b.shape[0] ** 2 + b.columns**2 for b in tracked.blocks}
    bundles: list[list[str]] = []
    filled = 0
    for group in groups:
        size = sum(sizes[key] for key in group)
        if not bundles or filled + size > most:
            bundles.append([])
            filled = 0
        bundles[-1] += group
        filled += size
    return bundles


def _add(sums: dict[str, Tensor], part: Mapping[str, Tensor]) -> None:
    for key, tensor in part.items():
        sums[key].add_(tensor)


def _only(tracked: TrackedWeights, keys: Sequence[str]) -> TrackedWeights:
    """The tracked weights with just these blocks."""
    chosen = set(keys)
    weights = [replace(w, blocks=tuple(b for b in w.blocks if b.key in chosen)) for w in tracked.weights]
    return replace(tracked, weights=tuple(w for w in weights if w.blocks))
