"""Curvature, directions and scores by any number of processes: which tasks follow which, and what becomes of them.

Every process of a command calls these functions with the same arguments; results come back on rank 0, None elsewhere.
``work`` is a folder that all of them see. It holds the tasks of each step and is the caller's to delete at the end.

With a model sharded over the processes, sums are in parts, one of each process, and what comes back is on disk, in
``work``, and read block by block: no process holds a whole set of factors, gradients or directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError
from infra.influence import Curvature, Direction, Factor, FitInfo, SavedDirections, StoredFactor
from infra.influence.targets import Form
from infra.models.tracked import TrackedWeights
from infra.parallel.direction_tasks import direction_tasks
from infra.parallel.factor_tasks import basis_readers, basis_tasks, factor_tasks, factor_values, load_bases
from infra.parallel.launch import Crew, carry_out
from infra.parallel.settings import ModelSettings, as_settings, model_of, sum_suffix
from infra.parallel.shards import SUM_SHARDS, Shards
from infra.parallel.tasks import Plan, TaskFolder
from infra.parallel.tensors import Reader, key_of
from infra.parallel.world import world

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
    bases: list[Path] = []
    kept = sum_suffix(crew.runtime)
    if settings.kind != "diagonal":
        first, second = work / "covariances", work / "bases"
        told = as_settings(first, model, data, fit=asdict(settings))
        sums = carry_out(first, lambda: Plan("covariances", kept, told, data.sum_tasks(most)), crew, advance)

        def plan_bases() -> Plan:
            files = sums.results()
            told = as_settings(second, model, covariances=files)
            return Plan("bases", "safetensors", told, basis_tasks(tracked, Reader(files[0]).facts["leader"]))

        folder = carry_out(second, plan_bases, crew)
        if world().first:
            bases = folder.results()
    corrected: TaskFolder | None = None
    if settings.kind != "kfac":
        third = work / "eigenvalues"

        def plan_values() -> Plan:
            told = as_settings(third, model, data, fit=asdict(settings), bases=bases)
            return Plan("eigenvalues", kept, told, data.sum_tasks(most))

        corrected = carry_out(third, plan_values, crew, advance)
    values = corrected.results() if corrected is not None and world().first else []
    factors: dict[str, Factor] = {}
    if crew.runtime.fsdp:
        fourth = work / "factors"

        def plan_factors() -> Plan:
            told = as_settings(fourth, model, eigenvalues=values, bases=bases, n=sum(data.examples))
            return Plan("factors", "safetensors", told, factor_tasks(tracked))

        put_together = carry_out(fourth, plan_factors, crew)
        if world().first:
            factors = _stored(tracked, put_together.results(), bases)
    elif world().first:
        factors = _assembled(tracked, values, bases, sum(data.examples))
    return _curvature(tracked, factors, bases, settings, sum(data.examples), model) if world().first else None


def _assembled(tracked: TrackedWeights, values: Sequence[Path], bases: Sequence[Path], n: int) -> dict[str, Factor]:
    """Every block's factor in memory."""
    whole, readers, corrected = load_bases(bases), basis_readers(bases), [Reader(f) for f in values]
    factors = {}
    for block in tracked.blocks:
        basis = whole.get(block.key)
        sides = (basis.outputs, basis.inputs) if basis is not None else ()
        factors[block.key] = Factor(factor_values(block.key, corrected, readers.get(block.key), n), *sides)
    return factors


def _stored(tracked: TrackedWeights, values: Sequence[Path], bases: Sequence[Path]) -> dict[str, Factor]:
    """Every block's factor on disk: its own file of eigenvalues, and its basis."""
    factors: dict[str, Factor] = {}
    sides: dict[str, dict[str, tuple[Path, str]]] = {}
    for file in bases:
        for key, leader in Reader(file).facts["leader"].items():
            sides[key] = {"outputs": (file, key_of("outputs", key)), "inputs": (file, key_of("inputs", leader))}
    for block, file in zip(tracked.blocks, values):
        places = {"eigenvalues": (file, key_of("eigenvalues", block.key)), **sides.get(block.key, {})}
        factors[block.key] = StoredFactor(places)
    return factors


def _curvature(
    tracked: TrackedWeights,
    factors: dict[str, Factor],
    bases: Sequence[Path],
    settings: FitSettings,
    n: int,
    model: ModelSettings,
) -> Curvature:
    """The factors with the record of their fit."""
    facts = [Reader(file).facts for file in bases]
    info = FitInfo(
        kind=settings.kind,
        fisher=settings.fisher,
        eigenvalues="per_token" if settings.kind == "kfac" else settings.eigenvalues,
        include_prompt=settings.include_prompt,
        seed=settings.seed,
        n_examples=n,
        positions=max((count for f in facts for count in f["positions"].values()), default=0),
        model_hash=model.model_hash,
        coverage=tracked.coverage,
        warnings=tuple(warning for f in facts for warning in f["warnings"]),
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
) -> Sequence[Direction] | None:
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
        return Plan("gradients", sum_suffix(crew.runtime), told, queries.sum_tasks(most))

    sums = carry_out(root, plan_gradients, crew, advance)
    ahead = work / "directions"

    def plan_directions() -> Plan:
        opened = Curvature.open(curvature, model_hash=model.model_hash)
        files = sums.results()
        told = as_settings(ahead, model, gradients=files, curvature=curvature, n_groups=len(names))
        return Plan("directions", "safetensors", told, direction_tasks(opened, len(names), damping, absolute))

    folder = carry_out(ahead, plan_directions, crew)
    if not world().first:
        return None
    files = tuple((str(file.resolve()), len(names), tuple(Reader(file).names(""))) for file in folder.results())
    tracked = model_of(model, root, crew.runtime)[1]
    saved = SavedDirections(ahead, files, tuple(names), tracked.names, tuple(range(len(names))))
    return saved if crew.runtime.fsdp else saved.loaded()


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
