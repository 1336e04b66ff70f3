"""GGUF files as ordinary model folders: weights unpacked to float, tokenizer and chat template beside them.

Transformers reads such a file but refuses to save what it read, so the weights go into a fresh model of the same
configuration. It also leaves out one thing that changes the tokens: how text is split before the merges, which the file
names in ``tokenizer.ggml.pre``. For the families that split off every digit (SmolLM, StarCoder, ...) transformers
splits as GPT-2 does, so that a blank line before a number becomes two tokens in place of one. This module mends that.
"""

from __future__ import annotations

import functools
import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from infra.errors import InputError, ModelError
from infra.models import cache
from infra.store import sha256_file

FORMAT = 1
"""Raised when the same file would become another folder, so that the cache makes it again."""
DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
"""``tokenizer.ggml.pre`` of vocabularies made with every digit split off (llama.cpp, llama-vocab.cpp)."""
LIKE_GPT2 = frozenset({"gpt-2", "gpt2", "mpt", "olmo", "jais", "phi-2", "trillion", "granite-docling", "exaone4"})
"""Those that split text by GPT-2's pattern, as transformers does by default."""

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF's kinds of numbers, as struct writes them (ggml-org/ggml, docs/gguf.md)."""
_STRING, _LIST = 8, 9
LONGEST_TEXT, MOST_ENTRIES = 1 << 24, 1 << 16


def gguf_folder(file: Path) -> Path:
    """The model folder of a GGUF file, unpacked into the cache on first use.

    The folder is named after the file's SHA-256. A tokenizer that lies beside the file (``tokenizer.json`` with
    ``tokenizer_config.json``) is taken in place of the one inside. Raises :class:`InputError` for a file that is no
    GGUF model, and :class:`ModelError` for one that transformers cannot unpack.
    """
    check_gguf(file)
    digest = _digest(file, file.stat().st_size, file.stat().st_mtime_ns)
    own = _tokenizer_beside(file)
    source = {
        "format": FORMAT,
        "gguf": digest,
        **({name: sha256_file(own / name) for name in TOKENIZER} if own is not None else {}),
    }
    name = f"gguf-{file.stem}-{digest[:12]}" + ("-own-tokenizer" if own is not None else "")

    def make(folder: Path) -> None:
        print(f"unpacking {file} into {cache.cache_folder() / name} (once)", file=sys.stderr)
        unpack(file, folder, own)

    return cache.kept(name, source, make)


@functools.lru_cache(maxsize=32)
def _digest(file: Path, size: int, changed: int) -> str:
    """SHA-256 of the file, once for each state of it: every stage of a run asks."""
    return sha256_file(file)


def check_gguf(file: Path) -> dict[str, Any]:
    """The settings in a GGUF file's head (numbers and strings; lists are left out).

    Raises :class:`InputError` unless it is a whole head of version 2 or 3, and one file rather than a part of several.
    """
    with open(file, "rb") as handle:
        start = handle.read(4)
        if start != b"GGUF":
            raise InputError(f"{file} is no GGUF file (it begins with {start!r}); a model is a folder or a .gguf file")
        try:
            version, _tensors, entries = struct.unpack("<IQQ", handle.read(20))
            if version not in (2, 3) or entries > MOST_ENTRIES:
                raise InputError(f"{file} is a GGUF file of version {version}; convert it again, to version 3")
            pairs = ((_text(handle), _value(handle, *struct.unpack("<I", handle.read(4)))) for _ in range(entries))
            settings = {key: value for key, value in pairs if value is not None}
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError) as error:
            raise InputError(f"{file} is cut off or damaged within its head; download it again") from error
    if int(settings.get("split.count", 1)) > 1:
        raise InputError(
            f"{file} is one of {settings['split.count']} parts; join them (llama-gguf-split --merge FIRST OUT) and "
            "give the whole file"
        )
    return settings


def _text(handle: BinaryIO) -> str:
    (size,) = struct.unpack("<Q", handle.read(8))
    if size > LONGEST_TEXT:
        raise struct.error("a text too long to be one")
    found = handle.read(size)
    if len(found) < size:
        raise struct.error("cut off")
    return found.decode("utf-8")


def _value(handle: BinaryIO, kind: int) -> Any:
    """A setting's value; None for a list, which is passed over."""
    if kind == _STRING:
        return _text(handle)
    if kind != _LIST:
        code = NUMBERS[kind]
        return struct.unpack(f"<{code}", handle.read(struct.calcsize(f"<{code}")))[0]
    inner, count = struct.unpack("<IQ", handle.read(12))
    if inner in NUMBERS:
        handle.seek(count * struct.calcsize(f"<{NUMBERS[inner]}"), 1)
    else:
        for _ in range(count):
            _value(handle, inner)
    return None


def unpack(file: Path, folder: Path, tokenizer_folder: Path | None = None) -> None:
    """Write the model of a GGUF file into ``folder`` as ``save_pretrained`` does, with its tokenizer.

    Quantised weights become float32 (the exact value that the quantised one stands for); a file of half-precision
    weights keeps their dtype. Raises as :func:`gguf_folder` does.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from infra.models.load import all_weights, first_line, quiet

    where: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        with quiet():
            if tokenizer_folder is not None:
                tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, trust_remote_code=False)
            else:
                tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
            model = all_weights(file.parent, dtype="auto", **where)
    except ImportError as error:
        raise InputError(f"{file}: reading GGUF files needs the package gguf; pip install gguf") from error
    except Exception as error:  # transformers, gguf and numpy raise many unrelated types for a file they cannot read
        raise ModelError(
            f"{file} cannot be read as a causal language model ({first_line(error)}); download it again, "
            "or give the model's folder or hub id in place of it"
        ) from error
    if tokenizer_folder is None:
        mend_splitting(tokenizer, file, check_gguf(file))
        tokenizer.init_kwargs.pop("gguf_file", None)
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and tokenizer_folder is None:
        tokenizer.model_max_length = int(longest)
    state, config = model.state_dict(), model.config
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, name):
            delattr(config, name)
    config.__dict__.pop("_model_name_or_path", None)
    with torch.device("meta"):  # no second copy: the weights themselves are put in
        fresh: Any = AutoModelForCausalLM.from_config(config, dtype=model.dtype, trust_remote_code=False)
    fresh.load_state_dict(state, strict=True, assign=True)
    fresh.tie_weights()
    fresh.generation_config = model.generation_config
    with quiet():
        fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def mend_splitting(tokenizer: Any, file: Path, settings: Mapping[str, Any]) -> None:
    """Split text before the merges as ``tokenizer.ggml.pre`` says. Raises :class:`InputError` for an unknown rule."""
    from tokenizers import pre_tokenizers

    kind, rule = (str(settings.get(f"tokenizer.ggml.{key}", "")) for key in ("model", "pre"))
    backend = tokenizer.backend_tokenizer
    now = json.loads(backend.to_str())["pre_tokenizer"] or {}
    if kind != "gpt2" or now.get("type") != "ByteLevel" or not now.get("use_regex", True):
        return  # no byte-level merges, or transformers has put this family's own pattern in
    if rule in DIGITS_APART:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif rule not in LIKE_GPT2:
        raise InputError(
            f"{file}: its tokenizer splits text by the rule {rule!r}, which neither transformers nor Infra knows, so "
            "its tokens would differ from those the model was trained on; put the model's own tokenizer.json and "
            "tokenizer_config.json beside the file"
        )


def _tokenizer_beside(file: Path) -> Path | None:
    return file.parent if all((file.parent / name).is_file() for name in TOKENIZER) else None
