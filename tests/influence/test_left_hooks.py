"""Models that come out of training with gradient checkpointing on are attributed as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infra.errors import ModelError
from infra.influence.engine.hooks import hooks_on
from infra.influence.scores import example_influence, token_influence
from infra.models import tracked_weights
from tests.influence import toys


def scores(model, decomposition="loss"):
    examples = toys.examples(4)
    along = [toys.direction({k: p for k, p in tracked_weights(toys.qwen2(), "mlp").parameters.items()}, 0)]
    parts = list(token_influence(model, examples, along, decomposition=decomposition))
    found = {i: s for part in parts for i, s in zip(part.indices, part.scores)}
    return np.concatenate([found[i].ravel() for i in sorted(found)]), example_influence(model, examples, along)


def checkpointed(model):
    model.gradient_checkpointing_enable()


def requiring(model):
    model.enable_input_require_grads()


def reentrant_and_training(model):
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    model.enable_input_require_grads()
    model.train()


def twice(model):
    requiring(model)
    requiring(model)


def as_peft_does(model):
    def make_inputs_require_grad(module, inputs, output):
        output.requires_grad_(True)

    model.get_input_embeddings().register_forward_hook(make_inputs_require_grad)


def switched_off_again(model):
    model.gradient_checkpointing_enable()
    model.gradient_checkpointing_disable()


@pytest.mark.parametrize(
    "leave", [checkpointed, requiring, reentrant_and_training, twice, as_peft_does, switched_off_again]
)
@pytest.mark.parametrize("decomposition", ["loss", "position"])
def test_hooks_of_gradient_checkpointing_change_no_score(leave, decomposition):
    model = toys.qwen2()
    leave(model)
    was, training = hooks_on(model, "model.embed_tokens"), model.training
    for found, expected in zip(scores(model, decomposition), scores(toys.qwen2(), decomposition)):
        np.testing.assert_array_equal(found, expected)
    assert hooks_on(model, "model.embed_tokens") == was and model.training == training


def test_the_hooks_work_again_afterwards():
    model = toys.qwen2()
    requiring(model)
    scores(model)
    assert model.get_input_embeddings()(torch.tensor([[1]])).requires_grad


def test_another_hook_in_the_way_is_named_and_not_the_module():
    model = toys.qwen2()

    def somebodys_hook(module, inputs, output):
        output.detach().numpy()

    model.model.layers[1].mlp.register_forward_hook(somebodys_hook)
    with pytest.raises(
        ModelError, match=r"layers\.1\.mlp .* carries a forward hook \(.*somebodys_hook\).*remove the hook"
    ):
        scores(model)


def test_a_harmless_hook_of_the_users_still_runs():
    model, seen = toys.qwen2(), []
    model.model.layers[0].register_forward_hook(lambda *_: seen.append(1))
    for found, expected in zip(scores(model), scores(toys.qwen2())):
        np.testing.assert_array_equal(found, expected)
    assert seen
