"""Steps that train models: `base`, `sft/*`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from infra.data import Record, TokenizedExample, tokenize
from infra.errors import InputError
from infra.experiments.selection import CONTROLS
from infra.layout import BASE
from infra.models import load_tokenizer
from infra.parallel.process_group import barrier, this_rank
from infra.pipeline.data import load_records
from infra.pipeline.recipe import Recipe
from infra.pipeline.stage import PRECISION, Context
from infra.pipeline.step import GENERATION, TOKENIZER, WEIGHTS, Job, Step, Uses
from infra.pipeline.tokenized import ENCODING, encode, sets_of, tokens_of
from infra.progress import log_line, progress
from infra.store import write_json
from infra.train import SFTConfig, fine_tune

ORIGINAL = "sft"
"""The arm that is the original training set."""


@dataclass(frozen=True, slots=True)
class FineTuned:
    """One fine-tuned model of a run: its training set (``arm``), its seed, and its step's name."""

    arm: str
    seed: int
    step: str

    @property
    def made_by(self) -> str | None:
        """The step that made its training set; None for the original one."""
        if self.arm == ORIGINAL:
            return None
        return "strategies" if self.arm in {*CONTROLS, *CONTROLS.values()} else "arms"


def guided_arms(recipe: Recipe) -> list[str]:
    """Names of the training sets made by influence: every strategy, followed by its control."""
    return [name for s in recipe.strategies.names for name in (s, CONTROLS[s])]


def models_of(recipe: Recipe) -> list[FineTuned]:
    """Every fine-tuned model of the run."""
    return [
        FineTuned(arm, seed, f"sft/{'original' if arm == ORIGINAL else arm}-s{seed}")
        for arm in (ORIGINAL, *recipe.arms.names, *guided_arms(recipe))
        for seed in range(recipe.seeds)
    ]


def sft_config(recipe: Recipe, examples: Sequence[TokenizedExample]) -> SFTConfig:
    """The run's SFT settings with its fixed loss normaliser: mean response tokens per optimiser step."""
    s = recipe.sft
    mean_tokens = float(np.mean([e.n_response_tokens for e in examples]))
    return SFTConfig(
        learning_rate=s.learning_rate,
        epochs=s.epochs,
        batch_size=s.batch_size,
        max_tokens_per_microbatch=s.max_tokens_per_microbatch,
        warmup_ratio=s.warmup_ratio,
        weight_decay=s.weight_decay,
        max_grad_norm=s.max_grad_norm,
        dtype=s.dtype or recipe.model.dtype,
        autocast=s.autocast,
        packing=s.packing,
        device="cpu" if recipe.model.device == "cpu" else None,
        gradient_checkpointing=s.gradient_checkpointing,
        lora_rank=s.lora_rank,
        save_steps=s.save_steps,
        normaliser=mean_tokens * s.batch_size,
    )


def training_examples(context: Context) -> tuple[list[TokenizedExample], list[TokenizedExample]]:
    """The examples of this model's training set, and those of the original one.

    A record of an arm that the tokenized sets hold, by id, is taken from there, with its weight in the arm; a record
    that was made for the arm (a cut one) is tokenised here.
    """
    original = tokens_of(context.tokenized("train"))
    model: FineTuned = context.member
    if model.made_by is None:
        return original, original
    records = load_records(context.arm(model.made_by, model.arm))
    known = {e.id: e for which in sets_of(context) for e in tokens_of(context.tokenized(which))}
    new = encode([r for r in records if r.id not in known], context.use(BASE), context.recipe)
    known |= {e.id: e for e in new}
    return [replace(known[r.id], weight=r.weight) for r in records if r.id in known], original


def run_sft(context: Context) -> None:
    """Fine-tune the base model on one training set. Writes model/ and sft.json."""
    recipe, seed = context.recipe, context.member.seed
    examples, original = training_examples(context)
    config = sft_config(recipe, original)
    steps = int(np.ceil(len(examples) / config.batch_size) * config.epochs)
    with progress(steps, context.label, "step") as bar:
        result = fine_tune(
            context.use(BASE),
            examples,
            context.model(context.member.step),
            config,
            seed=seed,
            progress=bar.advance,
            metrics=lambda told: log_line({"label": context.label, **told}),
            report_to=recipe.scale.report_to,
        )
    if not this_rank().first:
        return
    write_json(
        context.out / "sft.json",
        {
            "steps": result.steps,
            "tokens": result.tokens,
            "examples": len(examples),
            "seed": seed,
            "first_loss": float(result.losses[0]),
            "last_loss": float(np.mean(result.losses[-10:])),
        },
    )


