"""The subset plan: which runs will be made, written down and hashed before the first of them.

A plan holds, for every kind of removal, the subsets themselves (which units stay), the data orders, the training
settings and the hashes of data, model and queries. It never changes after that: a folder that holds another plan is
refused, and every run that starts is listed beside it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infra.data import TokenizedExample
from infra.errors import ArtifactError, InputError
from infra.experiments.retraining.units import Unit
from infra.store import read_json, sha256_json, write_json
from infra.train.replay import TrainingPlan

Kind = Literal["half", "drop1", "token", "step_mask", "step_delete"]
KINDS: tuple[Kind, ...] = ("half", "drop1", "token", "step_mask", "step_delete")
UNIT_OF: Mapping[str, Unit] = {
    "half": "example",
    "drop1": "example",
    "token": "token",
    "step_mask": "step",
    "step_delete": "step",
}
RECORDED = "recorded"
MINIMUM_SUBSETS = 100
MINIMUM_SEEDS = 3
MINIMUM_DROP1 = 2000


@dataclass(frozen=True)
class PlannedRun:
    """One retraining run. ``order`` is ``recorded`` or the seed of a fresh order; ``subset`` -1 keeps everything."""

    kind: str
    subset: int
    order: str | int

    @property
    def id(self) -> str:
        """Name in the journal."""
        return f"{self.kind}/{self.subset}/{self.order}"


@dataclass(frozen=True)
class SubsetPlan:
    """``subsets``: kind -> bool ``[S, U]``, True where a unit stays. ``settings`` goes into the hash as it is."""

    settings: Mapping[str, Any]
    subsets: Mapping[str, NDArray[np.bool_]]
    runs: tuple[PlannedRun, ...]

    def as_json(self) -> dict[str, Any]:
        """The plan as JSON values, its SHA-256 under ``hash``."""
        body: dict[str, Any] = {
            "format": 1,
            "settings": dict(self.settings),
            "subsets": {
                k: {"units": int(s.shape[1]), "kept": [_packed(row) for row in s]} for k, s in self.subsets.items()
            },
            "runs": [[r.kind, r.subset, r.order] for r in self.runs],
        }
        return {**body, "hash": sha256_json(body)}

    @property
    def hash(self) -> str:
        """SHA-256 of everything in the plan."""
        return str(self.as_json()["hash"])

    def commit(self, path: Path) -> None:
        """Write the plan, before any run. A plan that lies there must be this one.

        Raises ArtifactError when another plan lies there: plans are never changed after a measurement.
        """
        mine = self.as_json()
        if path.exists():
            if read_json(path).get("hash") != mine["hash"]:
                raise ArtifactError(
                    f"{path} holds another subset plan, and a plan is never changed once runs exist; choose another "
                    "output folder, or delete that one with its measurements"
                )
            return
        write_json(path, mine)


def runs_of(plan: SubsetPlan, kind: str, protocol: str) -> list[PlannedRun]:
    """The runs that one block of a plan consists of (those on all the data left out)."""
    orders: Sequence[str | int] = (RECORDED,) if protocol == "same_seed" else tuple(plan.settings["seeds"])
    return [PlannedRun(kind, s, o) for s in range(len(plan.subsets[kind])) for o in orders]


def load_plan(path: Path) -> SubsetPlan:
    """The plan written by :meth:`SubsetPlan.commit`. Raises ArtifactError when its hash does not fit its content."""
    raw = read_json(path)
    found = raw.pop("hash", None)
    if found != sha256_json(raw):
        raise ArtifactError(f"{path} does not match its own hash: it was edited; restore it or start another folder")
    subsets = {k: np.stack([_unpacked(row, s["units"]) for row in s["kept"]]) for k, s in raw["subsets"].items()}
    return SubsetPlan(raw["settings"], subsets, tuple(PlannedRun(*r) for r in raw["runs"]))


def _packed(keep: NDArray[np.bool_]) -> str:
    return base64.b64encode(np.packbits(keep).tobytes()).decode()


def _unpacked(text: str, n: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))[:n].astype(bool)


def random_subsets(kind: str, units: int, n: int, seed: int, fraction: float | None = None) -> NDArray[np.bool_]:
    """``n`` uniform subsets of one size, bool ``[n, units]``: half of the units kept, or 1% dropped for ``drop1``.

    ``fraction`` is the share dropped, when another is wanted.
    """
    share = fraction if fraction is not None else (0.01 if kind == "drop1" else 0.5)
    dropped = max(1, round(share * units))
    if dropped >= units:
        raise InputError(f"a subset would drop {dropped} of {units} units of kind {kind}; give more data")
    rng = np.random.default_rng([seed, units, sum(map(ord, UNIT_OF[kind])), kind == "drop1"])
    keep = np.ones((n, units), bool)
    for row in keep:
        row[rng.choice(units, dropped, replace=False)] = False
    return keep


def data_hash(examples: Sequence[TokenizedExample]) -> str:
    """SHA-256 over ids, tokens, masks and weights of examples in order."""
    digest = hashlib.sha256()
    for e in examples:
        digest.update(f"{e.id}:{len(e)}:{float(e.weight)!r}\n".encode())
        digest.update(np.asarray(e.input_ids, np.int64).tobytes())
        digest.update(np.asarray(e.loss_mask, bool).tobytes())
        if e.token_weights is not None:
            digest.update(np.asarray(e.token_weights, np.float32).tobytes())
    return digest.hexdigest()


def training_settings(plan: TrainingPlan) -> dict[str, Any]:
    """A training plan as JSON values; the order and the rates by hash."""
    return {
        "steps": plan.steps,
        "places": sum(len(b) for b in plan.batches),
        "order": sha256_json(plan.batches),
        "learning_rates": sha256_json(plan.learning_rates),
        "peak_learning_rate": max(plan.learning_rates),
        "normaliser": plan.normaliser,
        "betas": list(plan.betas),
        "eps": plan.eps,
        "eps_root": plan.eps_root,
        "weight_decay": plan.weight_decay,
        "max_grad_norm": plan.max_grad_norm,
    }
