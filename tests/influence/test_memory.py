"""Memory linear in the length, and 16-bit models."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.utils._python_dispatch import TorchDispatchMode

from infra.influence import (
    MeanLogLikelihood,
    estimate,
    example_influence,
    fit_ekfac,
    gradient,
    token_influence,
)
from infra.influence.engine import attention, functional
from infra.models import tracked_weights
from tests.influence import toys


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


@pytest.mark.parametrize("window", [None, 64])
def test_forward_mode_makes_no_tensor_larger_than_linear_in_the_length(monkeypatch, window):
    """With chunks of 4,096 elements, doubling T never makes more than twice the largest tensor; nothing is T by T."""
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", 1 << 12)
    monkeypatch.setattr(functional, "HEAD_ELEMENTS", 1 << 12)
    sliding = {} if window is None else {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 1}
    model = toys.qwen2(torch.float32, max_position_embeddings=1024, **sliding)
    directions = [toys.direction(tracked_weights(model).parameters, 0)]
    found = []
    for length in (256, 512):
        with LargestTensor() as seen:
            list(token_influence(model, [toys.example("long", length, 2, 0)], directions))
        found.append(seen.largest)
    assert found[1] <= 2 * found[0]
    assert found[1] < 512 * 512


def test_chunks_of_any_size_give_the_same_scores(monkeypatch):
    model, items = toys.qwen2(), [toys.example("r", 40, 3, 0)]
    directions = [toys.direction(tracked_weights(model).parameters, k) for k in range(2)]
    whole = next(token_influence(model, items, directions)).scores[0]
    monkeypatch.setattr(attention, "CHUNK_ELEMENTS", 1)
    monkeypatch.setattr(functional, "HEAD_ELEMENTS", 1)
    pieces = next(token_influence(model, items, directions)).scores[0]
    assert toys.error(pieces, whole) < 1e-12


def test_the_estimate_grows_with_the_work():
    model, items = toys.qwen2(), toys.examples(6)
    tracked = tracked_weights(model)
    one, four = (estimate("forward", model, items, tracked, k) for k in (1, 4))
    assert one.tokens == sum(map(len, items)) and four.flops > one.flops
    assert four.direction_bytes == 4 * one.direction_bytes == 4 * tracked.size * 8
    assert estimate("fit", model, items, tracked).factor_bytes > 0
    assert "TFLOP" in str(one)


def trained(steps=200):
    """A small model trained on random walks around a circle, about 0.9 nats a token, and walks it has not seen.

    Not on data that it knows by heart: where p is nearly 1 the gradient p - 1 is lost in 16-bit rounding, and ranks
    agree to 0.95 to 0.99 only.
    """
    model = toys.qwen2(torch.float32, initializer_range=0.05, hidden_size=32, intermediate_size=64)
    rng = np.random.default_rng(0)

    def walks(n):
        steps_taken = rng.choice([1, 2, 7], (n, 24), p=[0.6, 0.3, 0.1])
        return (rng.integers(0, toys.VOCABULARY, (n, 1)) + np.cumsum(steps_taken, 1)) % toys.VOCABULARY

    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        ids = torch.from_numpy(walks(32))
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    mask, nowhere = np.arange(24) >= 2, np.zeros((24, 2), np.int32)
    return model.eval(), [toys.TokenizedExample(f"r{k}", w, mask, nowhere, "", 0) for k, w in enumerate(walks(96))]


@pytest.mark.slow
def test_bfloat16_ranks_like_float32_on_a_trained_model():
    model, items = trained()
    target = MeanLogLikelihood("walks", items[:8])
    ranks = []
    for dtype in (torch.bfloat16, torch.float32):  # the same rounded weights in both
        cast = model.to(torch.bfloat16).to(dtype)
        tracked = tracked_weights(cast)
        v = fit_ekfac(cast, items, tracked).inverse() @ gradient(cast, target, tracked)
        examples = example_influence(cast, items, [v])[:, 0]
        assert examples.dtype == np.float32
        found = [examples]
        for decomposition in ("loss", "position"):
            chunks = token_influence(cast, items, [v], decomposition=decomposition)
            tokens = {i: s[0] for c in chunks for i, s in zip(c.indices, c.scores)}
            found.append(np.concatenate([tokens[i] for i in range(len(items))]))
        ranks.append(found)
    for wide, narrow in zip(*ranks):
        assert spearmanr(wide, narrow).statistic >= 0.999


def test_the_head_visits_a_vocabulary_of_152k_in_chunks():
    """512 positions of Qwen's vocabulary would be 78 million logits; no tensor is larger than one chunk."""
    vocabulary = 151_936
    model = toys.qwen2(torch.float32, vocab_size=vocabulary, max_position_embeddings=1024)
    item = toys.example("wide", 512, 2, 0, vocabulary)
    directions = [toys.direction(tracked_weights(model).parameters, 0)]
    with LargestTensor() as seen:
        forward = next(token_influence(model, [item], directions)).scores[0]
        positions = next(token_influence(model, [item], directions, decomposition="position")).scores[0]
        fit_ekfac(model, [item], tracked_weights(model), model_hash="")
    assert seen.largest <= functional.HEAD_ELEMENTS < 512 * vocabulary / 4
    assert abs(forward.sum() - positions.sum()) / np.abs(forward).sum() < 1e-4


PEAK = """
import resource, sys
import torch
from infra.influence import token_influence
from infra.models import tracked_weights
from tests.influence import toys

torch.set_num_threads(1)
sizes = dict(hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2)
model = toys.qwen2(torch.float32, max_position_embeddings=32768, **sizes)
directions = [toys.direction(tracked_weights(model).parameters, 0)]

def peak(length):
    next(token_influence(model, [toys.example("long", length, 2, 0)], directions, max_tokens=length))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak(512)
print(before, peak(int(sys.argv[1])))
"""


@pytest.mark.slow
def test_an_example_of_16k_tokens_takes_memory_linear_in_its_length():
    """Peak of the process above that at 512 tokens, at 4k and at 16k; one 16k by 16k matrix would be 1,024 MiB."""
    import subprocess
    import sys
    from pathlib import Path

    grown = {}
    for length in (4096, 16384):
        command = [sys.executable, "-c", PEAK, str(length)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
        before, after = map(int, done.stdout.split())
        grown[length] = after - before
    print(f"MiB above 512 tokens: {grown}")
    assert grown[16384] <= 5 * max(grown[4096], 16)
    assert grown[16384] < 512
