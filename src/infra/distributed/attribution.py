"""Curvature, directions and scores by any number of processes: which tasks follow which, and what becomes of them.

Every process of a command calls these functions with the same arguments; results come back on rank 0, None elsewhere.
``work`` is a folder that all of them see. It holds the tasks of each step and is the caller's to delete at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from infra.distributed.direction_tasks import direction_tasks
from infra.distributed.factor_tasks import basis_tasks, load_bases
from infra.distributed.launch import Crew, carry_out
from infra.distributed.settings import ModelSettings, as_settings, model_of
from infra.distributed.shards import SUM_SHARDS, Shards
from infra.distributed.tasks import Plan, TaskFolder
from infra.distributed.tensors import Reader, total
from infra.distributed.world import world
from infra.errors import InputError
from infra.influence import Curvature, Direction, Factor, FitInfo
from infra.influence.target import Form
from infra.models.tracked import TrackedWeights

Advance = Callable[[float], object]
"""Told the cost of the tasks that are done: tokens for shards."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """As the arguments of :func:`infra.influence.fit_ekfac`. ``kind``: ekfac, kfac or diagonal."""

    kind: str = "ekfac"
    fisher: str = "true"
    seed: int = 0
    eigenvalues: str = "per_sequence"
    include_prompt: bool = True
    block_size: int | None = None


def fit(
    work: Path,
    data: Shards,
    model: ModelSettings,
    settings: FitSettings,
    crew: Crew | None = None,
    advance: Advance | None = None,
    most: int = SUM_SHARDS,
) -> Curvature | None:
    """The curvature of the summed response loss over ``data``, in at most ``most`` shards of its sums.

    Equal to :func:`infra.influence.fit_ekfac` (or kfac, diagonal) up to rounding, and the same
    bytes whatever the number of processes.
    Raises :class:`InputError` for no examples.
    """
    crew = crew or Crew()
    if not len(data):
        raise InputError("there are no examples to fit the curvature on")
    tracked = model_of(model, work / "covariances", crew.runtime)[1]
    facts = Facts({}, {}, ())
    bases: list[Path] = []
    if settings.kind != "diagonal":
        first, second = work / "covariances", work / "bases"
        told = as_settings(first, model, data, fit=asdict(settings))
        sums = carry_out(first, lambda: Plan("covariances", "safetensors", told, data.sum_tasks(most)), crew, advance)

        def plan_bases() -> Plan:
            files = sums.results()
            told = as_settings(second, model, covariances=files)
            return Plan("bases", "safetensors", told, basis_tasks(tracked, Reader(files[0]).facts["leader"]))

        folder = carry_out(second, plan_bases, crew)
        if world().first:
            bases = folder.results()
            facts = _facts(bases)
    corrected: TaskFolder | None = None
    if settings.kind != "kfac":
        third = work / "eigenvalues"

        def plan_values() -> Plan:
            told = as_settings(third, model, data, fit=asdict(settings), bases=bases)
            return Plan("eigenvalues", "safetensors", told, data.sum_tasks(most))

        corrected = carry_out(third, plan_values, crew, advance)
    if not world().first:
        return None
    return _assembled(tracked, bases, facts, corrected, settings, sum(data.examples), model)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the eigenvectors' tasks say of their factors."""

    leader: Mapping[str, str]
    positions: Mapping[str, int]
    warnings: tuple[str, ...]


def _facts(files: Sequence[Path]) -> Facts:
    leader: dict[str, str] = {}
    positions: dict[str, int] = {}
    warnings: list[str] = []
    for file in files:
        facts = Reader(file).facts
        leader |= facts["leader"]
        positions |= facts["positions"]
        warnings += facts["warnings"]
    return Facts(leader, positions, tuple(warnings))


