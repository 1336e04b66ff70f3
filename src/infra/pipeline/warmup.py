"""Step `sft/original-s0` of `infra score --warmup`: a short fine-tuning, whose model is then the explained one.

Influence describes a model near the end of training on the data. Where the given model has not seen this kind of data,
it is fine-tuned on a sample first, as LESS does (Xia et al. 2024, section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from infra.data import TokenizedFile
from infra.layout import BASE, EXPLAINED
from infra.models.shape import shape_of
from infra.parallel.process_group import this_rank
from infra.pipeline.settings import WarmupSettings
from infra.pipeline.stage import Context
from infra.pipeline.step import Step, Uses
from infra.pipeline.tokenized import sampled
from infra.pipeline.train import EVERY_PART, RUNS_MODEL
from infra.progress import log_line, progress
from infra.store import write_json
from infra.train import SFTConfig, fine_tune

LARGE = 1_000_000_000
"""Parameters from which on 'auto' trains LoRA pairs instead of all weights."""
LORA_RANK = 64
FULL_RATE, LORA_RATE = 5e-5, 2e-4


@dataclass(frozen=True, slots=True)
class WarmedUp:
    """The model that is warmed up, by its step's name."""

    step: str = EXPLAINED


def lora_rank(settings: WarmupSettings, parameters: float) -> int | None:
    """The rank of the pairs that are trained in a model of that size, or None for all weights."""
    if settings.lora_rank != "auto":
        return settings.lora_rank
    return LORA_RANK if parameters >= LARGE and find_spec("peft") is not None else None


def warmup_config(settings: WarmupSettings, rank: int | None, dtype: str, device: str, tokens: int) -> SFTConfig:
    """The settings of the fine-tuning; ``tokens``: of a microbatch."""
    return SFTConfig(
        learning_rate=settings.learning_rate or (FULL_RATE if rank is None else LORA_RATE),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        max_tokens_per_microbatch=tokens,
        dtype=dtype,
        autocast=settings.autocast,
        device="cpu" if device == "cpu" else None,
        lora_rank=rank,
    )


def run_warmup(context: Context) -> None:
    """Fine-tune the given model on a sample of the training data. Writes model/ and warmup.json."""
    recipe = context.recipe
    w = recipe.warmup
    assert w is not None
    examples = sampled(TokenizedFile.open(context.tokenized("train")).stream(), w.examples, recipe.seed)
    rank = lora_rank(w, shape_of(context.use(BASE)).parameters)
    config = warmup_config(w, rank, recipe.model.dtype, recipe.model.device, recipe.sft.max_tokens_per_microbatch)
    steps = math.ceil(math.ceil(len(examples) / config.batch_size) * config.epochs)
    with progress(steps, context.label, "step") as bar:
        result = fine_tune(
            context.use(BASE),
            examples,
            context.model(EXPLAINED),
            config,
            seed=recipe.seed,
            progress=bar.advance,
            metrics=lambda told: log_line({"label": context.label, **told}),
        )
    if this_rank().first:
        told = {
            "examples": len(examples),
            "steps": result.steps,
            "epochs": config.epochs,
            "learning_rate": config.learning_rate,
            "lora_rank": rank,
            "first_loss": float(result.losses[0]),
            "last_loss": float(np.mean(result.losses[-5:])),
        }
        write_json(context.warmup, told)


WARMUP = Step(
    "warmup",
    run_warmup,
    reads=("tokenized",),
    uses=(Uses(BASE, EVERY_PART),),
    settings=("warmup", "seed", "sft.max_tokens_per_microbatch", *RUNS_MODEL),
    when=lambda job: job.warms_up,
    each=lambda job: [WarmedUp()],
    parallel=True,
)
