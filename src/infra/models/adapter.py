"""PEFT adapters as ordinary model folders: the base model with the adapter's change added to its weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from infra.errors import ArtifactError, InputError, ModelError
from infra.models import cache
from infra.store import read_json, sha256_file, sha256_text

FORMAT = 1
"""Raised when the same base and adapter would become another folder, so that the cache makes it again."""
CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
NO_WEIGHTS_TO_ADD_TO = frozenset({"PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT"})
"""Kinds that put learned vectors before the text instead of changing weights."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no model. Raises :class:`InputError` where it holds both."""
    if not (folder / CONFIG).is_file():
        return False
    whole = [f.name for f in folder.glob("*.safetensors") if f.name not in WEIGHTS]
    if whole:
        raise InputError(
            f"{folder} holds both a model ({whole[0]}) and an adapter ({CONFIG}), so which is meant is not clear; move "
            "one of them to a folder of its own"
        )
    return True


def base_of(folder: Path) -> str:
    """The base model that an adapter names: a folder (also relative to the adapter's) or a name.

    Raises :class:`InputError` for an adapter that names none, or a kind that has no weights to add.
    """
    config = _config(folder)
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise InputError(
            f"{folder / CONFIG} does not name the base model; write its folder or hub id there as "
            f"base_model_name_or_path, or give --model BASE+{folder}"
        )
    beside = folder / named
    return str(beside) if not Path(named).exists() and beside.is_dir() else named


def adapter_folder(adapter: Path, base: Path) -> Path:
    """The folder of ``base`` with ``adapter`` added in, merged into the cache on first use.

    The weights are added and kept in float32 (float64 for such a base), so that a small change is not rounded away. A
    tokenizer saved beside the adapter is taken in place of the base's. Raises :class:`InputError` where a file or PEFT
    is missing, :class:`ModelError` where base and adapter do not fit.
    """
    from infra.models.hashing import model_hash

    config = _config(adapter)
    kind, task = str(config.get("peft_type")), config.get("task_type")
    if kind in NO_WEIGHTS_TO_ADD_TO:
        raise InputError(
            f"{adapter} is an adapter of kind {kind}, which changes no weights; use LoRA or another that does"
        )
    if task not in (None, "CAUSAL_LM"):
        raise InputError(
            f"{adapter} is an adapter for the task {task}; only those of causal language models can be used"
        )
    weights = next((adapter / name for name in WEIGHTS if (adapter / name).is_file()), None)
    if weights is None:
        raise InputError(f"{adapter} has {CONFIG} but no {WEIGHTS[0]}; save the adapter again")
    source = {
        "format": FORMAT,
        "base": model_hash(base),
        "adapter": sha256_file(weights),
        "config": sha256_file(adapter / CONFIG),
        "tokenizer": sha256_text("".join(sha256_file(f) for f in _tokenizer_files(adapter))),
    }
    name = f"adapter-{adapter.resolve().name}-{sha256_text(str(source))[:12]}"

    def make(folder: Path) -> None:
        print(f"adding {adapter} to {base} in {cache.cache_folder() / name} (once)", file=sys.stderr)
        _merge(adapter, base, folder)

    return cache.kept(name, source, make)


def _merge(adapter: Path, base: Path, folder: Path) -> None:
    import torch

    from infra.models.load import first_line, load_model, load_tokenizer, quiet

    try:
        from peft import PeftModel
    except ImportError as error:
        raise InputError(
            f"{adapter} is an adapter, which needs the extra 'lora'; pip install 'infra-attribution[lora]'"
        ) from error
    model, tokenizer = load_model(base)
    if model.dtype != torch.float64:
        model = model.float()
    if _tokenizer_files(adapter):
        tokenizer = load_tokenizer(adapter)
    try:
        with quiet():
            rows = _embedding_rows(adapter)
            if rows is not None and rows != model.get_input_embeddings().weight.shape[0]:
                model.resize_token_embeddings(rows, mean_resizing=False)
            merged: Any = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
            merged.save_pretrained(folder)
    except Exception as error:  # peft, torch and safetensors raise many unrelated types for what does not fit
        raise ModelError(
            f"the adapter {adapter} cannot be added to {base} ({first_line(error)}); give the base model that it was "
            f"trained on, as --model BASE+{adapter}"
        ) from error
    tokenizer.save_pretrained(folder)


def _embedding_rows(adapter: Path) -> int | None:
    """Rows of the embedding that an adapter brings along, for a vocabulary that was made larger."""
    from safetensors import safe_open

    if not (adapter / WEIGHTS[0]).is_file():
        return None
    with safe_open(str(adapter / WEIGHTS[0]), framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118  (safe_open is no mapping)
            if name.endswith("embed_tokens.weight"):
                return int(opened.get_slice(name).get_shape()[0])
    return None


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = read_json(folder / CONFIG)
    except ArtifactError as error:
        raise InputError(f"{folder / CONFIG} cannot be read as JSON; save the adapter again") from error
    if not isinstance(config, dict):
        raise InputError(f"{folder / CONFIG} is no JSON object; save the adapter again")
    return config


def _tokenizer_files(folder: Path) -> list[Path]:
    names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.jinja")
    found = [folder / name for name in names if (folder / name).is_file()]
    return found if any(f.name in ("tokenizer.json", "tokenizer.model") for f in found) else []
