"""The shape of a model from its configuration alone: how many weights, in which matrices, and what one token costs.

No weights are loaded. A product of ``[T, i]`` and ``[i, o]`` counts ``2 T i o`` operations. The formulas are derived in
docs/explanation/costs.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra.errors import InputError


@dataclass(frozen=True, slots=True)
class Matrix:
    """A kind of tracked weight, once per layer. ``shared``: its inputs are those of the matrix before (up after gate),
    so they are factored once."""

    name: str
    out: int
    inputs: int
    shared: bool = False

    @property
    def size(self) -> int:
        return self.out * self.inputs


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder of the Llama and Qwen2 kind: gated MLP, grouped-query attention.

    ``head`` is the size of one head. ``counted``: weights in the layers where they were counted in a loaded model,
    whose layers may be of another kind; else 0.
    """

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False
    head: int = 0
    counted: int = 0

    @property
    def attention_width(self) -> int:
        """Width of all heads together."""
        return self.heads * (self.head or self.hidden // self.heads)

    @property
    def kv_width(self) -> int:
        """Width of keys, or of values."""
        return self.kv_heads * (self.head or self.hidden // self.heads)

    @property
    def attention(self) -> tuple[Matrix, ...]:
        """q, k, v and o."""
        d, a, k = self.hidden, self.attention_width, self.kv_width
        return (Matrix("q", a, d), Matrix("k", k, d, True), Matrix("v", k, d, True), Matrix("o", d, a))

    @property
    def mlp(self) -> tuple[Matrix, ...]:
        """gate, up and down."""
        d, m = self.hidden, self.intermediate
        return (Matrix("gate", m, d), Matrix("up", m, d, True), Matrix("down", d, m))

    def tracked(self, pattern: str) -> tuple[Matrix, ...]:
        """Each layer's tracked matrices for ``mlp``, ``attention`` or ``all``; a pattern of one's own counts as all."""
        return {"mlp": self.mlp, "attention": self.attention}.get(pattern, (*self.attention, *self.mlp))

    @property
    def body(self) -> int:
        """Weights in the layers' matrices."""
        return self.counted or self.layers * sum(m.size for m in (*self.attention, *self.mlp))

    @property
    def embedding(self) -> int:
        """Weights of the embedding, or of the output head."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All weights, norms and biases left out (under 0.1%)."""
        return self.body + (1 if self.tied else 2) * self.embedding

    def mixing(self, length: float) -> float:
        """Operations of causal attention, a token of ``length``: queries with keys and with values, over half of it."""
        return 2.0 * self.layers * length * self.attention_width

    @property
    def logits(self) -> float:
        """Operations of the logits of one token."""
        return 2.0 * self.embedding

    def forward(self, length: float) -> float:
        """Operations of one token's way through the layers, in a text of ``length`` tokens."""
        return 2.0 * self.body + self.mixing(length)

    @property
    def layer_activations(self) -> float:
        """Numbers a token that one layer keeps for its backward pass: the inputs of its matrices and norms, queries,
        keys, values and products."""
        return 6.0 * self.hidden + 2.0 * self.attention_width + 2.0 * self.kv_width + 4.0 * self.intermediate

    def activations(self, checkpointed: bool = False) -> float:
        """Numbers a token kept for a backward pass; ``checkpointed``: every layer's input, and one layer's inside."""
        if checkpointed:
            return float(self.layers * self.hidden) + self.layer_activations
        return self.layers * self.layer_activations


KNOWN = tuple(
    Shape(*row)
    for row in (
        ("SmolLM2-135M", 30, 576, 1536, 9, 3, 49_152, True),
        ("Gemma3-270M", 18, 640, 2048, 4, 1, 262_144, True, 256),
        ("Qwen2.5-0.5B", 24, 896, 4864, 14, 2, 151_936, True),
        ("Qwen2.5-1.5B", 28, 1536, 8960, 12, 2, 151_936, True),
        ("Qwen2.5-3B", 36, 2048, 11_008, 16, 2, 151_936, True),
        ("Qwen2.5-7B", 28, 3584, 18_944, 28, 4, 152_064),
        ("Qwen2.5-14B", 48, 5120, 13_824, 40, 8, 152_064),
        ("Qwen2.5-32B", 64, 5120, 27_648, 40, 8, 152_064),
        ("Qwen2.5-72B", 80, 8192, 29_568, 64, 8, 152_064),
        ("Llama-3-8B", 32, 4096, 14_336, 32, 8, 128_256),
        ("Llama-3-70B", 80, 8192, 28_672, 64, 8, 128_256),
        ("Mistral-7B", 32, 4096, 14_336, 32, 8, 32_768),
    )
)
"""Published configurations, for planning without a download."""


def shape_of(model: str) -> Shape:
    """The shape of ``model``: a folder, GGUF file or adapter that is here, a name that holds one in :data:`KNOWN`, or a
    number of parameters (``7.6e9``; then the nearest known shape with its layers' number adapted).

    Raises :class:`InputError` for anything else, and for a configuration without the fields needed.
    """
    path = Path(model)
    if path.exists() or "+" in model:
        from infra.models.hub import model_folder

        path = model_folder(model, fetch=False) or path
    if (path / "config.json").is_file():
        try:
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path / 'config.json'} cannot be read as JSON ({error})") from error
        return from_config(config, str(path / "config.json"), path.name)
    if re.fullmatch(r"[0-9.]+([eE]\+?[0-9]+)?", model):
        return _scaled(float(model))
    plain = _plain(model.split("/")[-1])
    for shape in sorted(KNOWN, key=lambda s: -len(s.name)):
        if _plain(shape.name) in plain:
            return replace(shape, name=model)
    raise InputError(
        f"the shape of model {model} is not known here; give --model a folder with config.json, a number of "
        f"parameters, or one of {', '.join(s.name for s in KNOWN)}"
    )


def shape_of_loaded(model: Any) -> Shape:
    """The shape of a causal language model in memory; its layers' weights are counted, whatever they are."""
    config = model.config.get_text_config()
    heads = int(getattr(config, "num_attention_heads", 1))
    both = (model.get_input_embeddings(), model.get_output_embeddings())
    ends = {id(m.weight) for m in both if m is not None}
    return Shape(
        type(model).__name__,
        int(config.num_hidden_layers),
        int(config.hidden_size),
        int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size),
        heads,
        int(getattr(config, "num_key_value_heads", None) or heads),
        int(config.vocab_size),
        tied=len(ends) < 2,
        head=int(getattr(config, "head_dim", None) or 0),
        counted=sum(p.numel() for p in model.parameters() if id(p) not in ends),
    )


