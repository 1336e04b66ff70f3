"""Settings of a fine-tuning run."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from infra.errors import RecipeError

SCHEDULES = ("cosine", "linear", "constant")
DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class SFTConfig:
    """Defaults follow the public Bespoke-Stratos-7B card: lr 1e-5, cosine, warm-up 0.1, 3 epochs, batch 96,
    AdamW.

    The loss of a step is the weighted sum over its response tokens divided by ``normaliser``, a constant of
    the run; None takes the mean number of response tokens per step of the examples given (weights not
    counted). Give it a number to compare runs on subsets: then losses, and so first-order effects, add up.
    Raises :class:`RecipeError` for a value out of range.
    """

    learning_rate: float = 1e-5
    """Peak learning rate."""
    epochs: float = 3.0
    """Passes over the examples; a fraction stops inside the last one."""
    batch_size: int = 96
    """Examples per optimiser step, over all microbatches and processes."""
    max_tokens_per_microbatch: int = 8192
    """Tokens, padding included, of one forward and backward pass; a longer example goes alone."""
    warmup_ratio: float = 0.1
    """Share of the steps over which the learning rate rises from 0."""
    schedule: str = "cosine"
    """What follows the warm-up: cosine or linear to 0, or constant."""
    weight_decay: float = 0.0
    """AdamW's, on weight matrices only (transformers' rule)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's moment decays."""
    eps: float = 1e-8
    """AdamW's denominator floor."""
    max_grad_norm: float = 1.0
    """Gradient-norm clipping; 0 turns it off."""
    packing: bool = False
    """Several documents a row instead of one; same loss, less padding. For GPUs and long contexts."""
    normaliser: float | None = None
    """Constant the summed loss is divided by, in tokens."""
    dtype: str | None = None
    """Of the weights; None keeps the files'."""
    autocast: str | None = None
    """``bfloat16`` computes in bfloat16 over weights kept in ``dtype``."""
    device: str | None = None
    """None takes a CUDA device when there is one; ``cpu`` never does."""
    attention: str = "sdpa"
    """Attention kernel, sdpa or eager."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    lora_rank: int | None = None
    """Train LoRA pairs of this rank on all linear layers instead of all weights (extra 'lora')."""
    lora_alpha: int | None = None
    """LoRA scale; None is twice the rank."""
    lora_dropout: float = 0.0
    """Dropout in front of the LoRA pairs."""
    lora_merge: bool = True
    """Save a plain model with the pairs added in; False saves the adapter alone."""
    save_steps: int = 0
    """Write a checkpoint to resume from every so many steps; 0 writes none."""
    record_every: int = 0
    """Record weights and AdamW moments every so many steps (and before the first) for unrolled attribution; 0
    does not."""
    deterministic: bool = True
    """Deterministic kernels: the same seed, machine and thread count give the same bytes."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("learning_rate", 0.0, math.inf),
            ("epochs", 0.0, math.inf),
            ("batch_size", 1, math.inf),
            ("max_tokens_per_microbatch", 1, math.inf),
            ("warmup_ratio", 0.0, 1.0),
            ("weight_decay", 0.0, math.inf),
            ("eps", 0.0, math.inf),
            ("max_grad_norm", 0.0, math.inf),
            ("lora_dropout", 0.0, 1.0),
            ("save_steps", 0, math.inf),
            ("record_every", 0, math.inf),
        ):
            value = getattr(self, name)
            if not math.isfinite(value) or not low <= value <= high:
                raise RecipeError(f"sft.{name} is {value}; it must be finite and between {low} and {high}")
        if self.epochs <= 0:
            raise RecipeError("sft.epochs must be more than 0")
        if self.normaliser is not None and not (math.isfinite(self.normaliser) and self.normaliser > 0):
            raise RecipeError(f"sft.normaliser is {self.normaliser}; it must be a positive number of tokens")
        for name, choices in (
            ("schedule", SCHEDULES),
            ("dtype", (None, *DTYPES)),
            ("autocast", (None, "bfloat16")),
            ("attention", ("sdpa", "eager")),
        ):
            if getattr(self, name) not in choices:
                raise RecipeError(
                    f"sft.{name} is {getattr(self, name)!r}; use one of {', '.join(str(c) for c in choices)}"
                )
        if self.lora_rank is not None and self.lora_rank < 1:
            raise RecipeError(f"sft.lora_rank is {self.lora_rank}; it must be at least 1, or left out")

    def as_dict(self) -> dict[str, Any]:
        """All settings, for manifests."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
