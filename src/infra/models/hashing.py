"""Which model is this: hashes over weights and configuration, over the tokenizer, over the generation configuration.

They are kept apart because results depend on different ones: scores on weights and tokenizer, generations on all three.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infra.errors import InputError
from infra.models.hub import model_folder
from infra.models.load import load_tokenizer

# Keys of a configuration that say how a model was made or is run, not what it computes.
VOLATILE = frozenset(
    {
        "transformers_version",
        "dtype",
        "torch_dtype",
        "architectures",
        "name_or_path",
        "use_cache",
        "is_decoder",
    }
)


def model_hash(path_or_model: Any) -> str:
    """The hash of a model's weights and configuration.

    All forms of one model give the same hash for the same weights in the same dtype. Neither the order of the tensors
    nor the sharding of the files enters, nor does the attention kernel or the version of transformers. Tied weights
    count once.

    Args:
        path_or_model: a name that :func:`infra.models.model_folder` knows, or a model in memory.

    Returns:
        SHA-256, 64 hex digits.

    Raises:
        InputError: the folder holds no safetensors or no ``config.json``.
    """
    if isinstance(path_or_model, str | Path):
        path = model_folder(path_or_model) or Path(path_or_model)
        if not list(path.glob("*.safetensors")):
            raise InputError(f"{path} holds no .safetensors file; save the model with save_pretrained")
        tensors, config = _file_tensors(path), _file_config(path)
    else:
        tensors, config = _model_tensors(path_or_model), _plain(path_or_model.config.to_dict())
    digests = sorted(f"{name}:{tensor_hash(tensor)}" for name, tensor in tensors)
    body = json.dumps([config, digests], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(body.encode()).hexdigest()


def tokenizer_hash(path_or_tokenizer: Any) -> str:
    """The hash of everything in a tokenizer that decides ids, text and the shape of a conversation.

    It covers vocabulary, merges, added tokens, normalizer, pre-tokenizer and post-processor, the chat templates, the
    special tokens and how text is decoded. Truncation and padding, which a call may set, do not enter.

    Args:
        path_or_tokenizer: a folder, a hub id, or a tokenizer in memory.

    Returns:
        SHA-256, 64 hex digits.
    """
    tokenizer = path_or_tokenizer
    if isinstance(path_or_tokenizer, str | Path):
        tokenizer = load_tokenizer(path_or_tokenizer)
    body = {
        "core": _tokenizer_core(tokenizer),
        "template": tokenizer.chat_template,
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "ids": sorted(int(i) for i in tokenizer.all_special_ids),
        "decoding": bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)),
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=True, default=str).encode()).hexdigest()


def _tokenizer_core(tokenizer: Any) -> Any:
    """The tokenizers library's own description, or for a tokenizer without one its class, vocabulary and settings."""
    if getattr(tokenizer, "is_fast", False):
        core = json.loads(tokenizer.backend_tokenizer.to_str())
        return {name: part for name, part in core.items() if name not in ("truncation", "padding")}
    settings = {
        k: v for k, v in tokenizer.init_kwargs.items() if k not in ("name_or_path", "vocab_file", "merges_file")
    }
    return [type(tokenizer).__name__, tokenizer.get_vocab(), settings]


def generation_config_hash(path_or_model: Any) -> str:
    """The hash of a model's generation configuration: end tokens, penalties and the rest.

    Args:
        path_or_model: a folder, a hub id, or a model in memory. A folder without generation_config.json has the one
            that its config.json implies, as when it is loaded.

    Returns:
        SHA-256, 64 hex digits.
    """
    found: Any
    if isinstance(path_or_model, str | Path):
        from transformers import AutoConfig, GenerationConfig

        path = model_folder(path_or_model) or Path(path_or_model)
        if (path / "generation_config.json").exists():
            found = GenerationConfig.from_pretrained(path)
        else:
            found = GenerationConfig.from_model_config(AutoConfig.from_pretrained(path, trust_remote_code=False))
    else:
        found = getattr(path_or_model, "generation_config", None)
    told = {} if found is None else _plain(found.to_diff_dict())
    plain = {name: value for name, value in told.items() if not name.startswith(("output_", "return_"))}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def tensor_hash(tensor: Tensor) -> str:
    """SHA-256 of one tensor: dtype, shape and bytes in row-major order."""
    plain = tensor.detach().to("cpu").contiguous()
    digest = hashlib.sha256(f"{plain.dtype}{tuple(plain.shape)}".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _model_tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    parameters = dict(model.named_parameters())  # a tied parameter appears under its first name only
    yield from parameters.items()
    every_name = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, tensor in model.state_dict().items():
        if name not in every_name:
            yield name, tensor


def _file_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    for file in sorted(path.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (safe_open is no mapping)
                yield name, opened.get_tensor(name)


def _file_config(path: Path) -> dict[str, Any]:
    from transformers import AutoConfig

    if not (path / "config.json").exists():
        raise InputError(f"{path} has no config.json, so it is no model folder; write one with save_pretrained")
    return _plain(AutoConfig.from_pretrained(path, trust_remote_code=False).to_dict())


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in VOLATILE}
