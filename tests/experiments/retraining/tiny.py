"""A model small enough to retrain hundreds of times in seconds, in float64."""

from __future__ import annotations

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from infra.data import TokenizedExample
from infra.experiments.retraining import TrainingPlan, plan_of_sft
from infra.train import SFTConfig


def tiny_model(dtype: torch.dtype = torch.float64) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=24,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(config).to(dtype).eval()


def tiny_example(name: str, length: int, rng: np.random.Generator) -> TokenizedExample:
    ids = rng.integers(0, 24, length).astype(np.int64)
    mask = np.zeros(length, bool)
    mask[length // 3 :] = True
    return TokenizedExample(name, ids, mask, np.zeros((length, 2), np.int32), "", 0)


def tiny_examples(n: int, seed: int, prefix: str = "e") -> list[TokenizedExample]:
    rng = np.random.default_rng(seed)
    return [tiny_example(f"{prefix}{i}", int(rng.integers(6, 14)), rng) for i in range(n)]


def tiny_plan(n: int, **changes: object) -> TrainingPlan:
    settings = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 8, "max_tokens_per_microbatch": 256, **changes}
    return plan_of_sft(SFTConfig(**settings), n, seed=0, normaliser=60.0)
