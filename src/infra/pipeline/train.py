"""Steps that train and test models: `base`, `sft/*`, `evals/*`, `responses`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infra.data import Record, TokenizedExample, tokenize
from infra.errors import InputError
from infra.evals import evaluate
from infra.experiments.selection import CONTROLS
from infra.layout import BASE, EXPLAINED
from infra.models import load_model, load_tokenizer, model_hash
from infra.models.generation import InProcess, OpenAIServer, Sampling
from infra.parallel.generation import SharedGenerator, serve
from infra.parallel.world import barrier, world
from infra.pipeline.data import load_records
from infra.pipeline.recipe import Recipe
from infra.pipeline.stage import Context
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


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One model whose held-out answers are asked for: ``base``, or ``sft/...``, by the step that trains it."""

    model: str
    arm: bool = False

    @property
    def step(self) -> str:
        """The name of the step that asks."""
        return f"evals/{self.model.removeprefix('sft/')}"


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


def evaluated_models(recipe: Recipe) -> list[Evaluated]:
    """Every model of the run whose accuracy is measured."""
    return [Evaluated(BASE), *(Evaluated(m.step, m.arm != ORIGINAL) for m in models_of(recipe))]


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
    if not world().first:
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


def answer(context: Context, model: str, split: str, sampling: Sampling, tasks: Sequence[str]) -> pd.DataFrame | None:
    """Generate and verify responses to every task's problems of one split: one row per (task, problem, sample).

    Under torchrun every process generates its share; the rows are rank 0's, and None elsewhere.
    """
    recipe, path = context.recipe, context.use(model)
    problems = {
        name: [r for r in load_records(context.problems(name)) if r.attributes["split"] == split] for name in tasks
    }
    generator: InProcess | OpenAIServer | SharedGenerator
    if recipe.eval.server is not None and model == BASE:
        generator = OpenAIServer(recipe.eval.server, path)
        if not world().first:
            return None
    else:
        loaded, tokenizer = load_model(path, dtype=recipe.model.dtype, device=world().device(recipe.model.device))
        generator = InProcess(loaded, tokenizer, recipe.eval.max_batch_tokens)
        if not world().first:
            serve(generator)
            return None
        if world().size > 1:
            generator = SharedGenerator(generator)
    cache = context.out / "generations.jsonl"
    frames = []
    own = {t.name: t.samples for t in recipe.tasks} if split == "held-out" else {}
    count = {name: own.get(name) or sampling.n for name in problems}
    total = sum(len(p) * count[name] for name, p in problems.items())
    with progress(total, context.label, "response") as bar:
        for name, records in problems.items():
            if not records:
                continue
            rows = evaluate(
                records,
                generator,
                replace(sampling, n=count[name]),
                recipe.eval.seed,
                cache_file=cache,
                model_hash=model_hash(path),
                unsafe_execution=recipe.eval.unsafe_execution,
                progress=bar.advance,
            )
            frames.append(
                pd.DataFrame(
                    [
                        {
                            "task": name,
                            "problem_id": r.problem_id,
                            "index": r.index,
                            "outcome": r.outcome,
                            "correct": bool(r.correct),
                            "text": r.text,
                            "n_tokens": r.n_tokens,
                            "difficulty": r.difficulty,
                            "split": r.split,
                        }
                        for r in rows
                    ]
                )
            )
    if isinstance(generator, SharedGenerator):
        generator.close()
    cache.unlink(missing_ok=True)  # rows hold every text; the cache's order depends on interruptions
    if not frames:
        raise InputError(f"no problems of split '{split}' in tasks {', '.join(tasks)}; raise tasks.limit")
    return pd.concat(frames, ignore_index=True).sort_values(["task", "problem_id", "index"], ignore_index=True)


def run_evals(context: Context) -> None:
    """Held-out accuracy of one model on every task (an arm's model: on those the arms are judged by)."""
    e, of = context.recipe.eval, context.member
    sampling = Sampling(temperature=e.temperature, top_p=e.top_p, max_new_tokens=e.max_new_tokens, n=e.samples)
    tasks = [t.name for t in context.recipe.tasks if t.arms or not of.arm]
    rows = answer(context, of.model, "held-out", sampling, tasks)
    if rows is not None:
        rows.to_parquet(context.answers(of.step), index=False)


def run_responses(context: Context) -> None:
    """Responses of the fine-tuned model to target problems, verified. Writes rows.parquet."""
    recipe = context.recipe
    t = recipe.targets
    sampling = Sampling(temperature=t.temperature, top_p=1.0, max_new_tokens=recipe.eval.max_new_tokens, n=t.samples)
    tasks = [task.name for task in recipe.tasks if task.target]
    rows = answer(context, EXPLAINED, "target", sampling, tasks)
    if rows is not None:
        rows.to_parquet(context.answers("responses"), index=False)


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
    if world().first:
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
    if not world().first:
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


def _asked(_: Job, of: Evaluated) -> list[Uses]:
    return [Uses(of.model, EVERY_PART)]


def _questions(job: Job, of: Evaluated) -> Mapping[str, Any]:
    return {"model": asdict(of), "tasks": {t.name: t.samples for t in job.recipe.tasks if t.arms or not of.arm}}


EVERY_PART = (WEIGHTS, TOKENIZER, GENERATION)
RUNS_MODEL = ("threads", "model.dtype", "model.device")
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
EVALS = Step(
    "evals",
    run_evals,
    reads=("records",),
    uses=_asked,
    settings=("eval", *RUNS_MODEL),
    unhashed=("tasks",),
    also=_questions,
    when=lambda job: job.trains,
    each=lambda job: evaluated_models(job.recipe),
    parallel=True,
)
RESPONSES = Step(
    "responses",
    run_responses,
    reads=("records",),
    uses=(Uses(EXPLAINED, EVERY_PART),),
    settings=("targets.samples", "targets.temperature", "eval", *RUNS_MODEL),
    unhashed=("tasks",),
    also=lambda job, _: {"tasks": [t.name for t in job.recipe.tasks if t.target]},
    when=lambda job: job.trains and not job.recipe.data.queries,
    parallel=True,
)
