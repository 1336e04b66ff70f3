"""The steps of an attribution in tasks on disk, by any number of processes.

Every process of a command makes an :class:`OnDisk` with the same arguments and calls the same methods; results come
back on rank 0, None elsewhere. ``work`` is a folder that all of them see. It holds the tasks of each step and is the
caller's to delete at the end.

With a model sharded over the processes, sums are in parts, one of each process. What comes back is on disk, in
``work``, and read block by block: no process holds a whole set of factors, gradients or directions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.data.tokenized import Counted
from infra.errors import InputError
from infra.influence.curvature import Curvature, Factor, StoredFactor
from infra.influence.damping import Damping
from infra.influence.directions import Direction, SavedDirections
from infra.influence.engine.engine import Engine
from infra.influence.steps.directions import weights_of_blocks
from infra.influence.steps.registry import STEPS
from infra.influence.steps.settings import FolderResults, ModelSettings, engine_of, forget_model, model_to_json, to_json
from infra.influence.steps.worker import work_of
from infra.influence.targets import Form
from infra.models.tracked import Block
from infra.parallel.launch import Launcher, run_tasks
from infra.parallel.process_group import this_rank
from infra.parallel.shards import SUM_SHARDS, Shards
from infra.parallel.tasks import PARTS, ShardPlan, ShardTask, TaskFolder
from infra.parallel.tensors import TensorFile, key_of

Advance = Callable[[float], object]
"""Told the cost of the tasks that are done: tokens for shards."""


@dataclass(frozen=True, eq=False)
class OnDisk:
    """Runs the steps of an attribution over ``data`` in folders below ``work``.

    - ``model``: how every worker loads the model.
    - ``launcher``: who does the work.
    - ``advance``: told the cost of what is done.
    - ``most``: pieces of a sum over the data; each is as large as the whole sum, so they are few.
    """

    work: Path
    data: Shards
    model: ModelSettings
    launcher: Launcher = field(default_factory=Launcher)
    advance: Advance | None = None
    most: int = SUM_SHARDS

    @property
    def engine(self) -> Engine:
        """The model as this process loads it."""
        return engine_of(self.model, self.work / "step", self.launcher.runtime)

    @property
    def n(self) -> int:
        """How many examples there are."""
        return sum(self.data.examples)

    def over_data(self, name: str, **arguments: Any) -> FolderResults:
        """One step over the data, in pieces of neighbouring shards (sums) or shard by shard (rows)."""
        step = STEPS[name]
        suffix = {"examples": "npy", "norms": "npy", "tokens": "parquet"}.get(name) or (
            PARTS if self._fsdp else "safetensors"
        )
        pieces = self.data.tasks() if step.over == "rows" else self.data.sum_tasks(self.most)
        return self._run(name, suffix, lambda: pieces, arguments, self.advance)

    def over_keys(self, name: str, groups: Callable[[], Sequence[Sequence[str]]], **arguments: Any) -> FolderResults:
        """One step over the blocks, a task for each of ``groups()``; its cost is that of their decomposition."""
        return self._run(name, "safetensors", lambda: self._key_tasks(groups()), arguments)

    def factors(self, eigenvalues: FolderResults, bases: Sequence[TensorFile]) -> dict[str, Factor]:
        """Every block's factor on disk: its own file of eigenvalues, and its basis."""
        sides: dict[str, dict[str, tuple[Path, str]]] = {}
        for file in bases.files if isinstance(bases, FolderResults) else ():
            for key, leader in TensorFile(file).facts["leader"].items():
                sides[key] = {"outputs": (file, key_of("outputs", key)), "inputs": (file, key_of("inputs", leader))}
        factors: dict[str, Factor] = {}
        for file in eigenvalues.files:
            for key in TensorFile(file).names("eigenvalues"):
                places = {"eigenvalues": (file, key_of("eigenvalues", key)), **sides.get(key, {})}
                factors[key] = StoredFactor(places)
        return {block.key: factors[block.key] for block in self.engine.tracked.blocks}

    def directions(
        self, groups: NDArray[np.int64], names: Sequence[str], curvature: Path, damping: Damping, form: Form
    ) -> Sequence[Direction] | None:
        """One preconditioned gradient per group of queries, which are the data; on rank 0.

        ``groups`` int ``[n]``: the group of each query, -1 for none. ``curvature``: the folder it was saved in.
        Raises :class:`InputError` naming a group without queries.
        """
        sizes = np.bincount(groups[groups >= 0], minlength=len(names))
        if (sizes == 0).any():
            raise InputError(f"group {names[int(np.flatnonzero(sizes == 0)[0])]} has no queries")
        file = self.work / "groups.npy"
        if this_rank().first:
            self.work.mkdir(parents=True, exist_ok=True)
            np.save(file, groups)
        sums = self.over_data("gradients", groups=file, n_groups=len(names), form=form)

        def tasks() -> tuple[ShardTask, ...]:
            opened = Curvature.open(curvature, model_hash=self.model.model_hash)
            return _direction_tasks(opened.blocks, opened.dampings(damping), len(names))

        arguments = {"curvature": curvature, "model_hash": self.model.model_hash, "n_groups": len(names)}
        found = self._run("directions", "safetensors", tasks, {"gradients": sums, **arguments})
        if not this_rank().first:
            return None
        files = tuple((str(f.resolve()), len(names), tuple(TensorFile(f).names(""))) for f in found.files)
        saved = SavedDirections(
            self.work / "directions", files, tuple(names), self.engine.tracked.names, tuple(range(len(names)))
        )
        return saved if self._fsdp else saved.loaded()

    def example_scores(self, fitted: Path, counted: Counted = "all") -> TaskFolder:
        """Scores of every example by the method in the folder ``fitted``: one ``.npy`` ``[n, K]`` a shard."""
        return self.over_data("examples", fitted=fitted, model_hash=self.model.model_hash, counted=counted).folder

    def gradient_norms(self, counted: Counted = "all") -> TaskFolder:
        """The norm of every example's gradient over the tracked weights: one ``.npy`` ``[n]`` a shard."""
        return self.over_data("norms", counted=counted).folder

    def token_scores(
        self,
        fitted: Path,
        targets: Mapping[str, Sequence[float]],
        decompositions: Sequence[str] = ("loss",),
        counted: Counted = "all",
    ) -> TaskFolder:
        """Scores of every token on each target, a weighted mean of the method's own: one Parquet file a shard.

        The ``counted`` tokens sum to the example's score.

        Raises :class:`InputError` for ``position`` scores of a sharded model.
        """
        if self._fsdp and list(decompositions) != ["loss"]:
            raise InputError(
                "position scores of a model sharded over devices are not there; set scores.position to false"
            )
        weights = {name: [float(w) for w in row] for name, row in targets.items()}
        return self.over_data(
            "tokens",
            fitted=fitted,
            model_hash=self.model.model_hash,
            targets=weights,
            decompositions=list(decompositions),
            counted=counted,
        ).folder

    @property
    def _fsdp(self) -> bool:
        return self.launcher.runtime.fsdp

    def _run(
        self,
        name: str,
        suffix: str,
        tasks: Callable[[], tuple[ShardTask, ...]],
        arguments: Mapping[str, Any],
        advance: Advance | None = None,
    ) -> FolderResults:
        root = self.work / name

        def plan() -> ShardPlan:
            settings: dict[str, Any] = {"model": model_to_json(self.model, root), "arguments": to_json(arguments, root)}
            if STEPS[name].over != "keys":
                settings["data"] = {"file": os.path.relpath(self.data.path, root), "digest": self.data.digest}
            return ShardPlan(name, suffix, settings, tasks())

        if self.launcher.kind != "processes":
            forget_model()  # others load it
        return FolderResults(run_tasks(root, plan, self.launcher, work_of, advance))

    def _key_tasks(self, groups: Sequence[Sequence[str]]) -> tuple[ShardTask, ...]:
        blocks = {b.key: b for b in self.engine.tracked.blocks}

        def cost(keys: Sequence[str]) -> float:
            return float(sum(blocks[k].shape[0] ** 3 for k in keys) + blocks[keys[0]].columns ** 3)

        return tuple(ShardTask(f"{i:05d}", cost(keys), {"keys": list(keys)}) for i, keys in enumerate(groups))


def _direction_tasks(blocks: Sequence[Block], dampings: Mapping[str, float], n_groups: int) -> tuple[ShardTask, ...]:
    """One task a weight. Its cost: rotating every group's matrix there and back."""
    return tuple(
        ShardTask(
            f"{i:05d}",
            float(sum(4 * n_groups * b.shape[0] * b.columns * (b.shape[0] + b.columns) for b in own)),
            {"keys": {b.key: dampings[b.key] for b in own}},
        )
        for i, own in enumerate(weights_of_blocks(blocks))
    )


def each_shard(folder: TaskFolder) -> Iterator[NDArray[Any]]:
    """The arrays of :meth:`OnDisk.example_scores`, in order, one in memory at a time."""
    for path in folder.results():
        yield np.load(path)
