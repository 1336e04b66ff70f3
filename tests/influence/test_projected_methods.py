"""TRAK, LESS and TrackStar against dense algebra on explicit per-example gradients by plain autograd, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from infra.influence import Damping, MeanLogLikelihood
from infra.influence.engine.projection import Projection, projected_gradients
from infra.influence.methods import Engine, MethodContext, get_method
from infra.influence.methods.trackstar import FLOOR, mixing
from infra.models import float64_everywhere, tracked_weights
from infra.train import SFTConfig
from infra.train.flat_model import flat_model
from infra.train.recorded import RecordedRun
from infra.train.replay import plan_of_sft
from tests.influence import toys

RANK, SEED = 4, 3


@pytest.fixture(scope="module")
def context():
    model, train = toys.qwen2(), toys.examples(7)
    queries = [e for e in toys.examples(9, seed=1) if e.n_response_tokens][:5]
    config = SFTConfig(learning_rate=1e-2, epochs=3, batch_size=3, warmup_ratio=0.3, schedule="cosine")
    run = RecordedRun(flat_model(model), plan_of_sft(config, len(train), 0, 20.0), train)
    trained = run.flat.into(run.trained())
    targets = [MeanLogLikelihood("a", queries[:3]), MeanLogLikelihood("b", queries[3:])]
    return MethodContext(Engine(trained, tracked_weights(trained), 30), train, targets, seed=SEED, recorded=run)


def token_rows(model, item, names):
    """grad log p of every token, ``{name: [T, *shape]}``, float64."""
    found = toys.token_gradients(model, item, list(names))
    return {name: torch.stack([g[name] for g in found]).double() for name in names}


def dense(tracked, rank):
    """The projection of each block as a matrix ``[o i, r r]`` that acts on the flattened weight gradient."""
    projection = Projection(rank, SEED)
    like = torch.zeros(0, dtype=torch.float64)
    return {b.weight: torch.kron(*(side.contiguous() for side in projection.sides(b, like))) for b in tracked.blocks}


def example_rows(model, items, tracked):
    """grad log p(response) of every example, ``{name: [N, o i]}``."""
    return {
        name: torch.stack([token_rows(model, e, tracked.names)[name].sum(0).flatten() for e in items])
        for name in tracked.names
    }


def target_rows(context):
    """Gradients of each target's queries, per token and not yet averaged: a list of ``{name: [n, o i]}``."""
    out = []
    for target in context.targets:
        counts = torch.tensor([e.n_response_tokens for e in target.examples])[:, None]
        rows = example_rows(context.engine.model, target.examples, context.engine.tracked)
        out.append({name: g / counts for name, g in rows.items()})
    return out


def found_scores(name, context, items, tokens, **settings):
    rows = sorted(get_method(name, **settings).fit(context).scores(items, tokens), key=lambda s: s.index)
    return np.stack([s.example for s in rows]), [s.tokens for s in rows]


def probabilities(model, item):
    with float64_everywhere(), torch.no_grad():
        logits = model(input_ids=torch.from_numpy(item.input_ids)[None]).logits[0]
    p = logits.softmax(-1)[:-1].gather(1, torch.from_numpy(item.input_ids)[1:, None])[:, 0]
    return torch.cat([torch.zeros(1, dtype=p.dtype), p])


def unit(rows):
    return rows / rows.norm(dim=-1, keepdim=True)


def test_a_projection_is_the_kronecker_product_of_its_sides(context):
    engine = context.engine
    by_block = {key: torch.zeros(7, RANK**2, dtype=torch.float64) for key in engine.tracked.names}
    for indices, rows in projected_gradients(
        engine.model, context.examples, engine.tracked, Projection(RANK, SEED), by_block=True, max_tokens=30
    ):
        for block in engine.tracked.blocks:
            by_block[block.weight][indices] = rows[block.key]
    expected = example_rows(engine.model, context.examples, engine.tracked)
    for name, matrix in dense(engine.tracked, RANK).items():
        assert toys.error(by_block[name], expected[name] @ matrix) < 1e-10


