"""Loading a causal language model and its tokenizer, with errors a user can act on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch

from infra.errors import InputError, ModelError
from infra.models.device import check_device
from infra.models.hub import model_folder

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
    """Load a causal language model and its tokenizer, in evaluation mode.

    Code that comes with a model is never run.

    Args:
        path_or_id: any name that :func:`infra.models.model_folder` knows.
        dtype: of the weights; None keeps the dtype of the files.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        attention: the kernel for ordinary passes, ``sdpa`` or ``eager``. Forward-mode passes bring their own
            (:mod:`infra.influence.engine.attention`).

    Returns:
        ``(model, tokenizer)`` of transformers.

    Raises:
        InputError: there is no such model, or no tokenizer beside it.
        ModelError: it is there, but is no causal language model that can be loaded.
    """
    from transformers import AutoConfig

    if attention not in ATTENTIONS:
        raise InputError(f"attention is {attention!r}; choose one of {', '.join(ATTENTIONS)}")
    wanted = _dtype(dtype)
    check_device(device)
    where, folder = str(path_or_id), _folder(path_or_id)
    check_folder(folder)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises many unrelated types for a config.json it cannot use
        raise InputError(f"cannot read the configuration of model {where}: {first_line(error)}") from error
    tokenizer = load_tokenizer(folder)
    try:
        model = all_weights(folder, config=config, dtype=wanted, attn_implementation=attention)
    except Exception as error:  # transformers and safetensors raise many unrelated types here
        raise ModelError(f"cannot load {where} as a causal language model: {first_line(error)}") from error
    return model.to(device).eval(), tokenizer


def all_weights(folder: Path, **settings: Any) -> Any:
    """The causal language model in ``folder``. Raises ``ValueError`` where a weight of it would have to be made up:
    transformers fills it with random numbers and goes on."""
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, **{**settings, "trust_remote_code": False}
    )
    model, told = loaded
    if missing := sorted(told["missing_keys"]):
        raise ValueError(
            f"the files hold no weights for {missing[0]}" + f" and {len(missing) - 1} more" * (len(missing) > 1)
        )
    return model


def load_tokenizer(path_or_id: str | Path) -> Any:
    """The tokenizer saved with a model.

    Args:
        path_or_id: any name that :func:`infra.models.model_folder` knows.

    Raises:
        InputError: there is none that can be used.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(_folder(path_or_id, tokenizer=True), trust_remote_code=False)
    except InputError:
        raise
    except Exception as error:  # transformers and tokenizers raise many unrelated types for files they cannot use
        raise InputError(
            f"model {path_or_id} has no usable tokenizer: {first_line(error)}; save one beside it with "
            "tokenizer.save_pretrained"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers' own bars and remarks are held back in the block."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # some bars ask nobody
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _folder(path_or_id: str | Path, tokenizer: bool = False) -> Path:
    """The model's folder; for a tokenizer alone any folder that holds one (an adapter's own comes first)."""
    path = Path(path_or_id).expanduser()
    if tokenizer and path.is_dir() and (path / "tokenizer_config.json").is_file():
        return path
    found = model_folder(path_or_id)
    assert found is not None  # only without fetching is there none
    return found


def check_folder(path: Path) -> None:
    """Raise :class:`InputError` where a model's folder lacks its configuration or its tokenizer."""
    if (path / "config.json").exists() and not any((path / name).exists() for name in TOKENIZER_FILES):
        raise InputError(f"{path} has no tokenizer; save one beside the model with tokenizer.save_pretrained")
    if not (path / "config.json").exists():
        raise InputError(f"{path} has no config.json, so it is no model folder; write one with save_pretrained")


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | str:
    if dtype is None or dtype == "auto":
        return "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def first_line(error: BaseException) -> str:
    """What an error of another library says, on one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
