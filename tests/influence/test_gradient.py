"""Gradients of targets against plain autograd, and the algebra of directions."""

import copy

import numpy as np
import pytest
import torch

from infra.errors import ArtifactError, InputError, ModelError
from infra.influence import (
    Contrast,
    Engine,
    FunctionTarget,
    MeanLogLikelihood,
    combine,
    each_gradient,
    gradient,
    gradients,
    log_likelihoods,
    open_directions,
    save_directions,
)
from infra.models import float64_everywhere, tracked_weights
from tests.influence import toys


def autograd(model, items, names, form):
    """Oracle: f as one expression over all examples, differentiated by autograd."""
    reference = copy.deepcopy(model)
    chosen = [dict(reference.named_parameters())[name] for name in names]
    with float64_everywhere():
        terms = []
        for item in items:
            ids = torch.from_numpy(item.input_ids)
            log_p = reference(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
            picked = log_p.gather(1, ids[1:, None])[:, 0][torch.from_numpy(item.loss_mask[1:])]
            terms.append(picked.mean() if form == "per_token" else picked.sum())
        value = torch.stack(terms).mean()
    return value.item(), dict(zip(names, torch.autograd.grad(value, chosen)))


def distance(direction, expected):
    return max(toys.error(direction.tensors[k], expected[k]) for k in expected)


@pytest.mark.parametrize("form", ["per_token", "summed"])
@pytest.mark.parametrize("pattern", ["mlp", "attention"])
def test_gradient_of_the_mean_log_likelihood(form, pattern):
    model, items = toys.qwen2(), toys.examples(6)
    tracked, target = tracked_weights(model, pattern), MeanLogLikelihood("math", items, form)
    value, expected = autograd(model, items, tracked.names, form)
    assert target.value(model, max_tokens=25) == pytest.approx(value, rel=1e-12)
    assert distance(gradient(model, target, tracked, max_tokens=25), expected) < 1e-10


def test_groups_in_one_pass_are_the_gradients_of_their_targets():
    model, items = toys.qwen2(), toys.examples(7)
    tracked = tracked_weights(model, "all")
    groups = np.array([[0, 2], [1, 2], [0, -1], [1, 2], [0, 2], [-1, -1], [0, 2]])
    found = gradients(Engine(model, tracked, 30), items, groups, ["a", "b", "c"])
    for g, one in enumerate(found):
        members = [item for item, row in zip(items, groups) if g in row]
        expected = gradient(model, MeanLogLikelihood("x", members), tracked)
        assert distance(one, expected.tensors) < 1e-10
    assert [d.name for d in found] == ["a", "b", "c"]
    seen = []
    lots = list(
        each_gradient(Engine(model, tracked), items, groups, "012", progress=lambda *n: seen.append(n), at_once=2)
    )
    for one, expected in zip(lots, found):
        assert distance(one, expected.tensors) < 1e-12
    assert seen[-1] == (11, 11) and len(lots) == 3  # six examples in groups 0 and 1, five in group 2
    with pytest.raises(InputError, match="group 1 of 2 has no examples"):
        gradients(Engine(model, tracked), items, np.zeros(7, int), ["a", "b"])


def test_a_contrast_is_the_difference_of_its_parts():
    model, items = toys.qwen2(), toys.examples(6)
    tracked = tracked_weights(model)
    right, wrong = MeanLogLikelihood("right", items[:3]), MeanLogLikelihood("wrong", items[3:])
    contrast = Contrast("contrast", right, wrong, weight=0.5)
    expected = combine([gradient(model, t, tracked) for t in (right, wrong)], [1.0, -0.5])
    assert distance(gradient(model, contrast, tracked), expected.tensors) < 1e-12
    assert contrast.value(model) == pytest.approx(right.value(model) - 0.5 * wrong.value(model))


def test_any_python_function_can_be_a_target():
    """The preference pair of the docstring, against finite differences along a random direction."""
    model = toys.qwen2()
    tracked = tracked_weights(model)
    rng = np.random.default_rng(0)
    pairs = [tuple(torch.from_numpy(rng.integers(0, toys.VOCABULARY, n)) for n in (6, 9)) for _ in range(2)]

    def prefers(model, pair):
        chosen, rejected = (model(ids[None]).logits[0, :-1].log_softmax(-1) for ids in pair)
        picked = [lp.gather(1, ids[1:, None]).sum() for lp, ids in zip((chosen, rejected), pair)]
        return torch.nn.functional.logsigmoid(picked[0] - picked[1])

    target = FunctionTarget("preference", prefers, pairs)
    along = toys.direction(tracked.parameters, 1)
    slope = gradient(model, target, tracked).dot(along)
    values = []
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        for name, p in moved.named_parameters():
            if name in along.tensors:
                p.data += sign * 1e-6 * along.tensors[name]
        values.append(target.value(moved))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)
    assert all(p.requires_grad for p in model.parameters())


