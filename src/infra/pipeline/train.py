"""Stages that train and test models: `base`, `sft/*`, `evals/*`, `responses`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from infra.data import Record, TokenizedExample, tokenize
from infra.errors import InputError
from infra.evals import evaluate
from infra.models import load_model, load_tokenizer, model_folder, model_hash, model_parts
from infra.models.generation import InProcess, OpenAIServer, Sampling
from infra.parallel.generation import SharedGenerator, serve
from infra.parallel.world import barrier, world
from infra.pipeline.data import load_records
from infra.pipeline.recipe import Recipe
from infra.pipeline.runner import Context
from infra.progress import log_line, progress
from infra.store import write_json
from infra.train import SFTConfig, fine_tune
from infra.world import BASE_MODEL


def base_path(recipe: Recipe, folder: Path) -> str:
    """Where the base model lies: the embedded one, one this run trained, a folder or a hub id."""
    if recipe.model.pretrain is not None:
        return str(folder / "base" / "model")
    return str(BASE_MODEL) if recipe.model.base == "world" else recipe.model.base


def base_parts(recipe: Recipe, fetch: bool = True) -> dict[str, str]:
    """Hashes of the parts of a base model that exists before the run; nothing when the run trains it.

    With ``fetch=False`` a hub model that is not on this machine is named in place of its hashes.
    """
    if recipe.model.pretrain is not None:
        return {}
    path = base_path(recipe, Path())
    if model_folder(path, fetch=fetch) is None:
        return {"base model": f"not here yet: {path}"}
    return {f"base {part}": found for part, found in model_parts(path).items()}


def encode(records: Sequence[Record], model_path: str, recipe: Recipe) -> list[TokenizedExample]:
    """Token ids and loss masks under a model's own tokenizer. Raises InputError naming a record that is too long."""
    result = tokenize(
        records, load_tokenizer(model_path), max_length=recipe.data.max_length, on_error=recipe.data.on_error
    )
    return list(result.examples)


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


def run_sft(context: Context, recipe: Recipe, seed: int, data: Path) -> None:
    """Fine-tune the base model on ``data`` (a Parquet file of records). Writes model/ and sft.json."""
    base = base_path(recipe, context.folder)
    examples = encode(load_records(data), base, recipe)
    original = (
        examples
        if data.parent.name == "records"
        else encode(load_records(context.dep("records") / "train.parquet"), base, recipe)
    )
    config = sft_config(recipe, original)
    steps = int(np.ceil(len(examples) / config.batch_size) * config.epochs)
    with progress(steps, context.label, "step") as bar:
        result = fine_tune(
            base,
            examples,
            context.out / "model",
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


def answer(
    context: Context, recipe: Recipe, model_path: str, split: str, sampling: Sampling, seed: int, tasks: Sequence[str]
) -> pd.DataFrame | None:
    """Generate and verify responses to every task's problems of one split: one row per (task, problem, sample).

    Under torchrun every process generates its share; the rows are rank 0's, and None elsewhere.
    """
    problems = {
        name: [
            r
            for r in load_records(context.dep("records") / "problems" / f"{name}.parquet")
            if r.attributes["split"] == split
        ]
        for name in tasks
    }
    if recipe.eval.server is not None and model_path == base_path(recipe, context.folder):
        generator: InProcess | OpenAIServer | SharedGenerator = OpenAIServer(recipe.eval.server, model_path)
        if not world().first:
            return None
    else:
        model, tokenizer = load_model(model_path, dtype=recipe.model.dtype, device=world().device(recipe.model.device))
        generator = InProcess(model, tokenizer, recipe.eval.max_batch_tokens)
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
                seed,
                cache_file=cache,
                model_hash=model_hash(model_path),
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


def run_evals(context: Context, recipe: Recipe, model_path: str, arm: bool) -> None:
    """Held-out accuracy of one model on every task (an arm's model: on those the arms are judged by)."""
    e = recipe.eval
    sampling = Sampling(temperature=e.temperature, top_p=e.top_p, max_new_tokens=e.max_new_tokens, n=e.samples)
    tasks = [t.name for t in recipe.tasks if t.arms or not arm]
    rows = answer(context, recipe, model_path, "held-out", sampling, e.seed, tasks)
    if rows is not None:
        rows.to_parquet(context.out / "rows.parquet", index=False)


def run_responses(context: Context, recipe: Recipe, model_path: str) -> None:
    """Responses of the fine-tuned model to target problems, verified. Writes rows.parquet."""
    t = recipe.targets
    sampling = Sampling(temperature=t.temperature, top_p=1.0, max_new_tokens=recipe.eval.max_new_tokens, n=t.samples)
    tasks = [task.name for task in recipe.tasks if task.target]
    rows = answer(context, recipe, model_path, "target", sampling, recipe.eval.seed, tasks)
    if rows is not None:
        rows.to_parquet(context.out / "rows.parquet", index=False)


def run_base(context: Context, recipe: Recipe) -> None:
    """Train a small Qwen2 model of the run's own on the `pretrain` share: BPE tokenizer, then next-token loss."""
    settings = recipe.model.pretrain
    assert settings is not None
    source = context.dep("records") / "pretrain.parquet"
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
        fitted = fine_tune(str(start), examples, context.out / "model", config, seed=recipe.seed, progress=bar.advance)
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
