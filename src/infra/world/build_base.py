"""Rebuild the base model from its seed: ``python -m infra.world.build_base --out DIR``.

Trains the tokenizer, then a Qwen2 model on the stream of :mod:`infra.world.pretrain_text`. Checkpoints are written to
``DIR/checkpoint.pt``; the same command continues from the last one. On two CPU cores it takes about half an hour.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from infra.store import replacing
from infra.world.build import MIXES, build_world
from infra.world.pretrain_text import documents
from infra.world.tokenizer import END, PAD, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """How the base model is made. Sizes in tokens unless said otherwise."""

    seed: int = 0
    hidden: int = 128
    layers: int = 4
    mlp: int = 448
    heads: int = 4
    kv_heads: int = 2
    block: int = 192
    batch: int = 48
    steps: int = 3800
    learning_rate: float = 4e-3
    init: float = 0.06
    warmup: int = 100
    weight_decay: float = 0.05
    checkpoint_every: int = 100


def tokenizer_texts(seed: int) -> Iterator[str]:
    """What the tokenizer is trained on: all training sets as chats, and a little pretraining text."""
    for name in MIXES:
        for record in build_world(name, seed).train:
            yield f"user\n{record.question}"
            yield f"assistant\n{record.response}"
    yield from itertools.islice(documents(seed), 10_000)


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one token."""
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def new_model(config: BaseConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A freshly initialised model of the Qwen2 architecture with tied embeddings."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(config.seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden,
            intermediate_size=config.mlp,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=512,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
            tie_word_embeddings=True,
            initializer_range=config.init,
            use_sliding_window=False,
            bos_token_id=None,
            eos_token_id=token_id(tokenizer, END),
            pad_token_id=token_id(tokenizer, PAD),
        )
    )


def blocks(tokenizer: PreTrainedTokenizerFast, config: BaseConfig, skip: int = 0) -> Iterator[torch.Tensor]:
    """Batches of token ids, int64 ``[batch, block + 1]``: documents in a row, each after an end-of-text token.

    ``skip`` batches are passed over, as a resumed run needs.
    """
    stream, end = documents(config.seed), token_id(tokenizer, PAD)
    size, held, count = config.batch * (config.block + 1), list[int](), 0
    while True:
        for ids in tokenizer(list(itertools.islice(stream, 1000)))["input_ids"]:
            held.append(end)
            held += ids
        while len(held) >= size:
            if count >= skip:
                yield torch.tensor(held[:size]).view(config.batch, config.block + 1)
            count += 1
            del held[:size]


def rate(config: BaseConfig, step: int) -> float:
    """Learning rate at ``step``: linear warm-up, then a cosine to one hundredth."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    x = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * x)))


def make_optimizers(model: Qwen2ForCausalLM, config: BaseConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, biases and norms."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and ".layers." in n]
    rest = [p for n, p in model.named_parameters() if not (p.dim() == 2 and ".layers." in n)]
    return [
        torch.optim.Muon(
            matrices,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(rest, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def build_base(out: Path, config: BaseConfig) -> None:
    """Train tokenizer and model into ``out``, resuming from ``out/checkpoint.pt`` where it exists."""
    from transformers import PreTrainedTokenizerFast

    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer.json").exists():
        train_tokenizer(tokenizer_texts(config.seed), out)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    model = new_model(config, tokenizer)
    optimizers = make_optimizers(model, config)
    checkpoint, first = out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        first = state["step"]
    print(f"{model.num_parameters():,} parameters, steps {first} to {config.steps}", flush=True)
    began, total = time.time(), 0.0
    for step, batch in zip(range(first, config.steps), blocks(tokenizer, config, skip=first)):
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = rate(config, step)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        total += loss.item()
        done = step + 1
        if done % 50 == 0:
            speed = (done - first) * config.batch * config.block / (time.time() - began)
            left = (config.steps - done) * config.batch * config.block / speed
            print(f"step {done} loss {total / 50:.4f} {speed:,.0f} tokens/s, {left / 60:.1f} min left", flush=True)
            total = 0.0
        if done % config.checkpoint_every == 0 or done == config.steps:
            states = [o.state_dict() for o in optimizers]
            _save(checkpoint, {"model": model.state_dict(), "optimizers": states, "step": done})
    model.save_pretrained(out)


def _save(path: Path, state: dict[str, Any]) -> None:
    with replacing(path) as part:
        torch.save(state, part)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, tokenizer and model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=BaseConfig().steps)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    build_base(arguments.out, BaseConfig(seed=arguments.seed, steps=arguments.steps))


if __name__ == "__main__":
    main()
