"""A fitted method in a folder, with the name it goes by: directions where it has them, else what it writes itself."""

from __future__ import annotations

from pathlib import Path

from infra.errors import ArtifactError
from infra.influence.directions import open_directions, save_directions
from infra.influence.engine.engine import Engine
from infra.influence.methods._directions import AlongDirections
from infra.influence.methods._method import Fitted
from infra.influence.methods._registry import get_method
from infra.store import read_json, write_json

INDEX = "method.json"
DIRECTIONS = "directions.json"


def write_fitted(name: str, fitted: Fitted, folder: Path, model_hash: str) -> None:
    """Write a fitted method into ``folder`` so that :func:`open_fitted` finds it, here or in another process."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(fitted, AlongDirections):
        save_directions(fitted.directions, folder, model_hash)
    else:
        fitted.save(folder / "fitted")
    write_json(folder / INDEX, {"method": name, "model_hash": model_hash})


def has_directions(folder: Path) -> bool:
    """Whether the fitted method in ``folder`` is made of directions."""
    return (folder / DIRECTIONS).exists()


def open_fitted(folder: Path, engine: Engine, model_hash: str | None = None) -> Fitted:
    """The fitted method in ``folder``; directions are read when they are needed.

    Raises :class:`ArtifactError` when nothing readable lies there, or what does was fitted on another model.
    """
    if has_directions(folder):
        return AlongDirections(engine, open_directions(folder, model_hash))
    about = read_json(folder / INDEX)
    if model_hash is not None and about.get("model_hash") != model_hash:
        raise ArtifactError(f"the method in {folder} was fitted on another model; fit it again for this one")
    return get_method(about["method"]).load(folder / "fitted", engine)
