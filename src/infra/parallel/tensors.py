"""Results that are groups of named tensors: in memory, or in one safetensors file, with what is no tensor in its
metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infra.errors import ArtifactError
from infra.parallel.tasks import parts_of

SEPARATOR = "|"  # not in a parameter's name


class TensorGroups:
    """Groups of tensors by name in memory, ``tensors[group][name]``; ``facts`` is any JSON value.

    :class:`Reader` is the same on disk, so that a step reads the one before it wherever its results lie.
    """

    def __init__(self, tensors: Mapping[str, Mapping[str, Tensor]], facts: Any = None) -> None:
        self.tensors, self.facts = tensors, facts

    def names(self, group: str) -> list[str]:
        """Names in a group, sorted."""
        return sorted(self.tensors.get(group, {}))

    def get(self, group: str, name: str) -> Tensor:
        """One tensor, whole."""
        return self.tensors[group][name]

    def dtype(self, group: str, name: str) -> torch.dtype:
        """The dtype of one tensor."""
        return self.get(group, name).dtype

    def rows(self, group: str, name: str, cut: Callable[[int], slice]) -> Tensor:
        """The rows ``cut(number of them)`` of a matrix, or of each of several ``[n, rows, columns]``."""
        whole = self.get(group, name)
        return whole[..., cut(whole.shape[-2]), :]

    def save(self, path: Path) -> None:
        """Write them to a file that :class:`Reader` reads."""
        save(path, self.tensors, self.facts)


def save(path: Path, tensors: Mapping[str, Mapping[str, Tensor]], facts: Any = None) -> None:
    """Write groups of tensors by name: ``tensors[group][name]``; ``facts`` is any JSON value.

    Names in the group "" stand in the file as they are.
    """
    from safetensors.torch import save_file

    flat = {
        key_of(group, name): t.detach().to("cpu").contiguous()
        for group, named in tensors.items()
        for name, t in named.items()
    }
    save_file(flat, str(path), metadata={"facts": json.dumps(facts, sort_keys=True)})


def key_of(group: str, name: str) -> str:
    """What a tensor is called in the file."""
    return f"{group}{SEPARATOR}{name}" if group else name


class TensorFile:
    """A file of :func:`save`, or a result in parts of such files, each with some rows of every matrix and the same
    facts. Tensors are read when asked for. Raises :class:`ArtifactError` for a damaged file.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        try:
            self._files = [safe_open(str(part), framework="pt") for part in parts_of(path)]
            self.facts = json.loads(self._files[0].metadata()["facts"])
        except Exception as error:  # safetensors has errors of its own
            raise ArtifactError(f"{path} cannot be read ({error}); delete it and run again") from error
        self._keys = set(self._files[0].keys())

    def names(self, group: str) -> list[str]:
        """Names in a group, sorted."""
        split = (key.rpartition(SEPARATOR) for key in self._keys)
        return sorted(name for found, _, name in split if found == group)

    def get(self, group: str, name: str) -> Tensor:
        """One tensor, whole."""
        parts: list[Tensor] = [file.get_tensor(key_of(group, name)) for file in self._files]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)

    def dtype(self, group: str, name: str) -> torch.dtype:
        """The dtype of one tensor, of which nothing is read."""
        return self._files[0].get_slice(key_of(group, name))[:0].dtype

    def rows(self, group: str, name: str, cut: Callable[[int], slice]) -> Tensor:
        """The rows ``cut(number of them)`` of a matrix, or of each of several ``[n, rows, columns]``."""
        [file] = self._files
        whole = file.get_slice(key_of(group, name))
        shape = whole.get_shape()
        chosen: Tensor = whole[(*[slice(None)] * (len(shape) - 2), cut(shape[-2]))]
        return chosen


def total(parts: Iterable[TensorGroups | TensorFile], group: str, name: str) -> Tensor:
    """The sum over results of one tensor, in their order, one result's share in memory at a time."""
    sum_: Tensor | None = None
    for result in parts:
        part = result.get(group, name)
        sum_ = part if sum_ is None else sum_ + part
    assert sum_ is not None
    return sum_