def test_projected_inner_products_are_right_on_average(context):
    """Over 400 seeds the mean of <P g, P h> comes to <g, h>; its standard error is about |g| |h| / 20 / rank."""
    block = context.engine.tracked.blocks[0]
    g, h = (torch.randn(block.shape, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (0, 1))
    h = g + 0.3 * h
    values = [float(p.of(block, g) @ p.of(block, h)) for p in (Projection(8, seed) for seed in range(400))]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - float((g * h).sum())) < 4 * error and error < 0.05 * float(g.norm() * h.norm())


def test_trak_is_the_linear_model_in_margin_features(context):
    """Margins differentiated as log(p / (1 - p)) by autograd, the kernel solved densely, scores weighted by 1 - p."""
    model, tracked = context.engine.model, context.engine.tracked
    matrices = dense(tracked, RANK)

    def features(rows):
        return sum(rows[name] @ matrix for name, matrix in matrices.items())

    phi, q, parts = [], [], []
    for item in context.examples:
        mask, p = torch.from_numpy(item.loss_mask), probabilities(model, item)
        rows = token_rows(model, item, tracked.names)
        # d log(p / (1 - p)) = d log p / (1 - p): the next test
        margins = {name: g.flatten(1) / (1 - p)[:, None] for name, g in rows.items()}
        parts.append(features(margins))
        phi.append(parts[-1].sum(0))
        q.append(float((1 - p)[mask].mean()) if mask.any() else 0.0)
    phi, q = torch.stack(phi), torch.tensor(q, dtype=torch.float64)
    kernel = phi.T @ phi
    kernel += 0.1 * kernel.trace() / len(kernel) * torch.eye(len(kernel), dtype=torch.float64)
    asked = torch.stack([features({n: g.mean(0) for n, g in rows.items()}) for rows in target_rows(context)])
    solved = torch.linalg.inv(kernel) @ asked.T
    expected = q[:, None] * (phi @ solved)
    for tokens in (True, False):
        found, by_token = found_scores("trak", context, context.examples, tokens, rank=RANK)
        assert toys.error(found, expected) < 1e-8
    _, by_token = found_scores("trak", context, context.examples, True, rank=RANK)
    for part, weight, own in zip(parts, q, by_token, strict=True):
        assert toys.error(own, weight * (part @ solved).T) < 1e-8 or float(weight) == 0.0


def test_the_margin_gradient_is_that_of_the_log_odds(context):
    """d log(p / (1 - p)) by autograd itself, so that the identity used above is not taken on trust."""
    model, item = context.engine.model, context.examples[0]
    name = context.engine.tracked.names[0]
    parameter = dict(model.named_parameters())[name]
    t = int(np.flatnonzero(item.loss_mask)[0])
    parameter.requires_grad_(True)
    with float64_everywhere():
        logits = model(input_ids=torch.from_numpy(item.input_ids)[None]).logits[0, t - 1]
        p = logits.softmax(-1)[int(item.input_ids[t])]
        odds = torch.autograd.grad((p / (1 - p)).log(), parameter)[0]
    expected = token_rows(model, item, [name])[name][t] / (1 - p.item())
    assert toys.error(odds, expected) < 1e-9


def test_less_is_the_cosine_of_adam_updates_weighted_by_learning_rate(context):
    """Two checkpoints of a real run of torch's AdamW: the update is what the optimiser itself does next."""
    run, tracked = context.recorded, context.engine.tracked
    matrices = dense(tracked, RANK)
    steps = run.checkpoint_steps(2)
    assert steps[-1] == run.plan.steps and len(steps) == 2
    total, before = 0.0, 0
    model = toys.qwen2()
    for state in run.checkpoints(2):
        for name, value in run.flat.unflatten(state.theta).items():
            dict(model.named_parameters())[name].data.copy_(value)
        rate, before = float(np.mean(run.plan.learning_rates[before : state.step])), state.step
        grads = example_rows(model, context.examples, tracked)
        counts = torch.tensor([max(1, e.n_response_tokens) for e in context.examples])[:, None]
        updates = {name: next_adam_steps(run, state, name, -g / counts) for name, g in grads.items()}
        own = unit(sum(updates[name] @ m for name, m in matrices.items()))
        here = replace(context, engine=Engine(model, tracked_weights(model), 30), shared={})
        asked = torch.stack(
            [unit(sum(-rows[n] @ m for n, m in matrices.items())).mean(0) for rows in target_rows(here)]
        )
        total = total + rate * own @ asked.T
    found, tokens = found_scores("less", context, context.examples, True, rank=RANK, checkpoints=2)
    assert toys.error(found, total) < 1e-8 and tokens == [None] * 7


