"""Which model is this: one hash over its weights and its configuration."""

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
    """SHA-256 (64 hex digits) of a model's weights and configuration.

    The argument is a name that :func:`infra.models.model_folder` knows, or a model in memory; all give the same hash
    for the same weights in the same dtype. Neither the order of the tensors nor the sharding of the files enters, nor
    does the attention kernel or the version of transformers. Tied weights count once.

    Raises :class:`InputError` when the folder holds no safetensors or no ``config.json``.
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
