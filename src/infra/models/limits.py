"""What a model can take in: ids within its vocabulary, and how long a text may be.

Two kinds of length are told apart. A model with a table of positions (GPT-2, OPT, GPT-J) cannot compute anything beyond
its last row. A rotary model (Llama, Qwen, Gemma) computes any position, but was trained on positions below
``max_position_embeddings``, and is less and less itself beyond them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError


class Tokens(Protocol):
    """What is checked: an id to name, and token ids ``[T]``."""

    @property
    def id(self) -> str: ...
    @property
    def input_ids(self) -> NDArray[np.int64]: ...


T = TypeVar("T", bound=Tokens)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model can read.

    Attributes:
        vocabulary: token ids run from 0 to below it.
        positions: the end of a table of positions, in tokens; None without a table.
        trained: the longest text the model was trained on, in tokens; None where the configuration does not say.
    """

    vocabulary: int
    positions: int | None
    trained: int | None

    @classmethod
    def of(cls, model: Any) -> Limits:
        """Of a model in memory: the rows of its embedding, and its configuration."""
        return cls.of_config(model.config, int(model.get_input_embeddings().weight.shape[0]))

    @classmethod
    def of_config(cls, config: Any, vocabulary: int | None = None) -> Limits:
        """Of a transformers configuration."""
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        length = getattr(config, "max_position_embeddings", None)
        length = int(length) if isinstance(length, int) and length > 0 else None
        rotary = bool(getattr(config, "rope_parameters", None))
        table = length is not None and not rotary and not getattr(config, "alibi", False)
        return cls(vocabulary or int(config.vocab_size), length if table else None, length)

    @classmethod
    def of_folder(cls, path_or_id: str | Path) -> Limits:
        """Of a model by name, from its configuration alone: nothing heavy is loaded."""
        from transformers import AutoConfig

        from infra.models.hub import model_folder
        from infra.models.load import first_line

        try:
            return cls.of_config(
                AutoConfig.from_pretrained(model_folder(path_or_id) or path_or_id, trust_remote_code=False)
            )
        except InputError:
            raise
        except Exception as error:  # transformers raises many unrelated types for a config.json it cannot use
            raise InputError(f"cannot read the configuration of model {path_or_id}: {first_line(error)}") from error

    def check(self, what: str, ids: Iterable[int] | NDArray[np.int64]) -> int:
        """The number of ids. Raises :class:`InputError` naming ``what`` where the model cannot take them."""
        array = np.asarray(ids, dtype=np.int64)
        if len(array) and not 0 <= int(array.min()) <= int(array.max()) < self.vocabulary:
            outside = int(array.max()) if array.max() >= self.vocabulary else int(array.min())
            raise InputError(
                f"{what}: token {outside} is outside the model's vocabulary of {self.vocabulary}; tokenise with the "
                "model's own tokenizer, or resize the model's embeddings to it (model.resize_token_embeddings)"
            )
        if self.positions is not None and len(array) > self.positions:
            raise InputError(
                f"{what}: {len(array)} tokens exceed the model's context of {self.positions}; lower max_length, or "
                "leave it out"
            )
        return len(array)

    def checked(self, examples: Iterable[T], where: str = "") -> Iterator[T]:
        """The same examples, each checked as it passes; at the end one warning about those past the trained length."""
        count, beyond, longest = 0, 0, ("", 0)
        for example in examples:
            length = self.check(f"record {example.id}", example.input_ids)
            count += 1
            if self.trained is not None and length > self.trained:
                beyond += 1
                longest = max(longest, (example.id, length), key=lambda pair: pair[1])
            yield example
        if beyond:
            print(
                f"warning: {beyond} of {count} records{where} are longer than the {self.trained:,} tokens that the "
                f"model was trained on (record {longest[0]} has {longest[1]:,}); it computes them, but less well: "
                "lower data.max_length to leave them out",
                file=sys.stderr,
            )
