"""Whether the model is near the end of training on the data, against autograd and on models that were trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from infra.data import tokenize
from infra.errors import InputError
from infra.influence import Engine
from infra.influence.convergence import convergence
from infra.models import float64_everywhere, load_model, load_tokenizer, tracked_weights
from infra.train import SFTConfig, fine_tune
from infra.world import BASE_MODEL, build_world
from tests.influence import toys


def examples(n: int, seed: int, length: int = 10):
    """Sequences whose next token is mostly the last one plus 3, closed by the template's token 1."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        ids = [int(rng.integers(2, 23))]
        for _ in range(length - 2):
            ids.append(2 + (ids[-1] + 1) % 21 if rng.random() < 0.7 else int(rng.integers(2, 23)))
        ids.append(1)
        mask = np.arange(length) >= 2
        content = mask & (np.arange(length) < length - 1)
        made = toys.example(f"e{seed}-{i}", length, 2, i)
        out.append(replace(made, input_ids=np.array(ids), loss_mask=mask, content_mask=content))
    return out


def losses(model, example):
    ids = torch.from_numpy(example.input_ids)
    with float64_everywhere():
        logits = model(ids[None]).logits[0, :-1].log_softmax(-1)
    return torch.cat([logits.new_zeros(1), -logits.gather(1, ids[1:, None])[:, 0]])


def trained(items, epochs: int, seed: int = 0):
    model = toys.qwen2(torch.float32, seed, initializer_range=0.1)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    steps = epochs * max(1, len(items) // 8)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, max(1, steps))
    order = np.random.default_rng(seed)
    for _ in range(epochs):
        for batch in np.array_split(order.permutation(len(items)), max(1, len(items) // 8)):
            ids = torch.from_numpy(np.stack([items[i].input_ids for i in batch]))
            mask = torch.from_numpy(np.stack([items[i].loss_mask for i in batch]))
            logits = model(ids).logits[:, :-1].log_softmax(-1)
            loss = -(logits.gather(2, ids[:, 1:, None])[..., 0] * mask[:, 1:]).sum() / mask.sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model


def test_it_is_what_autograd_says_of_the_content_of_every_example():
    model, items = toys.qwen2(), examples(6, 1)
    tracked = tracked_weights(model)
    found = convergence(Engine(model, tracked, 30), items)
    rows, content, template = [], [], []
    for e in items:
        values = losses(model, e)
        own = values[torch.from_numpy(e.content_mask)]
        grads = torch.autograd.grad(own.sum(), list(tracked.parameters.values()), retain_graph=True)
        rows.append(torch.cat([g.reshape(-1) for g in grads]))
        content += own.tolist()
        template += values[torch.from_numpy(e.template_mask)].tolist()
    g = torch.stack(rows)
    inner = g @ g.T
    pairs = (inner.sum() - inner.trace()) / (len(items) * (len(items) - 1))
    assert found.alignment == pytest.approx(float(pairs / inner.trace() * len(items)), rel=1e-9)
    assert found.mean_gradient == pytest.approx(float(g.mean(0).norm()), rel=1e-9)
    assert found.example_gradient == pytest.approx(float(inner.trace() / len(items)) ** 0.5, rel=1e-9)
    assert found.content_loss == pytest.approx(np.mean(content), rel=1e-9)
    assert found.template_loss == pytest.approx(np.mean(template), rel=1e-9)


def test_a_model_at_its_start_still_learns_in_common_and_one_trained_on_the_data_does_not():
    data, other = examples(96, 2), [replace(e, input_ids=24 - e.input_ids.clip(2, 22)) for e in examples(96, 3)]
    measured = {
        name: convergence(Engine(model, tracked_weights(model)), data[:48])
        for name, model in (
            ("start", trained(data, 0)),
            ("trained", trained(data, 60)),
            ("on other data", trained(other, 60)),
        )
    }
    assert not measured["start"].holds and measured["trained"].holds and not measured["on other data"].holds, measured


def test_the_verdict_is_right_in_four_made_cases_of_the_embedded_model(tmp_path):
    world, tokenizer = build_world(), load_tokenizer(str(BASE_MODEL))
    sets = {
        domain: tokenize([r for r in world.train if r.domain == domain][:64], tokenizer, max_length=512).examples
        for domain in ("math", "code")
    }

    def looked_at(path):
        model, _ = load_model(path, dtype="float32")
        return convergence(Engine(model, tracked_weights(model)), sets["math"][:48])

    def tuned(name, items, epochs, schedule):
        rate = {"learning_rate": 1e-3, "epochs": epochs, "schedule": schedule, "batch_size": 8}
        fine_tune(BASE_MODEL, items, tmp_path / name, SFTConfig(**rate, device="cpu", dtype="float32"), seed=0)
        return looked_at(tmp_path / name)

    found = {
        "base": looked_at(str(BASE_MODEL)),
        "half trained": tuned("half", sets["math"], 1, "constant"),
        "fine-tuned": tuned("tuned", sets["math"], 4, "cosine"),
        "on other data": tuned("other", sets["code"], 4, "cosine"),
    }
    assert [name for name, one in found.items() if one.holds] == ["fine-tuned"], found
    assert found["base"].template_loss > 1 > found["fine-tuned"].template_loss


def test_one_example_or_none_says_nothing():
    model = toys.qwen2()
    with pytest.raises(InputError, match="give 2"):
        convergence(Engine(model, tracked_weights(model)), examples(1, 0))
