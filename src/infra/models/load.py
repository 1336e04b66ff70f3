"""Loading a causal language model and its tokenizer, with errors a user can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from infra.errors import InputError, ModelError
from infra.models.hub import is_hub_model

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
ATTENTIONS = ("sdpa", "eager")


def load_model(
    path_or_id: str | Path,
    dtype: torch.dtype | str | None = None,
    device: str = "cpu",
    attention: str = "sdpa",
) -> tuple[Any, Any]:
    """Load ``(model, tokenizer)`` in evaluation mode.

    ``path_or_id`` is a folder written by ``save_pretrained`` or a Hugging Face id. ``dtype`` None keeps the
    dtype of the files. ``attention`` is the kernel for ordinary passes, ``sdpa`` or ``eager``; forward-mode
    passes bring their own (:mod:`infra.influence.engine.attention`).

    Raises :class:`InputError` when there is no such model or no tokenizer beside it, and :class:`ModelError`
    when it is there but is no causal language model that can be loaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if attention not in ATTENTIONS:
        raise InputError(f"attention is {attention!r}; choose one of {', '.join(ATTENTIONS)}")
    wanted = _dtype(dtype)
    where = str(path_or_id)
    path = Path(where)
    if path.exists():
        _check_folder(path)
    elif not is_hub_model(where):
        raise InputError(f"there is no model folder {where}; give a folder written by save_pretrained, or a hub id")
    try:
        config = AutoConfig.from_pretrained(where)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the configuration of model {where}: {_first_line(error)}") from error
    tokenizer = load_tokenizer(where)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            where, config=config, dtype=wanted, attn_implementation=attention
        )
    except Exception as error:  # transformers and safetensors raise many unrelated types here
        raise ModelError(f"cannot load {where} as a causal language model: {_first_line(error)}") from error
    return model.to(device).eval(), tokenizer


def load_tokenizer(path_or_id: str | Path) -> Any:
    """The tokenizer saved with a model. Raises :class:`InputError` when there is none that can be used."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(path_or_id))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"model {path_or_id} has no usable tokenizer: {_first_line(error)}; save one beside it with "
            "tokenizer.save_pretrained"
        ) from error


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise InputError(f"{path} is a file; a model is a folder with config.json and *.safetensors")
    if (path / "config.json").exists() and not any((path / name).exists() for name in TOKENIZER_FILES):
        raise InputError(f"{path} has no tokenizer; save one beside the model with tokenizer.save_pretrained")
    if not (path / "config.json").exists() and not (path / "adapter_config.json").exists():
        raise InputError(f"{path} has no config.json, so it is no model folder; write one with save_pretrained")


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | str:
    if dtype is None or dtype == "auto":
        return "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