def from_config(config: Mapping[str, Any], where: str, name: str) -> Shape:
    """The shape in a transformers configuration (of the text model, where there are several)."""
    inner = config.get("text_config", config) if isinstance(config, Mapping) else {}
    fields = {
        "layers": "num_hidden_layers",
        "hidden": "hidden_size",
        "intermediate": "intermediate_size",
        "heads": "num_attention_heads",
        "vocabulary": "vocab_size",
    }
    values: dict[str, int] = {}
    for mine, theirs in fields.items():
        value = inner.get(theirs) if isinstance(inner, Mapping) else None
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{where}: {theirs} is {value!r}; a whole number is needed to plan")
        values[mine] = value
    if inner.get("num_experts") or inner.get("num_local_experts"):
        raise InputError(f"{where}: a mixture of experts is not planned yet; give --model the number of parameters")
    kv = inner.get("num_key_value_heads") or values["heads"]
    return Shape(
        name,
        **values,
        kv_heads=int(kv),
        tied=bool(inner.get("tie_word_embeddings")),
        head=int(inner.get("head_dim") or 0),
    )


def _scaled(parameters: float) -> Shape:
    nearest = min(KNOWN, key=lambda s: abs(s.parameters - parameters))
    fixed = nearest.parameters - nearest.body
    layers = max(1, round((parameters - fixed) / (nearest.body / nearest.layers)))
    return replace(nearest, name=f"{parameters:.3g} parameters, as {nearest.name}", layers=layers)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower().replace("meta", ""))
