"""The plan: each example once an epoch, the cheapest cut into microbatches, transformers' learning rates."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import RecipeError
from infra.train import SFTConfig, data_order, learning_rate_factor, padded_groups, step_indices


def cuts(n: int) -> list[list[int]]:
    """All ways to cut 0..n into consecutive pieces, as border lists."""
    if n == 0:
        return [[0]]
    return [[*c, n] for k in range(n) for c in cuts(k)]


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=7),
    max_tokens=st.integers(20, 150),
    pass_tokens=st.integers(0, 60),
)
def test_padded_groups_are_the_cheapest_of_all_cuts(lengths: list[int], max_tokens: int, pass_tokens: int) -> None:
    def cost(groups: list[list[int]]) -> int:
        return sum(len(g) * max(lengths[i] for i in g) + pass_tokens for g in groups)

    def allowed(groups: list[list[int]]) -> bool:
        return all(len(g) == 1 or len(g) * max(lengths[i] for i in g) <= max_tokens for g in groups)

    got = padded_groups(lengths, max_tokens, pass_tokens)
    assert sorted(i for g in got for i in g) == list(range(len(lengths)))
    assert allowed(got)
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    every = [[order[a:b] for a, b in pairwise(borders)] for borders in cuts(len(lengths))]
    assert cost(got) == min(cost(g) for g in every if allowed(g))


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 40), batch=st.integers(1, 12), epochs=st.sampled_from([0.5, 1.0, 2.0, 2.5]))
def test_every_epoch_sees_every_example_once(n: int, batch: int, epochs: float) -> None:
    order = data_order(n, epochs, seed=3)
    assert all(sorted(row) == list(range(n)) for row in order.tolist())
    steps = step_indices(order, batch, epochs)
    per_epoch = -(-n // batch)
    assert len(steps) == int(np.ceil(per_epoch * epochs))
    for e in range(int(epochs)):
        assert sorted(np.concatenate(steps[e * per_epoch : (e + 1) * per_epoch])) == list(range(n))


def test_order_follows_the_seed_and_epoch() -> None:
    a, b = data_order(50, 2, seed=0), data_order(50, 2, seed=1)
    assert (a == data_order(50, 2, seed=0)).all()
    assert (a[0] != a[1]).any() and (a[0] != b[0]).any()
    assert (data_order(50, 3, seed=0)[:2] == a).all()


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_learning_rates_are_those_of_transformers(schedule: str) -> None:
    from transformers import get_scheduler

    n, ratio = 23, 0.1
    names = {"constant": "constant_with_warmup"}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(names.get(schedule, schedule), optimizer, num_warmup_steps=3, num_training_steps=n)
    for step in range(n):
        assert learning_rate_factor(step, n, ratio, schedule) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": -1.0}, "sft.learning_rate is -1.0"),
        ({"epochs": 0}, "sft.epochs"),
        ({"warmup_ratio": 1.5}, "between 0.0 and 1.0"),
        ({"schedule": "sinus"}, "use one of cosine, linear, constant"),
        ({"normaliser": 0.0}, "positive number of tokens"),
        ({"lora_rank": 0}, "at least 1"),
        ({"eps": float("nan")}, "finite"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        SFTConfig(**settings)
