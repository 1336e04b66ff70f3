"""Packed, padded and accumulated training agree, weights act as repeats and removals, and all of them agree
with a plain loop written here: one example at a time, no batching, no Trainer. float64, 20 steps, 1e-8."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sft_examples import make_examples

from infra.data import TokenizedExample
from infra.models import float64_everywhere, load_model
from infra.train import SFTConfig, SFTResult, data_order, fine_tune, learning_rate_factor, step_indices

CONFIG = SFTConfig(
    learning_rate=5e-3, epochs=5.0, batch_size=4, max_tokens_per_microbatch=1000, weight_decay=0.1, dtype="float64"
)


def weights_of(folder: Path) -> torch.Tensor:
    model, _ = load_model(folder)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train(
    base: Path, out: Path, examples: Sequence[TokenizedExample], config: SFTConfig = CONFIG, seed: int = 0
) -> SFTResult:
    return fine_tune(base, examples, out, config, seed=seed)


def assert_same(a: SFTResult, b: SFTResult, tolerance: float = 1e-8) -> None:
    x, y = weights_of(a.out_dir), weights_of(b.out_dir)
    assert x.dtype == y.dtype == torch.float64
    assert float((x - y).norm() / y.norm()) < tolerance
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-8)


def plain_loop(
    base: Path, examples: Sequence[TokenizedExample], config: SFTConfig, seed: int
) -> tuple[torch.Tensor, list[float]]:
    """Gradient of sum_i w_i sum_t w_it nll / normaliser, one example at a time, clipped, then AdamW from its
    formulas."""
    model, _ = load_model(base, dtype="float64")
    order = data_order(len(examples), config.epochs, seed)
    steps = step_indices(order, config.batch_size, config.epochs)
    normaliser = config.normaliser or float(np.mean([e.n_response_tokens for e in examples])) * config.batch_size
    parameters = list(model.named_parameters())
    first = [torch.zeros_like(p) for _, p in parameters]
    second = [torch.zeros_like(p) for _, p in parameters]
    losses = []
    for t, step in enumerate(steps):
        model.zero_grad()
        total = 0.0
        for i in step:
            e = examples[i]
            factor = np.ones(len(e)) if e.token_weights is None else e.token_weights
            with float64_everywhere():
                logits = model(torch.tensor(e.input_ids)[None]).logits[0]
                logp = torch.log_softmax(logits, dim=-1)
                terms = [
                    -logp[t - 1, e.input_ids[t]] * float(np.float32(e.weight) * np.float32(factor[t]))
                    for t in range(1, len(e))
                    if e.loss_mask[t]
                ]
                loss = sum(terms, torch.zeros(())) / normaliser
                loss.backward()
            total += float(loss)
        losses.append(total)
        gradients = [p.grad for _, p in parameters]
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        scale = min(1.0, float(config.max_grad_norm / (norm + 1e-6)))
        rate = config.learning_rate * learning_rate_factor(t, len(steps), config.warmup_ratio, config.schedule)
        b1, b2 = config.betas
        with torch.no_grad():
            for k, (name, p) in enumerate(parameters):
                g = gradients[k] * scale
                first[k] = b1 * first[k] + (1 - b1) * g
                second[k] = b2 * second[k] + (1 - b2) * g**2
                decays = "norm" not in name and not name.endswith("bias")
                p.mul_(1 - rate * config.weight_decay * decays)
                m, v = first[k] / (1 - b1 ** (t + 1)), second[k] / (1 - b2 ** (t + 1))
                p.sub_(rate * m / (v.sqrt() + config.eps))
    return torch.cat([p.detach().flatten() for _, p in parameters]), losses


def weighted(examples: list[TokenizedExample]) -> list[TokenizedExample]:
    rng = np.random.default_rng(5)
    return [
        replace(e, weight=float(rng.random() * 2), token_weights=rng.random(len(e)).astype(np.float32))
        for e in examples
    ]


def test_agrees_with_a_plain_loop(base: Path, tmp_path: Path) -> None:
    examples = weighted(make_examples(16))
    result = train(base, tmp_path / "a", examples)
    parameters, losses = plain_loop(base, examples, CONFIG, 0)
    assert result.steps == 20
    np.testing.assert_allclose(result.losses, losses, rtol=1e-8)
    trained = weights_of(result.out_dir)
    assert float((trained - parameters).norm() / parameters.norm()) < 1e-8
    assert float((weights_of(base) - parameters).norm() / parameters.norm()) > 1e-2  # training did something


def test_packed_padded_and_accumulated_agree(base: Path, tmp_path: Path) -> None:
    examples = weighted(make_examples(16))
    padded = train(base, tmp_path / "padded", examples)
    for name, change in {
        "packed": {"packing": True},
        "accumulated": {"max_tokens_per_microbatch": 20},
        "packed-accumulated": {"packing": True, "max_tokens_per_microbatch": 30},
        "checkpointing": {"gradient_checkpointing": True},
    }.items():
        assert_same(train(base, tmp_path / name, examples, replace(CONFIG, **change)), padded)


def test_lora_agrees_too_however_its_steps_are_cut(base: Path, tmp_path: Path) -> None:
    """Padded, packed in small pieces, and recomputed in the backward pass: the same merged model."""
    examples = weighted(make_examples(16))
    config = replace(CONFIG, lora_rank=2, learning_rate=5e-2)
    padded = train(base, tmp_path / "padded", examples, config)
    assert float((weights_of(base) - weights_of(padded.out_dir)).norm()) > 1e-2
    for name, change in {
        "packed-accumulated": {"packing": True, "max_tokens_per_microbatch": 30},
        "checkpointing": {"gradient_checkpointing": True},
    }.items():
        assert_same(train(base, tmp_path / name, examples, replace(config, **change)), padded)


def test_weight_two_is_the_record_twice_in_the_step(base: Path, tmp_path: Path) -> None:
    """All examples in one step, so that the repeat stands in the same step; 20 steps."""
    examples = make_examples(6)
    config = replace(CONFIG, epochs=20.0, batch_size=7, normaliser=30.0)
    twice = train(base, tmp_path / "twice", [*examples, replace(examples[2], id="again")], config)
    double = train(
        base, tmp_path / "double", [replace(e, weight=2.0) if i == 2 else e for i, e in enumerate(examples)], config
    )
    assert_same(double, twice)
    plain = train(base, tmp_path / "plain", examples, config)
    assert float((weights_of(plain.out_dir) - weights_of(twice.out_dir)).norm()) > 1e-4


def test_weight_zero_is_removal(base: Path, tmp_path: Path) -> None:
    examples = make_examples(6)
    config = replace(CONFIG, epochs=20.0, batch_size=6, normaliser=30.0)
    zero = train(
        base, tmp_path / "zero", [replace(e, weight=0.0) if i == 2 else e for i, e in enumerate(examples)], config
    )
    removed = train(base, tmp_path / "removed", examples[:2] + examples[3:], config)
    assert_same(zero, removed)
    masked = train(
        base,
        tmp_path / "masked",
        [replace(e, token_weights=np.zeros(len(e), dtype=np.float32)) if i == 2 else e for i, e in enumerate(examples)],
        config,
    )
    assert_same(masked, removed)


def test_a_step_without_weight_is_a_step_of_zero_gradient(base: Path, tmp_path: Path) -> None:
    """Momentum goes on moving the weights; the plain loop shows by how much."""
    order = data_order(8, 1, seed=0)[0]
    examples = make_examples(8)
    examples = [replace(e, weight=0.0) if i in order[4:] else e for i, e in enumerate(examples)]
    config = replace(CONFIG, epochs=1.0, warmup_ratio=0.0, schedule="constant")
    result = train(base, tmp_path / "a", examples, config)
    parameters, losses = plain_loop(base, examples, config, 0)
    assert losses[1] == result.losses[1] == 0.0
    assert float((weights_of(result.out_dir) - parameters).norm() / parameters.norm()) < 1e-8


def test_losses_of_subsets_add_up_at_the_first_step(base: Path, tmp_path: Path) -> None:
    examples = make_examples(8)
    config = replace(CONFIG, epochs=1.0, batch_size=8, normaliser=50.0, warmup_ratio=0.0)
    whole = train(base, tmp_path / "whole", examples, config).losses[0]
    parts = [
        train(base, tmp_path / f"part{i}", examples[a:b], config).losses[0] for i, (a, b) in enumerate([(0, 3), (3, 8)])
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-12)


def test_default_normaliser_is_the_mean_response_tokens_of_a_step(base: Path, tmp_path: Path) -> None:
    examples = make_examples(6)
    result = train(base, tmp_path / "a", examples, replace(CONFIG, epochs=1.0))
    assert result.normaliser == pytest.approx(sum(int(e.loss_mask.sum()) for e in examples) / 6 * 4)
    assert result.tokens == sum(len(e) for e in examples)


def test_float32_first_step_matches_float64(base: Path, tmp_path: Path) -> None:
    """The first step's gradient, read off AdamW's first moment, to 1e-5."""
    from safetensors.torch import load_file

    examples = make_examples(8)
    config = replace(CONFIG, epochs=1.0, batch_size=8, record_every=1, max_grad_norm=0.0)
    recorded: dict[str, dict[str, Any]] = {}
    for dtype in ("float32", "float64"):
        out = tmp_path / dtype
        train(base, out, examples, replace(config, dtype=dtype))
        recorded[dtype] = load_file(out / "recorded" / "step-000001.safetensors")
    for name in (n for n in recorded["float64"] if n.startswith("exp_avg/")):
        a, b = recorded["float32"][name].double(), recorded["float64"][name]
        assert float((a - b).norm()) <= 1e-5 * float(b.norm()) + 1e-12, name


def test_order_and_settings_are_recorded(base: Path, tmp_path: Path) -> None:
    examples = make_examples(6)
    result = train(base, tmp_path / "a", examples, replace(CONFIG, epochs=2.0), seed=3)
    assert (np.load(result.out_dir / "order.npy") == data_order(6, 2.0, 3)).all()
    summary = json.loads((result.out_dir / "sft.json").read_text())
    assert summary["losses"] == result.losses and summary["seed"] == 3 and summary["steps"] == 4
    assert summary["config"]["learning_rate"] == 5e-3
