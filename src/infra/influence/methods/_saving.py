"""A fitted method's tensors and facts in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from infra.errors import ArtifactError
from infra.store import read_json, write_json


def save_fitted(folder: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
    """Write ``fitted.safetensors`` where there are tensors, then ``fitted.json``."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if tensors:
        own = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}  # no two share memory
        save_file(own, str(folder / "fitted.safetensors"))
    write_json(folder / "fitted.json", dict(facts))


def load_fitted(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What :func:`save_fitted` wrote. Raises :class:`ArtifactError` when it is missing or damaged."""
    from safetensors.torch import load_file

    try:
        facts = dict(read_json(folder / "fitted.json"))
        path = folder / "fitted.safetensors"
        return facts, load_file(str(path)) if path.exists() else {}
    except Exception as error:
        raise ArtifactError(f"{folder} holds no fitted method that can be read ({error}); fit it again") from error
