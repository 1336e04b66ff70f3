"""Tiny random models and examples, and the oracle: explicit per-token gradients by autograd."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.influence import Direction
from infra.models import float64_everywhere

VOCABULARY = 23


def qwen2(dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any) -> Any:
    """Qwen2 with grouped-query attention: 2 layers, width 16, 4 heads on 2 key heads."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "initializer_range": 0.4,
        "attn_implementation": "sdpa",
    }
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(Qwen2Config(**{**settings, **changes})).to(dtype).eval()


def example(name: str, length: int, prompt: int, seed: int, vocabulary: int = VOCABULARY) -> TokenizedExample:
    """``length`` random tokens, loss on those from ``prompt`` on."""
    ids = np.random.default_rng(seed).integers(0, vocabulary, length)
    mask = np.arange(length) >= prompt
    return TokenizedExample(name, ids, mask, np.zeros((length, 2), np.int32), "", 0)


def examples(n: int = 5, seed: int = 0, longest: int = 12) -> list[TokenizedExample]:
    """Examples of different lengths and prompts."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        length = int(rng.integers(3, longest + 1))
        made.append(example(f"r{i}", length, int(rng.integers(1, length)), 100 * seed + i))
    return made


def direction(parameters: dict[str, Tensor], seed: int, scale: float = 1.0) -> Direction:
    """A random direction."""
    generator = torch.Generator().manual_seed(seed)
    return Direction(
        {k: scale * torch.randn(p.shape, dtype=p.dtype, generator=generator) for k, p in parameters.items()},
        f"d{seed}",
    )


def token_gradients(model: Any, item: TokenizedExample, names: list[str]) -> list[dict[str, Tensor]]:
    """Oracle: grad log p(z_t | z_<t) for every token by plain autograd, zero where there is no loss. Float64."""
    reference = copy.deepcopy(model).double()
    if hasattr(reference.config, "_experts_implementation_internal"):
        reference.config._experts_implementation_internal = "eager"  # the fused kernels have no float64
    parameters = dict(reference.named_parameters())
    chosen = [parameters[name].requires_grad_(True) for name in names]
    with float64_everywhere():
        logits = reference(input_ids=torch.from_numpy(item.input_ids)[None]).logits[0]
        log_p = logits.log_softmax(-1)
        result = []
        for t in range(len(item)):
            if not item.loss_mask[t]:
                result.append({name: torch.zeros_like(p) for name, p in zip(names, chosen)})
                continue
            value = log_p[t - 1, int(item.input_ids[t])]
            parts = torch.autograd.grad(value, chosen, retain_graph=True, allow_unused=True)
            result.append({name: torch.zeros_like(p) if g is None else g for name, p, g in zip(names, chosen, parts)})
    return result


def oracle_scores(model: Any, item: TokenizedExample, directions: list[Direction]) -> np.ndarray:
    """Oracle: ``loss`` scores ``[K, T]`` from explicit per-token gradients."""
    gradients = token_gradients(model, item, list(directions[0].tensors))
    return np.array(
        [[sum(float((g[k] * d.tensors[k].double()).sum()) for k in g) for g in gradients] for d in directions]
    )


def error(a: Any, b: Any) -> float:
    """Norm-wise relative error ``||a - b|| / ||b||``."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300))
