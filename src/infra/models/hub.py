"""Models named by a Hugging Face id: where their files lie on this machine, fetched when they do not."""

from __future__ import annotations

from pathlib import Path

from infra.errors import InputError
from infra.models.named import model_place

FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


def model_folder(path_or_id: str | Path, *, fetch: bool = True) -> Path | None:
    """The folder with a model's files: the one given, a named model's, or the snapshot of a hub id in the local cache.

    A hub id that is not in the cache is downloaded; with ``fetch=False`` the answer is then None. Raises
    :class:`InputError` when there is no such folder and it is no hub id, or when the hub cannot give it.
    """
    where = model_place(path_or_id)
    if Path(where).exists():
        return Path(where)
    if not is_hub_model(where):
        raise InputError(f"there is no model folder {where}; give a folder written by save_pretrained, or a hub id")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(where, allow_patterns=list(FILES), local_files_only=not fetch))
    except Exception as error:  # the hub's client raises many unrelated types: offline, gated, unknown, cut off
        if not fetch:
            return None
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"model {where} cannot be had from the hub ({reason}); check the id, the network and your access to it, "
            "or give a folder"
        ) from error


def is_hub_model(where: str) -> bool:
    """True for ``org/name`` (or a bare ``name``) that cannot be a path."""
    return bool(where) and not where.startswith((".", "/", "~")) and where.count("/") <= 1
