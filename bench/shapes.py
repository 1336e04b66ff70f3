"""The shape that the engine is measured on, and its random data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from infra.data.tokenized import TokenizedExample


@dataclass(frozen=True)
class Shape:
    """A Qwen2 model. The default is the one that the published numbers are for."""

    width: int = 896
    mlp: int = 4864
    layers: int = 4
    heads: int = 14
    kv_heads: int = 2
    vocabulary: int = 32_000

    def model(self, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
        """Random weights, seed 0."""
        from transformers import Qwen2Config, Qwen2ForCausalLM

        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=65_536,
            tie_word_embeddings=False,
        )
        with torch.device(device):
            return Qwen2ForCausalLM(config).to(dtype).eval()

    def flops_per_token(self, length: int, tangents: int = 0) -> float:
        """Operations of one forward pass per token with ``tangents`` carried along, attention included."""
        head = self.width // self.heads
        attention = 2 * self.width**2 + 2 * self.width * self.kv_heads * head
        body = 2.0 * self.layers * (3 * self.width * self.mlp + attention)
        mixing = 2.0 * self.layers * self.width * length
        tracked = 2.0 * self.layers * 3 * self.width * self.mlp
        return body + mixing + tangents * (body + tracked + 2 * mixing) + 4.0 * self.width * self.vocabulary


def rows(n: int, length: int, vocabulary: int, prompt: int = 0, seed: int = 0) -> list[TokenizedExample]:
    """``n`` random examples of one length, loss on all but the first ``max(1, prompt)`` tokens."""
    rng = np.random.default_rng(seed)
    mask = np.arange(length) >= max(1, prompt)
    nowhere = np.zeros((length, 2), np.int32)
    return [
        TokenizedExample(f"{seed}-{k}", rng.integers(0, vocabulary, length), mask, nowhere, "", 0) for k in range(n)
    ]
