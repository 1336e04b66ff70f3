"""A direction: one tensor per tracked parameter, in that parameter's shape. Gradients are directions too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from infra.errors import ArtifactError, InputError
from infra.store import link


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
    """The linear combination ``sum_k weights[k] directions[k]``: contrasts, means, ensembles over seeds.

    Args:
        directions: over the same parameters.
        weights: one a direction.
        name: of the result.
    """
    if len(directions) != len(weights) or not directions:
        raise InputError(f"{len(directions)} directions and {len(weights)} weights cannot be combined")
    total: dict[str, Tensor] = {}
    for number, weight in enumerate(map(float, weights)):  # one at a time: they may be on disk
        direction = directions[number]
        if number and direction.tensors.keys() != total.keys():
            raise InputError(f"directions number 0 and {direction.name!r} are over different weights")
        for key, tensor in direction.tensors.items():
            total[key] = total[key].add(tensor, alpha=weight) if key in total else tensor * weight
    return Direction(total, name)


def stack(directions: Sequence[Direction]) -> dict[str, Tensor]:
    """``K`` directions as one tensor ``[K, *shape]`` per parameter."""
    if isinstance(directions, SavedDirections):
        return directions.stacked()
    _same_space(directions)
    if len(directions) == 1:  # no copy of what may be as large as the weights
        return {key: tensor[None] for key, tensor in directions[0].tensors.items()}
    return {key: torch.stack([d.tensors[key] for d in directions]) for key in directions[0].tensors}


@dataclass(frozen=True)
class SavedDirections(Sequence[Direction]):
    """Directions on disk, read when they are asked for: as many may exist as do not fit in memory together.

    ``files``: each file, how many directions are in it and which of their parameters; ``chosen``: numbers of the
    directions of this view.
    """

    folder: Path
    files: tuple[tuple[str, int, tuple[str, ...]], ...]
    names: tuple[str, ...]
    parameters: tuple[str, ...]
    chosen: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, index: int) -> Direction: ...
    @overload
    def __getitem__(self, index: slice) -> SavedDirections: ...
    def __getitem__(self, index: int | slice) -> Direction | SavedDirections:
        if isinstance(index, slice):
            return replace(self, chosen=self.chosen[index])
        number = self.chosen[index]
        tensors = {key: t[0] for key, t in replace(self, chosen=(number,)).stacked().items()}
        return Direction(tensors, self.names[number])

    def stacked(self, rows: Mapping[str, slice] | None = None) -> dict[str, Tensor]:
        """The chosen directions as one tensor ``[K, *shape]`` per parameter, in one read.

        ``rows``: of the parameters named there only these rows are read, ``[K, rows, ...]``.
        """
        from safetensors import safe_open

        found: dict[str, dict[int, Tensor]] = {key: {} for key in self.parameters}
        first = dict.fromkeys(self.parameters, 0)
        try:
            for file, count, keys in self.files:
                with safe_open(str(self.folder / file), "pt") as handle:
                    for key in keys:
                        before, part = first[key], handle.get_slice(key)
                        only = (rows or {}).get(key, slice(None))
                        for n in self.chosen:
                            if before <= n < before + count:
                                found[key][n] = part[n - before : n - before + 1, only]
                        first[key] += count
        except Exception as error:
            raise _unreadable(self.folder, error) from error
        return {key: torch.cat([tensors[n] for n in self.chosen]) for key, tensors in found.items()}

    def loaded(self, rows: Mapping[str, slice] | None = None) -> list[Direction]:
        """The chosen directions in memory, or the ``rows`` of them."""
        stacked = self.stacked(rows)
        return [Direction({key: t[k] for key, t in stacked.items()}, self.names[n]) for k, n in enumerate(self.chosen)]


def save_directions(
    directions: Iterable[Direction], folder: str | Path, model_hash: str = "", at_once: int | None = None
) -> None:
    """Write directions, and ``directions.json`` with their names, parameters and the model's hash.

    All of a :class:`SavedDirections` are not read: their files get a second name (:func:`infra.store.link`).

    Args:
        directions: to write.
        folder: to write into.
        model_hash: of the model that they were made for.
        at_once: so many are taken from the iterable, written to a file of their own and let go; None: one file.
    """
    from safetensors.torch import save_file

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    files: list[tuple[str, int] | tuple[str, int, tuple[str, ...]]] = []
    parameters: list[str] = []
    if isinstance(directions, SavedDirections) and directions.chosen == tuple(range(len(directions.names))):
        for number, (source, count, keys) in enumerate(directions.files):
            file = f"directions-{number:05d}.safetensors"
            link(directions.folder / source, path / file)
            files.append((file, count, keys))
        names, parameters, directions = list(directions.names), list(directions.parameters), ()
    stream = iter(directions)
    while group := list(islice(stream, at_once)):
        stacked = {key: t.detach().cpu().contiguous() for key, t in stack(group).items()}
        if parameters and list(stacked) != parameters:
            raise InputError(f"directions {names[0]!r} and {group[0].name!r} are over different weights")
        parameters = list(stacked)
        file = f"directions-{len(files):05d}.safetensors" if files else "directions.safetensors"
        save_file(stacked, str(path / file))
        files.append((file, len(group)))
        names += [d.name for d in group]
    manifest = {"names": names, "parameters": parameters, "files": files, "model_hash": model_hash}
    (path / "directions.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def open_directions(folder: str | Path, model_hash: str | None = None) -> SavedDirections:
    """What :func:`save_directions` wrote, to be read one by one or a few at a time.

    Args:
        folder: that was written.
        model_hash: of the model that they are to be used on; None does not check.

    Raises:
        ArtifactError: the files are missing or damaged, or the directions were made for another model.
    """
    path = Path(folder)
    try:
        manifest = json.loads((path / "directions.json").read_text())
        names, keys, made_for = tuple(manifest["names"]), tuple(manifest["parameters"]), manifest["model_hash"]
        stored = manifest.get("files") or [["directions.safetensors", len(names)]]
        files = tuple((str(file), int(count), tuple(of[0]) if of else keys) for file, count, *of in stored)
        missing = [file for file, _, _ in files if not (path / file).is_file()]
        if missing:
            raise FileNotFoundError(f"{missing[0]} is missing")
    except Exception as error:
        raise _unreadable(path, error) from error
    if model_hash is not None and made_for and made_for != model_hash:
        raise ArtifactError(
            f"the directions in {path} belong to a model with hash {made_for[:12]}, not {model_hash[:12]}; "
            "fit them again for this model"
        )
    return SavedDirections(path, files, names, keys, tuple(range(len(names))))


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path} holds no readable directions ({error}); make them again")


def _same_space(directions: Sequence[Direction]) -> None:
    first = directions[0].tensors
    for direction in directions[1:]:
        if direction.tensors.keys() != first.keys():
            raise InputError(f"directions {directions[0].name!r} and {direction.name!r} are over different weights")
