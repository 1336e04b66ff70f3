"""Curvature against dense matrices built by autograd, in float64."""

import copy

import numpy as np
import pytest
import torch

from infra.errors import ArtifactError, InputError, ModelError
from infra.influence import (
    EKFAC,
    MeanLogLikelihood,
    ekfac_direction,
    fit_diagonal,
    fit_ekfac,
    fit_kfac,
    gradient,
    identity,
    subsample,
)
from infra.models import tracked_weights
from infra.records.tokenized import TokenizedExample
from tests.influence import toys


def sequence_gradients(model, items, name):
    """Oracle: each sequence's gradient of the summed log-likelihood, [n, out, in]."""
    return torch.stack([sum(g[name] for g in toys.token_gradients(model, i, [name])) for i in items])


def one_token(name, context, label):
    return TokenizedExample(
        name, np.array([context, label]), np.array([False, True]), np.zeros((2, 2), np.int32), "", 0
    )


def test_ekfac_eigenvalues_are_the_mean_squared_rotated_sequence_gradients():
    model, items = toys.qwen2(), toys.examples(8)
    tracked = tracked_weights(model)
    fitted = fit_ekfac(model, items, tracked, fisher="empirical", max_tokens=30)
    for block in tracked.blocks:
        factor = fitted.factors[block.key]
        rotated = factor.rotate(sequence_gradients(model, items, block.weight))
        assert toys.error(factor.eigenvalues, rotated.square().mean(0)) < 1e-10
        assert toys.error(factor.outputs.T @ factor.outputs, torch.eye(block.shape[0])) < 1e-12


def test_both_orders_of_rotation_agree(monkeypatch):
    from infra.influence import factors

    model, items = toys.qwen2(), toys.examples(6)
    tracked = tracked_weights(model, "all")
    found = []
    for forced in (True, False):
        monkeypatch.setattr(factors, "_rotate_first", lambda *_, forced=forced: forced)
        found.append(fit_ekfac(model, items, tracked, seed=3))
    for key, factor in found[0].factors.items():
        assert toys.error(factor.eigenvalues, found[1].factors[key].eigenvalues) < 1e-10


def test_factors_are_second_moments_over_positions_a_loss_flows_through():
    """The eigenvectors diagonalise sums of a a^T and g g^T collected by hand with module hooks."""
    model, items = toys.qwen2(), toys.examples(5)
    name = "model.layers.1.mlp.down_proj.weight"
    module = model.model.layers[1].mlp.down_proj
    a_sum, s_sum = 0, 0
    for item in items:
        seen = {}
        handles = [
            module.register_forward_hook(lambda _, i, o, seen=seen: seen.update(a=i[0][0].detach(), out=o)),
        ]
        ids = torch.from_numpy(item.input_ids)
        log_p = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        value = log_p.gather(1, ids[1:, None])[:, 0][torch.from_numpy(item.loss_mask[1:])].sum()
        (g,) = torch.autograd.grad(value, seen["out"])
        a_sum = a_sum + seen["a"][:-1].T @ seen["a"][:-1]
        s_sum = s_sum + g[0].T @ g[0]
        handles[0].remove()
    factor = fit_ekfac(model, items, tracked_weights(model), fisher="empirical").factors[name]
    for basis, total in ((factor.inputs, a_sum), (factor.outputs, s_sum)):
        rotated = basis.T @ total @ basis
        assert toys.error(rotated.diagonal().diag(), rotated) < 1e-5  # norms run in float32 in the oracle


def test_ekfac_and_kfac_are_exact_where_the_kronecker_assumption_holds():
    """With a zero output head the label gradients do not depend on the inputs: every context with every label."""
    model = toys.qwen2(tie_word_embeddings=False, vocab_size=5)
    torch.nn.init.zeros_(model.lm_head.weight)
    items = [one_token(f"{c}-{y}", c, y) for c in range(5) for y in range(5)]
    tracked = tracked_weights(model, "lm_head")
    flat = sequence_gradients(model, items, "lm_head.weight").flatten(1)
    dense = flat.T @ flat / len(items)
    grad = toys.direction(tracked.parameters, 0)
    damping = 0.01
    expected = torch.linalg.solve(
        dense + damping * torch.eye(len(dense), dtype=torch.float64), grad.tensors["lm_head.weight"].flatten()
    )
    for fit in (fit_ekfac, fit_kfac):
        fitted = fit(model, items, tracked, fisher="empirical")
        found = ekfac_direction(fitted, grad, damping, absolute=True).tensors["lm_head.weight"].flatten()
        assert toys.error(found, expected) < 1e-8


