"""Tensors of a task's result in one safetensors file, with what is no tensor in its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from infra.errors import ArtifactError

SEPARATOR = "|"  # not in a parameter's name


def save(path: Path, tensors: Mapping[str, Mapping[str, Tensor]], facts: Any = None) -> None:
    """Write groups of tensors by name: ``tensors[group][name]``; ``facts`` is any JSON value."""
    from safetensors.torch import save_file

    flat = {
        f"{group}{SEPARATOR}{name}": t.detach().to("cpu").contiguous()
        for group, named in tensors.items()
        for name, t in named.items()
    }
    save_file(flat, str(path), metadata={"facts": json.dumps(facts, sort_keys=True)})


class Reader:
    """A file of :func:`save`; tensors are read when asked for. Raises :class:`ArtifactError` for a damaged file."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        try:
            self._file = safe_open(str(path), framework="pt")
            self.facts = json.loads(self._file.metadata()["facts"])
        except Exception as error:  # safetensors has errors of its own
            raise ArtifactError(f"{path} cannot be read ({error}); delete it and run again") from error
        self._keys = set(self._file.keys())

    def names(self, group: str) -> list[str]:
        """Names in a group, sorted."""
        return sorted(k.partition(SEPARATOR)[2] for k in self._keys if k.partition(SEPARATOR)[0] == group)

    def get(self, group: str, name: str) -> Tensor:
        """One tensor."""
        tensor: Tensor = self._file.get_tensor(f"{group}{SEPARATOR}{name}")
        return tensor


def total(readers: Iterable[Reader], group: str, name: str) -> Tensor:
    """The sum over files of one tensor, in the files' order, one file's share in memory at a time."""
    sum_: Tensor | None = None
    for reader in readers:
        part = reader.get(group, name)
        sum_ = part if sum_ is None else sum_ + part
    assert sum_ is not None
    return sum_