def _assembled(
    tracked: TrackedWeights,
    basis_files: Sequence[Path],
    facts: Facts,
    corrected: TaskFolder | None,
    settings: FitSettings,
    n: int,
    model: ModelSettings,
) -> Curvature:
    bases = load_bases(basis_files)
    readers = [Reader(f) for f in corrected.results()] if corrected is not None else []
    factors = {}
    for block in tracked.blocks:
        basis = bases.get(block.key)
        if readers:
            values = total(readers, "eigenvalues", block.key) / n
        else:
            assert basis is not None
            scale = 1.0 / (n * max(1, facts.positions[facts.leader[block.key]]))
            values = (torch.outer(basis.output_values, basis.input_values) * scale).to(basis.outputs.dtype)
        factors[block.key] = Factor(values, *((basis.outputs, basis.inputs) if basis is not None else ()))
    info = FitInfo(
        kind=settings.kind,
        fisher=settings.fisher,
        eigenvalues="per_token" if settings.kind == "kfac" else settings.eigenvalues,
        include_prompt=settings.include_prompt,
        seed=settings.seed,
        n_examples=n,
        positions=max(facts.positions.values(), default=0),
        model_hash=model.model_hash,
        coverage=tracked.coverage,
        warnings=facts.warnings,
        block_size=settings.block_size,
    )
    return Curvature(factors, tracked.blocks, info)


def directions(
    work: Path,
    queries: Shards,
    groups: NDArray[np.int64],
    names: Sequence[str],
    model: ModelSettings,
    curvature: Path,
    form: Form,
    damping: float,
    crew: Crew | None = None,
    advance: Advance | None = None,
    most: int = SUM_SHARDS,
    absolute: bool = False,
) -> list[Direction] | None:
    """One preconditioned gradient per group of queries. ``groups`` int ``[n]``: the group of each query, -1 for none.

    ``damping`` is times each block's mean eigenvalue, or as it is when ``absolute``.
    ``curvature``: the folder it was saved in. Raises :class:`InputError` naming a group without queries.
    """
    crew = crew or Crew()
    sizes = np.bincount(groups[groups >= 0], minlength=len(names))
    if (sizes == 0).any():
        raise InputError(f"group {names[int(np.flatnonzero(sizes == 0)[0])]} has no queries")
    root = work / "gradients"

    def plan_gradients() -> Plan:
        root.mkdir(parents=True, exist_ok=True)
        np.save(root / "groups.npy", groups)
        told = as_settings(root, model, queries, groups="groups.npy", n_groups=len(names), form=form)
        return Plan("gradients", "safetensors", told, queries.sum_tasks(most))

    sums = carry_out(root, plan_gradients, crew, advance)
    ahead = work / "directions"

    def plan_directions() -> Plan:
        loaded = Curvature.load(curvature, model_hash=model.model_hash)
        files = sums.results()
        told = as_settings(ahead, model, gradients=files, curvature=curvature, n_groups=len(names))
        return Plan("directions", "safetensors", told, direction_tasks(loaded, len(names), damping, absolute))

    folder = carry_out(ahead, plan_directions, crew)
    if not world().first:
        return None
    found: dict[str, torch.Tensor] = {}
    for file in folder.results():
        reader = Reader(file)
        found |= {name: reader.get("directions", name) for name in reader.names("directions")}
    tracked = model_of(model, root, crew.runtime)[1]
    return [Direction({n: found[n][k] for n in tracked.names}, name) for k, name in enumerate(names)]


def example_scores(
    work: Path,
    data: Shards,
    model: ModelSettings,
    directions: Path,
    crew: Crew | None = None,
    advance: Advance | None = None,
) -> TaskFolder:
    """Influence of every example along each direction of the folder ``directions``: one ``.npy`` ``[n, K]`` a shard."""
    told = as_settings(work, model, data, directions=directions)
    return carry_out(work, lambda: Plan("examples", "npy", told, data.tasks()), crew or Crew(), advance)


def token_scores(
    work: Path,
    data: Shards,
    model: ModelSettings,
    directions: Path,
    targets: Mapping[str, Sequence[float]],
    decompositions: Sequence[str] = ("loss",),
    crew: Crew | None = None,
    advance: Advance | None = None,
) -> TaskFolder:
    """Influence of every token on each target, a weighted sum of directions: one Parquet file a shard.

    Raises :class:`InputError` for ``position`` scores of a sharded model.
    """
    crew = crew or Crew()
    if crew.runtime.fsdp and list(decompositions) != ["loss"]:
        raise InputError("position scores of a model sharded over devices are not there; set scores.position to false")
    told = as_settings(
        work,
        model,
        data,
        directions=directions,
        targets={name: [float(w) for w in weights] for name, weights in targets.items()},
        decompositions=list(decompositions),
    )
    return carry_out(work, lambda: Plan("tokens", "parquet", told, data.tasks()), crew, advance)


def each_shard(folder: TaskFolder) -> Iterator[NDArray]:
    """The arrays of :func:`example_scores`, in order, one in memory at a time."""
    for path in folder.results():
        yield np.load(path)