def test_true_fisher_labels_give_the_gauss_newton_matrix_on_average():
    """Over many seeds the eigenvalues of one-token sequences approach those of the exact Gauss-Newton matrix."""
    model = toys.qwen2(vocab_size=5)
    items = [one_token(f"{c}", c, 0) for c in range(5)]
    tracked = tracked_weights(model, "layers.1.mlp.down_proj")
    name = tracked.names[0]
    per_label = [sequence_gradients(model, [one_token("x", c, y) for y in range(5)], name) for c in range(5)]
    with torch.no_grad():
        p = model(input_ids=torch.arange(5)[:, None]).logits[:, 0].softmax(-1)
    exact = sum(p[c, y] * per_label[c][y].square() for c in range(5) for y in range(5)) / 5
    drawn = torch.stack(
        [fit_diagonal(model, items, tracked, seed=s, model_hash="").factors[name].eigenvalues for s in range(60)]
    )
    difference = (drawn.mean(0) - exact).norm() / exact.norm()
    noise = (drawn.var(0).sum() / 60).sqrt() / exact.norm()
    assert difference < 2.5 * noise
    assert noise < 0.3


def test_sampled_labels_do_not_depend_on_the_batch():
    model, items = toys.qwen2(), toys.examples(6)
    tracked = tracked_weights(model)
    first = fit_ekfac(model, items, tracked, seed=1)
    for options in ({"max_tokens": 13}, {"packed": True}):
        other = fit_ekfac(model, items, tracked, seed=1, **options)
        for key, factor in first.factors.items():
            assert toys.error(other.factors[key].eigenvalues, factor.eigenvalues) < 1e-8
    another = fit_ekfac(model, items, tracked, seed=2)
    key = tracked.blocks[0].key
    assert toys.error(another.factors[key].eigenvalues, first.factors[key].eigenvalues) > 1e-3


def test_per_token_eigenvalues_drop_products_across_positions():
    model, items = toys.qwen2(), toys.examples(4)
    tracked = tracked_weights(model)
    fitted = fit_ekfac(model, items, tracked, fisher="empirical", eigenvalues="per_token")
    # for sequences with a single prediction at position 0 there is nothing to drop
    pairs = [one_token(f"p{k}", k, k + 1) for k in range(6)]
    token, sequence = (
        fit_ekfac(model, pairs, tracked, fisher="empirical", eigenvalues=form) for form in ("per_token", "per_sequence")
    )
    for key in token.factors:
        assert toys.error(token.factors[key].eigenvalues, sequence.factors[key].eigenvalues) < 1e-10
        assert (fitted.factors[key].eigenvalues >= 0).all()


def test_leaving_the_prompt_out_of_the_factors_changes_them():
    model, items = toys.qwen2(), toys.examples(5)
    tracked = tracked_weights(model)
    whole, response = (fit_ekfac(model, items, tracked, include_prompt=p) for p in (True, False))
    assert response.info.positions < whole.info.positions
    assert response.info.positions == sum(i.n_response_tokens for i in items)


def test_identity_and_damping():
    model, items = toys.qwen2(), toys.examples(5)
    tracked = tracked_weights(model)
    grad = gradient(model, MeanLogLikelihood("math", items), tracked)
    same = ekfac_direction(identity(tracked), grad, damping=0.0)
    assert all(torch.allclose(same.tensors[k], t) for k, t in grad.tensors.items())
    fitted = fit_ekfac(model, items, tracked)
    block = tracked.blocks[0]
    factor = fitted.factors[block.key]
    lam = 0.1 * factor.eigenvalues.mean()
    expected = factor.rotate_back(factor.rotate(grad.tensors[block.weight]) / (factor.eigenvalues + lam))
    found = ekfac_direction(fitted, grad, damping=0.1).tensors[block.weight]
    assert toys.error(found, expected) < 1e-10
    with pytest.raises(InputError, match="must not be negative"):
        ekfac_direction(fitted, grad, damping=-1.0)


def test_saved_factors_come_back_and_another_model_is_refused(tmp_path):
    model, items = toys.qwen2(torch.float32), toys.examples(5)
    tracked = tracked_weights(model)
    fitted = fit_ekfac(model, items, tracked)
    fitted.save(tmp_path)
    again = EKFAC.load(tmp_path, model_hash=fitted.info.model_hash)
    assert again.info == fitted.info and again.blocks == fitted.blocks
    for key, factor in fitted.factors.items():
        assert torch.equal(again.factors[key].eigenvalues, factor.eigenvalues)
        assert torch.equal(again.factors[key].inputs, factor.inputs)
    changed = copy.deepcopy(model)
    changed.model.norm.weight.data += 1
    other = fit_ekfac(changed, items, tracked_weights(changed)).info.model_hash
    with pytest.raises(ModelError, match="fitted on a model with hash"):
        EKFAC.load(tmp_path, model_hash=other)
    (tmp_path / "factors.json").write_text("{")
    with pytest.raises(ArtifactError, match="no factors that can be read"):
        EKFAC.load(tmp_path)


def test_a_subsample_depends_on_ids_alone():
    items = toys.examples(20)
    some = {e.id for e in subsample(items, 0.5, seed=1)}
    assert len(some) == 10
    assert {e.id for e in subsample(items[::-1], 0.5, seed=1)} == some
