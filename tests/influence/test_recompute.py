"""Recomputed activations: the same factors, gradients and scores, and far fewer tensors kept for the backward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from infra.errors import ModelError
from infra.influence import (
    MeanLogLikelihood,
    estimate,
    example_influence,
    fit_ekfac,
    gradient,
    recomputed_activations,
    token_influence,
)
from infra.influence.engine.batches import build_batch
from infra.influence.engine.functional import Backbone, engine_mode
from infra.influence.engine.layer_inputs import Capture
from infra.models import tracked_weights
from tests.influence import toys
from tests.influence.test_architectures import BUILDERS, build


def everything(model: Any, tracked: Any) -> dict[str, Any]:
    """Eigenvalues of every block, a gradient, example scores and `position` scores."""
    data = toys.examples(5)
    curvature = fit_ekfac(model, data, tracked, model_hash="x", max_tokens=30)
    g = gradient(model, MeanLogLikelihood("t", data), tracked)
    v = [curvature.inverse() @ g, g]
    found: dict[str, Any] = {key: f.eigenvalues for key, f in curvature.factors.items()}
    found |= {f"gradient of {name}": t for name, t in g.tensors.items()}
    found["examples"] = example_influence(model, data, v)
    packed = type(model).__name__ == "Qwen2ForCausalLM"
    for chunk in token_influence(model, data, v, decomposition="position", packed=packed):
        found |= dict(zip(chunk.ids, chunk.scores))
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", list(BUILDERS))
def test_the_same_as_with_activations_kept(kind: str) -> None:
    model, tracked = build(kind)
    kept = everything(model, tracked)
    with recomputed_activations():
        made = everything(model, tracked)
    assert kept.keys() == made.keys()
    assert max(toys.error(made[name], kept[name]) for name in kept if torch.as_tensor(kept[name]).any()) < 1e-10


def test_float32_within_its_tolerance() -> None:
    model = toys.qwen2(torch.float32)
    target = MeanLogLikelihood("t", toys.examples(5))
    kept = gradient(model, target, tracked_weights(model, "all"))
    with recomputed_activations():
        made = gradient(model, target, tracked_weights(model, "all"))
    assert (made - kept).norm() < 1e-5 * kept.norm()


class Kept:
    """Bytes that are saved for a backward pass and alive, and the most of them at one time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def save(self, tensor: torch.Tensor) -> Saved:
        return Saved(self, tensor)


class Saved:
    """One tensor kept for the backward pass."""

    def __init__(self, kept: Kept, tensor: torch.Tensor) -> None:
        self.kept, self.tensor, self.size = kept, tensor, tensor.numel() * tensor.element_size()
        kept.now += self.size
        kept.most = max(kept.most, kept.now)

    def __del__(self) -> None:
        self.kept.now -= self.size


def most_kept(model: Any, pattern: str = "mlp") -> int:
    batch = build_batch([toys.example("a", 40, 5, 0)], [0])
    kept = Kept()
    with engine_mode(model), torch.autograd.graph.saved_tensors_hooks(kept.save, lambda saved: saved.tensor):
        Capture(Backbone(model), tracked_weights(model, pattern)).backward_pass(batch, lambda block, calls: None)
    return kept.most


def test_only_the_inputs_of_layers_and_one_layer_are_kept() -> None:
    layers, width = 12, 16
    small, large = toys.qwen2(num_hidden_layers=1), toys.qwen2(num_hidden_layers=layers)
    with recomputed_activations():
        one, all_of_them = most_kept(small), most_kept(large)
    assert all_of_them - one <= (layers - 1) * 40 * width * 8  # what each further layer adds: its hidden states
    assert all_of_them < most_kept(large) / 4


def test_layers_before_the_first_tracked_one_run_once() -> None:
    model = toys.qwen2(num_hidden_layers=4)
    runs = [0] * 4
    for i, layer in enumerate(model.model.layers):

        def count(*_: Any, place: int = i) -> None:
            runs[place] += 1

        layer.input_layernorm.register_forward_hook(count)
    with recomputed_activations():
        most_kept(model, r"layers\.2\.mlp")
    assert runs == [1, 1, 2, 2]
    assert "forward" not in model.model.layers[0].__dict__


def test_a_layer_that_is_given_more_to_differentiate_is_refused() -> None:
    model = toys.qwen2()
    model.model.rotary_emb.register_forward_hook(lambda _, __, angles: tuple(t.requires_grad_(True) for t in angles))
    with recomputed_activations(), pytest.raises(ModelError, match=r"set scale\.recompute to false"):
        gradient(model, MeanLogLikelihood("t", toys.examples(2)), tracked_weights(model, "mlp"))


def test_the_estimate_knows() -> None:
    model = toys.qwen2(num_hidden_layers=8)
    tracked, data = tracked_weights(model, "mlp"), toys.examples(5)
    kept = estimate("examples", model, data, tracked)
    with recomputed_activations():
        made = estimate("examples", model, data, tracked)
    assert made.activation_bytes < kept.activation_bytes / 2 and kept.flops < made.flops < 1.5 * kept.flops
