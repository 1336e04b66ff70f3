"""A direction: one tensor per tracked parameter, in that parameter's shape. Gradients are directions too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from infra.errors import ArtifactError, InputError


@dataclass(frozen=True)
class Direction:
    """A vector in the space of tracked parameters: ``tensors[name]`` has the shape of the parameter ``name``."""

    tensors: dict[str, Tensor]
    name: str = ""

    def __add__(self, other: Direction) -> Direction:
        return combine([self, other], [1.0, 1.0], self.name)

    def __sub__(self, other: Direction) -> Direction:
        return combine([self, other], [1.0, -1.0], self.name)

    def __mul__(self, factor: float) -> Direction:
        return Direction({k: t * factor for k, t in self.tensors.items()}, self.name)

    __rmul__ = __mul__

    def __neg__(self) -> Direction:
        return self * -1.0

    def dot(self, other: Direction) -> float:
        """Inner product, summed in float64."""
        _same_space([self, other])
        return sum(float((t.double() * other.tensors[k].double()).sum()) for k, t in self.tensors.items())

    def norm(self) -> float:
        """Euclidean norm."""
        return self.dot(self) ** 0.5

    def unit(self) -> Direction:
        """The same direction with norm 1. Raises :class:`InputError` for the zero vector."""
        size = self.norm()
        if size == 0.0:
            raise InputError(f"direction {self.name!r} is zero and cannot be normalised")
        return self * (1.0 / size)

    def renamed(self, name: str) -> Direction:
        """The same tensors under another name."""
        return replace(self, name=name)


def combine(directions: Sequence[Direction], weights: Sequence[float], name: str = "") -> Direction:
    """The linear combination ``sum_k weights[k] directions[k]``: contrasts, means, ensembles over seeds."""
    if len(directions) != len(weights) or not directions:
        raise InputError(f"{len(directions)} directions and {len(weights)} weights cannot be combined")
    _same_space(directions)
    total = {k: t * weights[0] for k, t in directions[0].tensors.items()}
    for direction, weight in zip(directions[1:], weights[1:]):
        for key in total:
            total[key] = total[key] + direction.tensors[key] * weight
    return Direction(total, name)


def stack(directions: Sequence[Direction]) -> dict[str, Tensor]:
    """``K`` directions as one tensor ``[K, *shape]`` per parameter."""
    _same_space(directions)
    return {key: torch.stack([d.tensors[key] for d in directions]) for key in directions[0].tensors}


def save_directions(directions: Sequence[Direction], folder: str | Path, model_hash: str = "") -> None:
    """Write ``directions.safetensors`` and ``directions.json`` (names, parameters, the model's hash)."""
    from safetensors.torch import save_file

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    stacked = {key: t.detach().cpu().contiguous() for key, t in stack(directions).items()}
    save_file(stacked, str(path / "directions.safetensors"))
    manifest = {"names": [d.name for d in directions], "parameters": list(stacked), "model_hash": model_hash}
    (path / "directions.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def load_directions(folder: str | Path, model_hash: str | None = None) -> list[Direction]:
    """Read what :func:`save_directions` wrote.

    Raises :class:`ArtifactError` when the files are missing or damaged, or when ``model_hash`` is given and
    is not the hash of the model the directions were made for.
    """
    from safetensors.torch import load_file

    path = Path(folder)
    try:
        manifest = json.loads((path / "directions.json").read_text())
        stacked = load_file(str(path / "directions.safetensors"))
        names, keys, made_for = manifest["names"], manifest["parameters"], manifest["model_hash"]
    except Exception as error:
        raise ArtifactError(f"{path} holds no readable directions ({error}); make them again") from error
    if model_hash is not None and made_for and made_for != model_hash:
        raise ArtifactError(
            f"the directions in {path} belong to a model with hash {made_for[:12]}, not {model_hash[:12]}; "
            "fit them again for this model"
        )
    return [Direction({key: stacked[key][k] for key in keys}, name) for k, name in enumerate(names)]


def _same_space(directions: Sequence[Direction]) -> None:
    first = directions[0].tensors
    for direction in directions[1:]:
        if direction.tensors.keys() != first.keys():
            raise InputError(f"directions {directions[0].name!r} and {direction.name!r} are over different weights")