def run_base(context: Context) -> None:
    """Train a small Qwen2 model of the run's own on the `pretrain` share: BPE tokenizer, then next-token loss."""
    recipe = context.recipe
    settings = recipe.model.pretrain
    assert settings is not None
    source = context.records("pretrain")
    if not source.exists():
        raise InputError("model.pretrain needs records: give a source a share of 'pretrain' in data.sources")
    records = load_records(source)
    start = context.out / "start"
    if this_rank().first:
        _untrained(start, records, recipe)
    barrier()
    result = tokenize(records, load_tokenizer(str(start)), max_length=recipe.data.max_length, on_error="skip")
    examples = [everything_predicted(e) for e in result.examples]
    config = SFTConfig(
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        max_tokens_per_microbatch=recipe.sft.max_tokens_per_microbatch,
        warmup_ratio=0.05,
        weight_decay=0.1,
        max_grad_norm=1.0,
        dtype=recipe.model.dtype,
        normaliser=float(np.mean([e.n_response_tokens for e in examples])) * settings.batch_size,
    )
    steps = int(np.ceil(len(examples) / config.batch_size) * config.epochs)
    with progress(steps, context.label, "step") as bar:
        fitted = fine_tune(str(start), examples, context.model(BASE), config, seed=recipe.seed, progress=bar.advance)
    if not this_rank().first:
        return
    shutil.rmtree(start)
    write_json(
        context.out / "base.json",
        {
            "examples": len(examples),
            "too_long": len(result.skipped),
            "steps": fitted.steps,
            "tokens": fitted.tokens,
            "first_loss": float(fitted.losses[0]),
            "last_loss": float(np.mean(fitted.losses[-10:])),
        },
    )


def _untrained(out: Path, records: Sequence[Record], recipe: Recipe) -> None:
    """A tokenizer trained on the records, and a model of random weights for it."""
    from infra.models.small import small_model

    settings = recipe.model.pretrain
    assert settings is not None
    small_model(
        [m.content for r in records for m in r.messages],
        out,
        seed=recipe.seed,
        vocab_size=settings.vocab_size,
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        layers=settings.layers,
        heads=settings.heads,
        kv_heads=settings.kv_heads,
        max_length=4 * recipe.data.max_length,  # benchmark prompts may be longer than any training example
    )


def everything_predicted(example: TokenizedExample) -> TokenizedExample:
    """The example with every token but the first under the loss, as in pretraining."""
    mask = np.ones(len(example), dtype=bool)
    mask[0] = False
    return replace(example, loss_mask=mask)


def _set_read(_: Job, model: FineTuned) -> tuple[str, ...]:
    return ("tokenized",) if model.made_by is None else ("tokenized", model.made_by)


EVERY_PART = (WEIGHTS, TOKENIZER, GENERATION)
RUNS_MODEL = ("threads", "model.dtype", PRECISION, "model.device")
"""Settings of whatever runs a model."""

TRAIN_BASE = Step(
    BASE,
    run_base,
    reads=("records",),
    settings=("model.pretrain", *RUNS_MODEL, "data.max_length", "sft.max_tokens_per_microbatch", "seed"),
    when=lambda job: job.recipe.model.pretrain is not None,
    parallel=True,
)
SFT = Step(
    "sft",
    run_sft,
    reads=_set_read,
    uses=(Uses(BASE, EVERY_PART),),  # its tokenizer and generation configuration are saved with the model
    settings=("sft", *RUNS_MODEL, *ENCODING),
    unhashed=("scale.report_to",),
    also=lambda job, model: {"arm": model.arm, "seed": model.seed},
    when=lambda job: job.trains,
    each=lambda job: models_of(job.recipe),
    parallel=True,
)