def test_log_likelihoods_do_not_depend_on_batches():
    model, items = toys.qwen2(), toys.examples(6)
    apart = [log_likelihoods(model, [item])[0] for item in items]
    assert toys.error(log_likelihoods(model, items, max_tokens=25), apart) < 1e-12


def test_directions_are_vectors_and_survive_the_disk(tmp_path):
    tracked = tracked_weights(toys.qwen2())
    a, b = (toys.direction(tracked.parameters, k) for k in (0, 1))
    assert (2.0 * a - b).dot(a) == pytest.approx(2 * a.dot(a) - b.dot(a))
    assert a.unit().norm() == pytest.approx(1.0)
    save_directions([a, b], tmp_path, model_hash="abc")
    again = open_directions(tmp_path, model_hash="abc").loaded()
    assert [d.name for d in again] == [a.name, b.name]
    assert all(torch.equal(again[1].tensors[k], b.tensors[k]) for k in b.tensors)
    with pytest.raises(ArtifactError, match="belong to a model with hash"):
        open_directions(tmp_path, model_hash="xyz")
    (tmp_path / "directions.safetensors").write_bytes(b"cut")
    with pytest.raises(ArtifactError, match="no readable directions"):
        open_directions(tmp_path).loaded()


def test_a_record_without_response_tokens_is_named():
    silent = toys.example("silent", 5, 5, 0)
    with pytest.raises(InputError, match="record silent has no response token"):
        MeanLogLikelihood("math", [*toys.examples(2), silent])


def test_a_record_whose_gradient_is_not_finite_is_named():
    model, items = toys.qwen2(torch.float32), toys.examples(4)
    with torch.no_grad():
        rare = int(items[2].input_ids[0])
        model.model.embed_tokens.weight[rare] = float("nan")
    clean = [i for i in items if rare not in i.input_ids]
    with pytest.raises(ModelError, match="record r"):
        gradient(model, MeanLogLikelihood("math", items), tracked_weights(model))
    assert len(clean) < len(items)


def test_directions_written_a_few_at_a_time_are_read_a_few_at_a_time(tmp_path):
    tracked = tracked_weights(toys.qwen2())
    made = [toys.direction(tracked.parameters, k) for k in range(5)]
    save_directions(iter(made), tmp_path, model_hash="abc", at_once=2)
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == [
        "directions-00001.safetensors",
        "directions-00002.safetensors",
        "directions.safetensors",
    ]
    saved = open_directions(tmp_path, model_hash="abc")
    assert len(saved) == 5 and [d.name for d in saved[3:]] == ["d3", "d4"]
    for k in (0, 3, -1):
        assert distance(saved[k], made[k].tensors) == 0.0
    backwards = saved[::-2].stacked()
    assert all(torch.equal(t, torch.stack([made[k].tensors[n] for k in (4, 2, 0)])) for n, t in backwards.items())
    weights = [0.5, -1.0, 0.25, 0.0, 3.0]
    expected = sum(w * d.tensors["model.layers.0.mlp.up_proj.weight"] for w, d in zip(weights, made))
    assert toys.error(combine(saved, weights).tensors["model.layers.0.mlp.up_proj.weight"], expected) < 1e-14
    (tmp_path / "directions-00001.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"directions-00001\.safetensors is missing"):
        open_directions(tmp_path).loaded()
