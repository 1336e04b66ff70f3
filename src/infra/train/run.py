"""Fine-tuning from a model on disk to a model on disk, resumable, the same bytes for the same seed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infra.data import TokenizedExample, loss_weights
from infra.errors import ArtifactError, InputError, ModelError, ResourceError
from infra.models import Limits, deterministic, float64_everywhere, load_model, model_hash
from infra.models.memory import is_memory
from infra.store import write_text
from infra.train.batches import StepDataset
from infra.train.config import SFTConfig
from infra.train.plan import data_order, step_indices

SUMMARY = "sft.json"
_WORK = "unfinished"


@dataclass(frozen=True, slots=True)
class SFTResult:
    """``losses``: one per optimiser step, already divided by ``normaliser``. ``tokens``: those of all steps,
    prompts included, examples of weight 0 not. ``seconds`` of this call; it is not written into
    ``out_dir``."""

    out_dir: Path
    steps: int
    losses: list[float]
    tokens: int
    seconds: float
    normaliser: float


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told while a run trains."""

    progress: Callable[[int], object] | None = None
    metrics: Callable[[dict[str, float]], object] | None = None
    report_to: tuple[str, ...] = ()


def fine_tune(
    model_path: str | Path,
    examples: Sequence[TokenizedExample],
    out_dir: str | Path,
    config: SFTConfig,
    *,
    seed: int,
    progress: Callable[[int], object] | None = None,
    metrics: Callable[[dict[str, float]], object] | None = None,
    report_to: Sequence[str] = (),
) -> SFTResult:
    """Train the model at ``model_path`` on the examples and save it, with its tokenizer, by
    ``save_pretrained``.

    ``out_dir`` also gets ``order.npy`` (int64 ``[epochs, N]``, the examples' order), ``sft.json`` (settings,
    losses, the key of the inputs; written last) and, with ``record_every``, ``recorded/step-*.safetensors``.
    Example weights and token weights multiply the loss; weight 0 is removal under the fixed normaliser.
    Called again after a kill with the same arguments, it goes on from the last checkpoint (``save_steps``)
    and ends with the same bytes; called after the end, it returns at once. ``metrics`` is told step, loss, learning
    rate, gradient norm and tokens per second after every step; ``report_to`` names transformers' own integrations
    (tensorboard, wandb), which get them too. Neither changes a byte of ``out_dir``.

    Raises :class:`InputError` for unusable examples (empty, too long for the model, all weights 0),
    :class:`ArtifactError` when ``out_dir`` holds another run, :class:`ModelError` when the loss is not
    finite, :class:`ResourceError` when memory or disk runs out.
    """
    started = time.monotonic()
    out = Path(out_dir)
    normaliser = config.normaliser or mean_response_tokens(examples) * config.batch_size
    with deterministic(config.deterministic):
        model, tokenizer = load_model(model_path, dtype=config.dtype, attention=config.attention)
        check_examples(examples, model)
        key = run_key(examples, config, seed, model_hash(model))
        done = _finished(out, key)
        order = data_order(len(examples), config.epochs, seed)
        steps = step_indices(order, config.batch_size, config.epochs)
        data = StepDataset(examples, steps, config, _pad_id(tokenizer))
        tokens = int(sum(len(examples[i]) for step in steps for i in step if data.live[i]))
        if done is None:
            watch = Watch(progress, metrics, tuple(report_to))
            losses = _train(model, tokenizer, data, out, key, config, seed, normaliser, watch)
            _finish(out, key, config, seed, normaliser, losses, tokens, order)
        else:
            losses = [float(x) for x in done["losses"]]
    return SFTResult(out, len(steps), losses, tokens, time.monotonic() - started, normaliser)


def mean_response_tokens(examples: Sequence[TokenizedExample]) -> float:
    """Mean number of tokens under the loss per example; weights are not counted."""
    if not examples:
        raise InputError("there are no examples to fine-tune on; check the data and its filters")
    return sum(e.n_response_tokens for e in examples) / len(examples)


def check_examples(examples: Sequence[TokenizedExample], model: Any) -> None:
    """Raise :class:`InputError` naming the first record that this model cannot be trained on."""
    limits = Limits.of(model)
    some = False
    for e in examples:
        weights = loss_weights(e)
        if not np.isfinite(weights).all():
            raise InputError(f"record {e.id}: a loss weight is not finite; mend its weight or token weights")
        length = limits.check(f"record {e.id}", e.input_ids)
        if limits.trained is not None and length > limits.trained:
            raise InputError(
                f"record {e.id}: {length} tokens exceed the model's context of {limits.trained}; lower max_length"
            )
        if not e.loss_mask.any() or e.loss_mask[0]:
            raise InputError(
                f"record {e.id}: the loss mask is empty or covers the first token; tokenise the record again"
            )
        some = some or bool(weights.any())
    if not some:
        raise InputError("every example has weight 0, so there is nothing to learn; check the weights")


def run_key(examples: Sequence[TokenizedExample], config: SFTConfig, seed: int, model: str) -> str:
    """SHA-256 over everything that determines the result: settings, seed, base model, examples in order."""
    digest = hashlib.sha256(json.dumps([config.as_dict(), seed, model], sort_keys=True).encode())
    for e in examples:
        digest.update(e.id.encode())
        digest.update(e.input_ids.tobytes())
        digest.update(loss_weights(e).tobytes())
    return digest.hexdigest()


def _finished(out: Path, key: str) -> dict[str, Any] | None:
    """The summary of an earlier, finished run of the same key; None when there is none yet."""
    for file, what in ((out / SUMMARY, "a finished"), (out / _WORK / "key.json", "an unfinished")):
        if not file.exists():
            continue
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ArtifactError(f"{file} is damaged; delete {out} and run again") from error
        if found["key"] != key:
            raise ArtifactError(
                f"{out} holds {what} fine-tuning run of other inputs or settings; choose another folder"
            )
        if file.name == SUMMARY:
            return dict(found)
    return None


