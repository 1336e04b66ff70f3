"""EK-FAC in tasks: covariances by shard, eigenvectors by weight, corrected eigenvalues by shard.

Sums are kept per shard and added in the shards' order, so the number of processes does not enter the result. A shard
of a sum is as large as the sum; there are few of them. On a model sharded over processes all of them add to one sum
after the other, each holds its rows, and eigenvalues are put together block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infra.influence.engine.covariances import Covariances, Setting, covariances
from infra.influence.engine.eigenbases import Basis, corrected_eigenvalues, eigenbases
from infra.models.tracked import Block, TrackedWeights
from infra.parallel.settings import Data, ModelSettings, Runtime, limit, lots, model_of, totals_of
from infra.parallel.tasks import Task, Work
from infra.parallel.tensors import Reader, save, total


def covariance_work(settings: dict[str, Any], root: Path, runtime: Runtime) -> Work:
    """Sums of a a^T and g g^T over a shard."""
    model_settings, fit = ModelSettings(**settings["model"]), settings["fit"]
    data = Data(**settings["data"]).open(root)
    model, tracked = model_of(model_settings, root, runtime)

    def work(task: Task | None, path: Path | None) -> None:
        assert task is not None and path is not None
        sums: Covariances | None = None
        for _, examples in lots(data, task, runtime.fsdp):
            part = covariances(_setting(model, examples, tracked, limit(model_settings, task), fit, runtime))
            sums = part if sums is None else _added(sums, part)
        assert sums is not None
        facts = {"leader": sums.leader, "positions": sums.positions}
        save(path, {"inputs": sums.inputs, "outputs": sums.outputs}, facts)

    return work


def basis_tasks(tracked: TrackedWeights, leader: dict[str, str]) -> tuple[Task, ...]:
    """One task for the blocks that share inputs; its cost is the sum of n^3 over the factors to decompose."""
    groups: dict[str, list[Block]] = {}
    for block in tracked.blocks:
        groups.setdefault(leader[block.key], []).append(block)
    return tuple(
        Task(
            f"{i:05d}",
            float(sum(b.shape[0] ** 3 for b in blocks) + blocks[0].columns ** 3),
            {"keys": [b.key for b in blocks]},
        )
        for i, blocks in enumerate(groups.values())
    )


def basis_work(settings: dict[str, Any], root: Path, runtime: Runtime) -> Work:
    """Eigenvectors of the factors of a few blocks, from the shards' sums added in order."""
    _, tracked = model_of(ModelSettings(**settings["model"]), root, runtime)
    files = [root / f for f in settings["covariances"]]

    def work(task: Task | None, path: Path | None) -> None:
        if task is None or path is None:  # no collective inside
            return
        readers = [Reader(f) for f in files]
        keys = task.about["keys"]
        leader = {k: readers[0].facts["leader"][k] for k in keys}
        sums = Covariances(
            {k: total(readers, "inputs", k) for k in sorted(set(leader.values()))},
            {k: total(readers, "outputs", k) for k in keys},
            leader,
            {k: sum(r.facts["positions"][k] for r in readers) for k in sorted(set(leader.values()))},
        )
        bases, warned = eigenbases(sums, _only(tracked, keys))
        save(
            path,
            {
                "outputs": {k: b.outputs for k, b in bases.items()},
                "inputs": {leader[k]: b.inputs for k, b in bases.items()},
                "output_values": {k: b.output_values for k, b in bases.items()},
                "input_values": {leader[k]: b.input_values for k, b in bases.items()},
            },
            {"leader": leader, "positions": sums.positions, "warnings": warned},
        )

    return work


def eigenvalue_work(settings: dict[str, Any], root: Path, runtime: Runtime) -> Work:
    """Sums over a shard's sequences of squared gradients in the eigenbasis (the standard one without any)."""
    model_settings, fit = ModelSettings(**settings["model"]), settings["fit"]
    data = Data(**settings["data"]).open(root)
    model, tracked = model_of(model_settings, root, runtime)
    device = next(model.parameters()).device
    bases: Mapping[str, Basis]
    files = [root / f for f in settings["bases"]]
    if runtime.fsdp:
        from infra.parallel.fsdp import GatheredBases, own_rows

        bases = GatheredBases(load_bases(files, device, own_rows))
    else:
        bases = load_bases(files, device)

    def work(task: Task | None, path: Path | None) -> None:
        assert task is not None and path is not None
        sums: dict[str, Tensor] = {}
        for _, examples in lots(data, task, runtime.fsdp):
            setting = _setting(model, examples, tracked, limit(model_settings, task), fit, runtime)
            part = corrected_eigenvalues(setting, bases, fit["eigenvalues"])
            sums = {k: sums[k] + t if k in sums else t for k, t in part.items()}
        save(path, {"eigenvalues": sums})

    return work


