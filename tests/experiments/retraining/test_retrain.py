"""Functional retraining is the SFT room's training: same numbers from a different program."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from infra.errors import InputError, ModelError
from infra.experiments.retraining import (
    FlatModel,
    Retrain,
    flat_model,
    loss_weights,
    plan_of_sft,
    query_values,
    train,
    train_stack,
)
from infra.models import load_model
from infra.train import SFTConfig, fine_tune
from tests.experiments.retraining.tiny import tiny_examples, tiny_model, tiny_plan

EXAMPLES = tiny_examples(24, seed=1)
QUERIES = tiny_examples(6, seed=2, prefix="q")


def saved(folder: Path) -> Path:
    tiny_model().save_pretrained(folder)
    vocabulary = {f"t{i}": i for i in range(24)}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t0")), pad_token="t0", eos_token="t1"
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_decay": 0.1, "max_grad_norm": 0.05},
        {"epochs": 1.5, "schedule": "linear"},
        {"max_grad_norm": 0.0},
    ],
)
def test_equals_the_sft_room_in_float64(tmp_path: Path, settings: dict[str, object]) -> None:
    base = saved(tmp_path / "base")
    rng = np.random.default_rng(0)
    examples = [replace(e, weight=float(w)) for e, w in zip(EXAMPLES, rng.choice([0.0, 0.5, 1.0, 2.0], 24))]
    config = SFTConfig(
        **{
            "learning_rate": 1e-2,
            "epochs": 7,
            "batch_size": 8,
            "normaliser": 60.0,
            "max_tokens_per_microbatch": 64,
            "dtype": "float64",
            "device": "cpu",
            **settings,
        }
    )
    fine_tune(base, examples, tmp_path / "out", config, seed=5)
    theirs = flat_model(load_model(tmp_path / "out")[0]).start
    flat = flat_model(load_model(base)[0])
    plan = plan_of_sft(config, 24, 5, 60.0)
    ours = train(flat, plan, examples, loss_weights(examples))
    assert float((ours - theirs).norm() / (theirs - flat.start).norm()) < 1e-8


def test_a_fresh_order_is_the_order_of_another_seed() -> None:
    config = SFTConfig(learning_rate=1e-3, epochs=1.5, batch_size=7, normaliser=1.0)
    assert plan_of_sft(config, 24, 0, 1.0).reordered(24, 9).batches == plan_of_sft(config, 24, 9, 1.0).batches


def test_weight_zero_is_removal(flat: FlatModel) -> None:
    plan = tiny_plan(24)
    weights = np.ones(24)
    weights[[3, 11]] = 0.0
    kept = [i for i in range(24) if weights[i]]
    number = {old: new for new, old in enumerate(kept)}
    smaller = replace(plan, batches=tuple(tuple(number[i] for i in b if i in number) for b in plan.batches))
    removed = train(flat, smaller, [EXAMPLES[i] for i in kept], loss_weights([EXAMPLES[i] for i in kept]))
    assert torch.equal(train(flat, plan, EXAMPLES, loss_weights(EXAMPLES, weights)), removed)


def test_weight_two_is_the_record_twice_in_the_step(flat: FlatModel) -> None:
    plan = tiny_plan(24)
    weights = np.ones(24)
    weights[5] = 2.0
    doubled = replace(plan, batches=tuple((*b, 5) if 5 in b else b for b in plan.batches))
    a = train(flat, plan, EXAMPLES, loss_weights(EXAMPLES, weights))
    b = train(flat, doubled, EXAMPLES, loss_weights(EXAMPLES))
    assert float((a - b).norm() / (b - flat.start).norm()) < 1e-8


def test_a_stack_of_models_equals_one_by_one(flat: FlatModel) -> None:
    plan, rng = tiny_plan(24, weight_decay=0.01, max_grad_norm=0.1), np.random.default_rng(3)
    runs = [
        Retrain(EXAMPLES, loss_weights(EXAMPLES, (rng.random(24) < 0.5).astype(float)), plan.reordered(24, s))
        for s in range(5)
    ]
    one, many = train_stack(flat, runs), train_stack(flat, runs, stack=3)
    assert float((one - many).norm() / (one - flat.start).norm()) < 1e-9


def test_the_module_is_left_as_it_was(flat: FlatModel) -> None:
    before = copy.deepcopy(flat.module.state_dict())
    train(flat, tiny_plan(24), EXAMPLES, loss_weights(EXAMPLES))
    assert all(torch.equal(before[k], v) for k, v in flat.module.state_dict().items())


def test_query_values_are_the_models_own_log_likelihoods(flat: FlatModel) -> None:
    for form in ("per_token", "summed"):
        values = query_values(flat, flat.start, QUERIES, form, max_tokens=30)
        for query, value in zip(QUERIES, values):
            ids = torch.from_numpy(query.input_ids)[None]
            with torch.no_grad():
                out = flat.module(input_ids=ids, labels=torch.where(torch.from_numpy(query.loss_mask)[None], ids, -100))
            expected = -float(out.loss) * (1 if form == "per_token" else query.n_response_tokens)
            assert value == pytest.approx(expected, rel=1e-5)


def test_what_cannot_be_replayed_is_refused(flat: FlatModel) -> None:
    with pytest.raises(ModelError, match="lora_rank"):
        plan_of_sft(SFTConfig(lora_rank=4), 8, 0, 1.0)
    with pytest.raises(InputError, match="record e0"):
        loss_weights(EXAMPLES, token_weights=[np.ones(1)] * 24)
    with pytest.raises(ModelError, match="learning rate"):
        train(flat, tiny_plan(24, learning_rate=1e300), EXAMPLES, loss_weights(EXAMPLES))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_compiled_training_is_the_same_training(dtype: torch.dtype, tolerance: float) -> None:
    examples, plan = tiny_examples(20, seed=1), tiny_plan(20, max_tokens_per_microbatch=48)
    plain = flat_model(tiny_model(dtype))
    fused = plain.compiled()
    weights = loss_weights(examples)
    expected, found = train(plain, plan, examples, weights), train(fused, plan, examples, weights)
    assert (found - expected).norm() < tolerance * (expected - plain.start).norm()
    assert not torch.equal(found, expected), "the compiled passes were not used"
    assert np.array_equal(query_values(fused, expected, examples), query_values(plain, expected, examples))


def test_compiling_asks_for_a_compiler(flat: FlatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match=r"needs a C\+\+ compiler"):
        flat.compiled()