def _train(
    model: Any,
    tokenizer: Any,
    data: StepDataset,
    out: Path,
    key: str,
    config: SFTConfig,
    seed: int,
    normaliser: float,
    watch: Watch,
) -> list[float]:
    """Run or resume the training and save the model; returns the losses of all steps."""
    from transformers import set_seed

    from infra.train.trainer import Recorder, SummedLossTrainer

    work = out / _WORK
    set_seed(seed)
    if config.lora_rank is not None:
        model = _with_lora(model, config)
    if config.gradient_checkpointing:
        # a float64 context does not reach into the backward pass by itself, where checkpointing computes forward again
        again = float64_everywhere if next(model.parameters()).dtype is torch.float64 else contextlib.nullcontext
        model.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={
                "use_reentrant": False,
                "context_fn": lambda: (contextlib.nullcontext(), again()),
            }
        )
        if config.lora_rank is not None:
            model.enable_input_require_grads()
    recorder = Recorder(out / "recorded", config.record_every, watch.progress)
    try:
        work.mkdir(parents=True, exist_ok=True)
        (work / "key.json").write_text(json.dumps({"key": key}), encoding="utf-8")
        trainer = SummedLossTrainer(
            config=config,
            normaliser=normaliser,
            model=model,
            args=_arguments(work, config, seed, len(data), watch.report_to),
            metrics=watch.metrics,
            train_dataset=data,
            callbacks=[recorder],
        )
        recorder.trainer = trainer
        checkpoint, trainer.losses = last_checkpoint(work)
        if watch.progress is not None and trainer.losses:
            watch.progress(len(trainer.losses))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        losses = trainer.losses
        _save(trainer, tokenizer, out, config)
        trainer.accelerator.wait_for_everyone()
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        raise ResourceError(
            "out of memory while fine-tuning, with microbatches as small as they get; lower sft."
            f"max_tokens_per_microbatch (now {config.max_tokens_per_microbatch}), or set gradient_checkpointing or "
            "lora_rank"
        ) from error
    except OSError as error:
        raise ResourceError(
            f"{out}: cannot be written ({error.strerror or error}); free disk space and run the same command again"
        ) from error
    return losses


def _arguments(work: Path, config: SFTConfig, seed: int, n_steps: int, report_to: Sequence[str] = ()) -> Any:
    from transformers import TrainingArguments

    on_cpu = config.device == "cpu" or (config.device is None and not torch.cuda.is_available())
    return TrainingArguments(
        output_dir=str(work),
        max_steps=n_steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        adam_beta1=config.betas[0],
        adam_beta2=config.betas[1],
        adam_epsilon=config.eps,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 500,
        save_total_limit=1,
        report_to=list(report_to),
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        seed=seed,
        use_cpu=on_cpu,
        ddp_backend="gloo" if on_cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
        bf16=config.autocast == "bfloat16",
    )


def last_checkpoint(work: Path) -> tuple[Path | None, list[float]]:
    """The newest complete checkpoint and the losses up to it. Its trainer_state.json is written last: a
    checkpoint without a readable one was cut off and is deleted."""
    found: tuple[int, Path, list[float]] | None = None
    for folder in work.glob("checkpoint-*"):
        try:
            state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            step, losses = (
                int(state["global_step"]),
                state["stateful_callbacks"]["Recorder"]["attributes"]["losses"],
            )
        except (OSError, ValueError, KeyError):
            shutil.rmtree(folder, ignore_errors=True)
            continue
        if len(losses) == step and (found is None or step > found[0]):
            found = (step, folder, [float(x) for x in losses])
    return (found[1], found[2]) if found else (None, [])


def _with_lora(model: Any, config: SFTConfig) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError("LoRA needs the extra 'lora'; pip install 'infra-attribution[lora]'") from error
    rank = config.lora_rank or 1
    settings = LoraConfig(
        r=rank,
        lora_alpha=config.lora_alpha if config.lora_alpha is not None else 2 * rank,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, settings)


def _save(trainer: Any, tokenizer: Any, out: Path, config: SFTConfig) -> None:
    """Model and tokenizer into ``out``, gathered from all processes when they hold shards."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else None
    if not trainer.is_world_process_zero():
        return
    whole = weights.values() if weights is not None else model.parameters()
    if not all(bool(torch.isfinite(p).all()) for p in whole):
        raise ModelError("the fine-tuned weights are not finite; lower learning_rate, or use dtype float32")
    if config.lora_rank is not None and config.lora_merge and weights is None:
        model = model.merge_and_unload()
    model.save_pretrained(out, state_dict=weights)
    tokenizer.save_pretrained(out)


def _finish(
    out: Path,
    key: str,
    config: SFTConfig,
    seed: int,
    normaliser: float,
    losses: list[float],
    tokens: int,
    order: np.ndarray,
) -> None:
    """Order, then the summary, then the scraps away: a folder with a summary is complete."""
    if int(os.environ.get("RANK", "0")) != 0:
        return
    np.save(out / "order.npy", order)
    summary = {
        "key": key,
        "config": config.as_dict(),
        "seed": seed,
        "normaliser": normaliser,
        "steps": len(losses),
        "tokens": tokens,
        "losses": [x if math.isfinite(x) else None for x in losses],
    }
    write_text(out / SUMMARY, json.dumps(summary, indent=1, sort_keys=True))
    shutil.rmtree(out / _WORK, ignore_errors=True)


def _pad_id(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (tokenizer.eos_token_id or 0))