def load_bases(files: Sequence[Path], device: Any = "cpu", cut: Callable[[int], slice] = slice) -> dict[str, Basis]:
    """Every block's basis out of the results of :func:`basis_work`; blocks with the same inputs share the tensor.

    ``cut(n)``: which of its n rows are read, all by default.
    """
    bases = {}
    for file in files:
        reader = Reader(file)
        shared = {k: reader.rows("inputs", k, cut).to(device) for k in reader.names("inputs")}
        for key in reader.names("outputs"):
            first = reader.facts["leader"][key]
            bases[key] = Basis(
                outputs=reader.rows("outputs", key, cut).to(device),
                inputs=shared[first],
                output_values=reader.get("output_values", key),
                input_values=reader.get("input_values", first),
            )
    return bases


def factor_values(key: str, corrected: Sequence[Reader], basis: Reader | None, n: int) -> Tensor:
    """Eigenvalues of one block from ``n`` examples: the mean of the corrected ones, or, where there are none, the
    products of its factors' own.
    """
    if corrected:
        return total(corrected, "eigenvalues", key) / n
    assert basis is not None
    leader = basis.facts["leader"][key]
    scale = 1.0 / (n * max(1, basis.facts["positions"][leader]))
    values = torch.outer(basis.get("output_values", key), basis.get("input_values", leader)) * scale
    return values.to(basis.dtype("outputs", key))


def factor_tasks(tracked: TrackedWeights) -> tuple[Task, ...]:
    """One task a block; its cost is the number of its eigenvalues."""
    return tuple(Task(f"{i:05d}", float(b.shape[0] * b.columns), {"key": b.key}) for i, b in enumerate(tracked.blocks))


def factor_work(settings: dict[str, Any], root: Path, runtime: Runtime) -> Work:
    """The eigenvalues of one block, out of the shards' sums or its basis."""
    corrected = [Reader(root / f) for f in settings["eigenvalues"]]
    bases = basis_readers([root / f for f in settings["bases"]])

    def work(task: Task | None, path: Path | None) -> None:
        if task is None or path is None:  # no collective inside
            return
        key = task.about["key"]
        save(path, {"eigenvalues": {key: factor_values(key, corrected, bases.get(key), settings["n"])}})

    return work


def basis_readers(files: Sequence[Path]) -> dict[str, Reader]:
    """For every block, the result of :func:`basis_work` that it is in."""
    return {key: reader for reader in map(Reader, files) for key in reader.facts["leader"]}


def _setting(
    model: Any,
    examples: Sequence[Any],
    tracked: TrackedWeights,
    max_tokens: int,
    fit: dict[str, Any],
    runtime: Runtime,
) -> Setting:
    return Setting(
        model=model,
        examples=examples,
        tracked=tracked,
        fisher=fit["fisher"],
        seed=fit["seed"],
        include_prompt=fit["include_prompt"],
        max_tokens=max_tokens,
        packed=False,
        block_size=fit["block_size"],
        totals=totals_of(runtime),
    )


def _added(a: Covariances, b: Covariances) -> Covariances:
    return Covariances(
        {k: t.add_(b.inputs[k]) for k, t in a.inputs.items()},
        {k: t.add_(b.outputs[k]) for k, t in a.outputs.items()},
        a.leader,
        {k: n + b.positions[k] for k, n in a.positions.items()},
    )


def _only(tracked: TrackedWeights, keys: Sequence[str]) -> TrackedWeights:
    """The tracked weights with just these blocks."""
    chosen = set(keys)
    weights = [replace(w, blocks=tuple(b for b in w.blocks if b.key in chosen)) for w in tracked.weights]
    return replace(tracked, weights=tuple(w for w in weights if w.blocks))