def next_adam_steps(run, state, name, gradients):
    """What torch's Adam, put into the recorded state, does to a parameter under each gradient ``[N, o i]``."""
    first, second = (run.flat.unflatten(t)[name].flatten() for t in (state.first, state.second))
    rows = []
    for g in gradients:
        parameter = torch.nn.Parameter(torch.zeros_like(first))
        adam = torch.optim.Adam([parameter], lr=1.0, betas=run.plan.betas, eps=run.plan.eps)
        adam.state[parameter] = {
            "step": torch.tensor(float(state.step)),
            "exp_avg": first.clone(),
            "exp_avg_sq": second.clone(),
        }
        parameter.grad = g.clone()
        adam.step()
        rows.append(-parameter.detach())
    return torch.stack(rows)


@pytest.mark.parametrize("recorded", [True, False])
def test_trackstar_is_the_cosine_under_both_corrections(context, recorded):
    """V from the run's optimiser or from squared gradients; R mixed; everything as dense matrices."""
    model, tracked = context.engine.model, context.engine.tracked
    given = context if recorded else replace(context, recorded=None, shared={})
    matrices, rank, damping = dense(tracked, 3), 3, 0.2
    train = example_rows(model, context.examples, tracked)
    counts = [len(t.examples) for t in context.targets]
    queries = example_rows(model, [e for t in context.targets for e in t.examples], tracked)
    if recorded:
        final = context.recorded.checkpoints(1)[-1]
        second = {n: context.recorded.flat.unflatten(final.second)[n].flatten() for n in tracked.names}
    else:
        second = {n: g.square().mean(0) for n, g in train.items()}
    scale = {n: (v + FLOOR * v.mean()).rsqrt() for n, v in second.items()}
    phi, asked = ({n: (rows[n] * scale[n]) @ m for n, m in dense(tracked, rank).items()} for rows in (train, queries))
    moments = [{n: t.T @ t / len(t) for n, t in side.items()} for side in (asked, phi)]
    pooled = [np.sort(np.concatenate([np.linalg.eigvalsh(m) for m in side.values()]))[::-1] for side in moments]
    k = 10
    share = pooled[1][k - 1] / (pooled[0][k - 1] + pooled[1][k - 1])
    assert mixing(*moments, k) == pytest.approx(share) and 0 < share < 1
    roots = {}
    for name in matrices:
        r = share * moments[0][name] + (1 - share) * moments[1][name]
        r = r + damping * r.trace() / len(r) * torch.eye(len(r), dtype=torch.float64)
        roots[name] = torch.from_numpy(np.linalg.inv(np.real(_root(r.numpy()))))
        assert torch.allclose(roots[name] @ r @ roots[name], torch.eye(len(r), dtype=torch.float64), atol=1e-8)
    own, other = (unit(torch.cat([side[n] @ roots[n] for n in matrices], dim=1)) for side in (phi, asked))
    targets = torch.stack([part.mean(0) for part in other.split(counts)])
    expected = own @ targets.T
    settings = {"rank": rank, "damping": Damping(damping), "downweighted": k}
    for tokens in (True, False):
        found, by_token = found_scores("trackstar", given, context.examples, tokens, **settings)
        assert toys.error(found, expected) < 1e-7
    _, by_token = found_scores("trackstar", given, context.examples, True, **settings)
    item, row = context.examples[2], by_token[2]
    rows = token_rows(model, item, tracked.names)
    turned = torch.cat([(rows[n].flatten(1) * scale[n]) @ m @ roots[n] for n, m in matrices.items()], dim=1)
    assert toys.error(row, targets @ turned.T / turned.sum(0).norm()) < 1e-7


def _root(matrix):
    from scipy.linalg import sqrtm

    return sqrtm(matrix)
