"""A model without its weights: enough to say what is in it, in a second and next to no memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from infra.errors import ArtifactError, InputError, ModelError
from infra.models.load import check_folder, first_line
from infra.store import read_json

INDEX = "model.safetensors.index.json"


def skeleton(folder: Path) -> Any:
    """The causal language model in ``folder`` with its parameters on torch's device "meta".

    Raises :class:`InputError` for a configuration that cannot be read, :class:`ModelError` where it is of no causal
    language model.
    """
    from transformers import AutoConfig

    check_folder(folder)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises many unrelated types for a config.json it cannot use
        raise InputError(f"cannot read the configuration of model {folder}: {first_line(error)}") from error
    return skeleton_of(config)


def skeleton_of(config: Any) -> Any:
    """The same from a transformers configuration."""
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # transformers raises many unrelated types here
        raise ModelError(
            f"a model of type {getattr(config, 'model_type', '?')} is no causal language model that can be loaded: "
            f"{first_line(error)}"
        ) from error


def check_files(folder: Path) -> None:
    """Raise :class:`InputError` where configuration, tokenizer or a file of weights is missing beside the others."""
    check_folder(folder)
    if (folder / INDEX).is_file():
        try:
            names = set(read_json(folder / INDEX)["weight_map"].values())
        except (ArtifactError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"{folder / INDEX} cannot be read ({error}); download the model again") from error
        if missing := sorted(name for name in names if not (folder / name).is_file()):
            raise InputError(f"{folder} lacks {missing[0]} ({len(missing)} files of weights); download the model again")
    elif not any((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        raise InputError(f"{folder} holds no weights (*.safetensors); write the model again with save_pretrained")
