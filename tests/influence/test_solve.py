"""Conjugate gradients against a dense Gauss-Newton matrix built by autograd."""

import pytest
import torch
from torch.func import functional_call, jacrev

from infra.errors import InputError
from infra.influence import (
    CGSettings,
    Damping,
    Engine,
    MeanLogLikelihood,
    cg_directions,
    fit_ekfac,
    gauss_newton_products,
    gradient,
)
from infra.influence.engine.derivative import TANGENTS_PER_PASS
from infra.models import float64_everywhere, tracked_weights
from tests.influence import toys


def dense_gauss_newton(model, items, names):
    """Oracle: (1/N) sum J^T (diag p - p p^T) J with J the full Jacobian of the logits."""
    sizes = [dict(model.named_parameters())[n].numel() for n in names]
    total = torch.zeros(sum(sizes), sum(sizes), dtype=torch.float64)
    parameters = {n: dict(model.named_parameters())[n].detach() for n in names}
    for item in items:
        ids = torch.from_numpy(item.input_ids)[None]
        keep = torch.from_numpy(item.loss_mask[1:])

        def logits(p, ids=ids, keep=keep):
            return functional_call(model, p, (), {"input_ids": ids, "use_cache": False}).logits[0, :-1][keep]

        with float64_everywhere():
            jacobian = jacrev(logits)(parameters)
            p = logits(parameters).softmax(-1).detach()
        j = torch.cat([jacobian[n].flatten(2) for n in names], dim=2)
        inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        total += torch.einsum("rvp,rvw,rwq->pq", j, inner, j)
    return (total / len(items)).detach()


def flat(direction, names):
    return torch.cat([direction.tensors[n].flatten() for n in names])


@pytest.fixture(scope="module")
def system():
    model = toys.qwen2(hidden_size=8, intermediate_size=6, num_attention_heads=2, num_key_value_heads=1, vocab_size=9)
    items = [toys.example(f"r{k}", 5 + k, 2, k, 9) for k in range(3)]
    tracked = tracked_weights(model, "mlp")
    return model, items, tracked, dense_gauss_newton(model, items, tracked.names)


def test_gauss_newton_product_is_the_dense_matrix(system):
    model, items, tracked, dense = system
    vector = toys.direction(tracked.parameters, 0)
    [found] = gauss_newton_products(Engine(model, tracked, 9), items, [vector])
    assert toys.error(flat(found, tracked.names), dense @ flat(vector, tracked.names)) < 1e-10


def test_more_vectors_than_a_pass_carries_are_multiplied_by_the_dense_matrix(system):
    model, items, tracked, dense = system
    vectors = [toys.direction(tracked.parameters, seed) for seed in range(TANGENTS_PER_PASS + 2)]
    found = gauss_newton_products(Engine(model, tracked), items, vectors)
    for product, vector in zip(found, vectors, strict=True):
        assert toys.error(flat(product, tracked.names), dense @ flat(vector, tracked.names)) < 1e-10


def test_several_targets_converge_to_their_dense_solves(system):
    model, items, tracked, dense = system
    curvature = fit_ekfac(model, items, tracked)
    grads = [toys.direction(tracked.parameters, seed).renamed(str(seed)) for seed in range(3)]
    grads.append(grads[0] * 0.0)
    reported = []
    together = cg_directions(
        Engine(model, tracked),
        items,
        grads,
        curvature,
        CGSettings(steps=40, tolerance=1e-8),
        on_step=lambda *s: reported.append(s),
    )
    damped = dense + together[0].damping * torch.eye(len(dense), dtype=torch.float64)
    for solved, grad in zip(together[:3], grads[:3], strict=True):
        expected = torch.linalg.solve(damped, flat(grad, tracked.names))
        assert toys.error(flat(solved.direction, tracked.names), expected) < 1e-6
        assert solved.direction.name == grad.name and solved.residuals[-1] < 1e-8
    assert together[3].direction.norm() == 0.0 and together[3].residuals == (0.0,)
    assert reported[-1][0] == max(len(s.residuals) for s in together) - 1 and reported[-1][1] < 1e-8


def test_conjugate_gradients_converge_to_the_dense_solve(system):
    model, items, tracked, dense = system
    grad = gradient(model, MeanLogLikelihood("math", items), tracked)
    curvature = fit_ekfac(model, items, tracked)
    lam = 10 * float(dense.diagonal().mean())
    expected = torch.linalg.solve(dense + lam * torch.eye(len(dense), dtype=torch.float64), flat(grad, tracked.names))
    for preconditioner in (None, curvature):
        [solved] = cg_directions(
            Engine(model, tracked), items, [grad], preconditioner, CGSettings(Damping(lam, "absolute"), 90, 1e-8)
        )
        assert toys.error(flat(solved.direction, tracked.names), expected) < 1e-6
        assert solved.residuals[-1] < 1e-8


def test_relative_damping_needs_a_curvature(system):
    model, items, tracked, _ = system
    grad = toys.direction(tracked.parameters, 0)
    with pytest.raises(InputError, match="needs a curvature"):
        cg_directions(Engine(model, tracked), items, [grad])
