"""Curvature against dense matrices built by autograd, in float64."""

import copy
import itertools

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from infra.data.tokenized import TokenizedExample
from infra.errors import ArtifactError, InputError, ModelError
from infra.influence import (
    Agreement,
    Curvature,
    Damping,
    Engine,
    FitSettings,
    MeanLogLikelihood,
    agreeing_sample,
    example_influence,
    fit_curvature,
    fit_diagonal,
    fit_ekfac,
    fit_kfac,
    gradient,
    identity,
    subsample,
    training_probes,
)
from infra.influence.engine import covariances as covariances_module
from infra.influence.engine import squares
from infra.influence.fit import Sample, by_hash
from infra.influence.steps import InMemory
from infra.models import tracked_weights
from tests.influence import toys


def sequence_gradients(model, items, name):
    """Oracle: each sequence's gradient of the summed log-likelihood, [n, out, in]."""
    return torch.stack([sum(g[name] for g in toys.token_gradients(model, i, [name])) for i in items])


def flat(direction):
    return torch.cat([t.flatten() for t in direction.tensors.values()])


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


def test_all_orders_of_rotation_agree(monkeypatch):
    model, items = toys.qwen2(), toys.examples(6)
    tracked = tracked_weights(model, "all")
    found = []
    for outputs_and_inputs in itertools.product((True, False), repeat=2):
        forced = itertools.cycle(outputs_and_inputs)
        monkeypatch.setattr(squares, "rotate_rows", lambda *_, forced=forced: next(forced))
        found.append(fit_ekfac(model, items, tracked, seed=3))
    for other in found[1:]:
        for key, factor in found[0].factors.items():
            assert toys.error(factor.eigenvalues, other.factors[key].eigenvalues) < 1e-10


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
        found = (fitted.inverse(Damping(damping, "absolute")) @ grad).tensors["lm_head.weight"].flatten()
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
    same = identity(tracked).inverse(Damping(0.0)) @ grad
    assert all(torch.allclose(same.tensors[k], t) for k, t in grad.tensors.items())
    fitted = fit_ekfac(model, items, tracked)
    block = tracked.blocks[0]
    factor = fitted.factors[block.key]
    lam = 0.1 * factor.eigenvalues.mean()
    expected = factor.rotate_back(factor.rotate(grad.tensors[block.weight]) / (factor.eigenvalues + lam))
    found = (fitted.inverse(Damping(0.1)) @ grad).tensors[block.weight]
    assert toys.error(found, expected) < 1e-10
    with pytest.raises(InputError, match="must not be negative"):
        fitted.inverse(Damping(-1.0)) @ grad


def test_saved_factors_come_back_and_another_model_is_refused(tmp_path):
    model, items = toys.qwen2(torch.float32), toys.examples(5)
    tracked = tracked_weights(model)
    fitted = fit_ekfac(model, items, tracked)
    fitted.save(tmp_path)
    again = Curvature.load(tmp_path, model_hash=fitted.info.model_hash)
    assert again.info == fitted.info and again.blocks == fitted.blocks
    for key, factor in fitted.factors.items():
        assert torch.equal(again.factors[key].eigenvalues, factor.eigenvalues)
        assert torch.equal(again.factors[key].inputs, factor.inputs)
    changed = copy.deepcopy(model)
    changed.model.norm.weight.data += 1
    other = fit_ekfac(changed, items, tracked_weights(changed)).info.model_hash
    with pytest.raises(ModelError, match="fitted on a model with hash"):
        Curvature.load(tmp_path, model_hash=other)
    (tmp_path / "factors.json").write_text("{")
    with pytest.raises(ArtifactError, match="no factors that can be read"):
        Curvature.load(tmp_path)


def test_a_subsample_depends_on_ids_alone():
    items = toys.examples(20)
    some = {e.id for e in subsample(items, 0.5, seed=1)}
    assert len(some) == 10
    assert {e.id for e in subsample(items[::-1], 0.5, seed=1)} == some


def test_wide_sides_in_blocks_are_orthogonal_bases_with_measured_eigenvalues():
    """Blocks of 7 on sides of 16 and 24, the last one cut; eigenvectors diagonalise each block of the whole factor."""
    model, items = toys.qwen2(), toys.examples(6)
    tracked = tracked_weights(model)
    whole, cut = (fit_ekfac(model, items, tracked, fisher="empirical", block_size=b) for b in (None, 7))
    wide = fit_ekfac(model, items, tracked, fisher="empirical", block_size=24)
    assert cut.info.block_size == 7
    for block in tracked.blocks:
        factor = cut.factors[block.key]
        o, i = block.shape
        assert factor.outputs.shape == (-(-o // 7), 7, 7) and factor.inputs.shape == (-(-i // 7), 7, 7)
        grads = sequence_gradients(model, items, block.weight)
        dense_s, dense_a = (torch.block_diag(*q)[:n, :n] for q, n in ((factor.outputs, o), (factor.inputs, i)))
        assert toys.error(dense_s.T @ dense_s, torch.eye(o)) < 1e-12
        rotated = dense_s.T @ grads @ dense_a
        assert toys.error(factor.rotate(grads), rotated) < 1e-12
        assert toys.error(factor.rotate_back(factor.rotate(grads)), grads) < 1e-12
        assert toys.error(factor.eigenvalues, rotated.square().mean(0)) < 1e-10
        # the whole factor, from its eigenvectors and values up to scale, has the same diagonal blocks
        assert torch.equal(wide.factors[block.key].eigenvalues, whole.factors[block.key].eigenvalues)
    one = tracked_weights(model, "layers.0.mlp.gate_proj")
    engine = Engine(model, one)
    full, parts = (
        covariances_module.covariances(engine, items, FitSettings(fisher="empirical", block_size=b)) for b in (None, 7)
    )
    key = one.blocks[0].key
    for side in ("inputs", "outputs"):
        dense, blocks = getattr(full, side)[key], getattr(parts, side)[key]
        for n, part in enumerate(blocks):
            here = slice(7 * n, min(7 * n + 7, len(dense)))
            size = here.stop - here.start
            assert toys.error(part[:size, :size], dense[here, here]) < 1e-12
            assert not part[size:].any()


def test_blocks_as_wide_as_the_side_solve_exactly_and_survive_the_disk(tmp_path):
    model, items = toys.qwen2(), toys.examples(5)
    tracked = tracked_weights(model, "all")
    fitted = fit_ekfac(model, items, tracked, block_size=9)
    fitted.save(tmp_path)
    grad = toys.direction(tracked.parameters, 0)
    found, again = (c.inverse() @ grad for c in (fitted, Curvature.load(tmp_path)))
    dampings = fitted.dampings(Damping(0.1))
    for block in tracked.blocks:
        matrix = block.matrix(found.tensors)
        factor = fitted.factors[block.key]
        image = factor.rotate_back(factor.rotate(matrix) * (factor.eigenvalues + dampings[block.key]))
        assert toys.error(image, block.matrix(grad.tensors)) < 1e-10
        assert torch.equal(matrix, block.matrix(again.tensors))


def both_halves(engine: Engine, sample: Sample) -> Curvature:
    """The curvature of a sample from the covariances that its rounds have added up."""
    return fit_curvature(InMemory(engine, sample.examples), sample.settings, sample.covariances).curvature("")


def test_halves_are_doubled_until_they_agree_and_the_factors_are_those_of_both():
    model, items = toys.qwen2(), toys.examples(40, longest=20)
    tracked = tracked_weights(model, "layers.1.mlp")
    engine, settings = Engine(model, tracked), FitSettings(seed=3)
    sample = agreeing_sample(engine, items, settings, agreement=Agreement(-1.0, start=8))
    loose = both_halves(engine, sample)
    assert loose.info.n_examples == 8 and sample.reached and len(sample.rounds) == 1
    expected = fit_ekfac(model, by_hash(items, 3)[:8], tracked, seed=3)
    grad = toys.direction(tracked.parameters, 0)
    assert toys.error(*(flat(c.inverse() @ grad) for c in (loose, expected))) < 1e-8
    sample = agreeing_sample(engine, items, settings, agreement=Agreement(1.1, start=8))
    strict = both_halves(engine, sample)
    assert [n for n, _ in sample.rounds] == [8, 32, 40] and not sample.reached
    everything = fit_ekfac(model, items, tracked, seed=3)
    assert toys.error(*(flat(c.inverse() @ grad) for c in (strict, everything))) < 1e-8
    rounds = dict(sample.rounds)
    assert rounds[40] > rounds[8]
    with pytest.raises(InputError, match="3 examples are too few"):
        agreeing_sample(engine, items[:3], settings)


def test_the_agreement_is_the_rank_correlation_of_the_halves_scores():
    """Recomputed by hand from the two halves, fitted apart."""
    model, items = toys.qwen2(), toys.examples(24)
    tracked = tracked_weights(model, "layers.1.mlp")
    probes = training_probes(model, items, tracked, seed=1)
    wanted = Agreement(-1.0, start=12, probes=probes)
    found = agreeing_sample(Engine(model, tracked), items, FitSettings(seed=1), agreement=wanted)
    order = by_hash(items, 1)[:12]
    halves = [fit_ekfac(model, order[side::2], tracked, seed=1) for side in (0, 1)]
    ranks = []
    for grad in probes.gradients:
        pair = [example_influence(model, probes.scored, [c.inverse() @ grad])[:, 0] for c in halves]
        ranks.append(spearmanr(*pair).statistic)
    assert found.rounds == ((12, pytest.approx(np.mean(ranks), abs=1e-12)),)


def test_per_token_eigenvalues_are_chosen_only_where_the_check_passes(tmp_path):
    model = toys.qwen2()
    tracked = tracked_weights(model, "layers.1.mlp")
    pairs = [one_token(f"p{k}", k % toys.VOCABULARY, (k + 1) % toys.VOCABULARY) for k in range(24)]
    same = fit_ekfac(model, pairs, tracked, fisher="empirical", eigenvalues="auto")  # one position: nothing to drop
    assert same.info.eigenvalues == "per_token"
    assert same.info.per_token_check[0] < 1e-10 and same.info.per_token_check[1] == pytest.approx(1.0)
    other = fit_ekfac(model, toys.examples(24), tracked, fisher="empirical", eigenvalues="auto")
    assert other.info.eigenvalues == "per_sequence" and other.info.per_token_check[0] > 0.05
    other.save(tmp_path)
    assert Curvature.load(tmp_path).info == other.info


def test_a_factor_that_cannot_be_decomposed_falls_back_and_names_the_weight(monkeypatch):
    from infra.influence.engine import rotation

    model, items = toys.qwen2(), toys.examples(5)
    tracked = tracked_weights(model, "layers.0.mlp")
    real = rotation._eigh

    def failing(total, dtype):
        if total.shape == (24, 24):
            raise torch.linalg.LinAlgError("did not converge")
        return real(total, dtype)

    monkeypatch.setattr(rotation, "_eigh", failing)
    with pytest.warns(RuntimeWarning, match=r"the factor of model\.layers\.0\.mlp\.\w+\.weight, \w+ could not be"):
        fitted = fit_ekfac(model, items, tracked, fisher="empirical")
    assert any("down_proj.weight, inputs" in w for w in fitted.info.warnings)
    factor = fitted.factors["model.layers.0.mlp.down_proj.weight"]
    assert torch.equal(factor.inputs, torch.eye(24, dtype=torch.float64))
    rotated = factor.rotate(sequence_gradients(model, items, "model.layers.0.mlp.down_proj.weight"))
    assert toys.error(factor.eigenvalues, rotated.square().mean(0)) < 1e-10  # still measured in the basis there is


def test_a_singular_curvature_without_damping_names_the_weight_and_leaves_its_null_space_out():
    model, items = toys.qwen2(), toys.examples(2)
    tracked = tracked_weights(model, "layers.0.mlp.gate_proj")
    fitted = fit_ekfac(model, items, tracked, fisher="empirical")
    grad = gradient(model, MeanLogLikelihood("math", items), tracked)
    with pytest.warns(RuntimeWarning, match=r"curvature of model\.layers\.0\.mlp\.gate_proj\.weight is singular"):
        found = fitted.inverse(Damping(0.0)) @ grad
    assert torch.isfinite(found.tensors["model.layers.0.mlp.gate_proj.weight"]).all()


def test_a_weight_that_no_loss_flows_through_is_named():
    model, items = toys.qwen2(), toys.examples(4)
    torch.nn.init.zeros_(model.model.layers[1].mlp.down_proj.weight)
    torch.nn.init.zeros_(model.model.layers[1].mlp.gate_proj.weight)
    tracked = tracked_weights(model, r"layers\.1\.mlp\.(up|down)_proj")
    with pytest.warns(RuntimeWarning, match=r"no loss flows through model\.layers\.1\.mlp\.up_proj\.weight"):
        fitted = fit_ekfac(model, items, tracked)
    grad = toys.direction(tracked.parameters, 0)
    assert np.isfinite(flat(fitted.inverse() @ grad)).all()


def test_decompositions_side_by_side_are_those_one_after_the_other():
    from infra.influence.engine.eigenbases import side_by_side
    from infra.influence.engine.rotation import eigenbasis

    rows = [torch.randn(60, width, generator=torch.Generator().manual_seed(width)) for width in (8, 24, 16, 5)]
    sides = [(r.T @ r, r.shape[1], "") for r in rows]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = side_by_side(lambda side: eigenbasis(side[0], side[1], torch.float32), sides)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    for (total, _, _), (values, vectors) in zip(sides, found):
        exact = torch.linalg.eigvalsh(total.double())
        assert torch.allclose(values, exact, rtol=1e-4, atol=1e-4 * float(exact.max()))
        assert torch.allclose(vectors @ torch.diag(values.float()) @ vectors.T, total, atol=1e-3)


def test_a_sum_without_a_decomposition_in_float32_gets_one_in_float64(monkeypatch):
    from infra.influence.engine.rotation import eigenbasis

    real, tried = torch.linalg.eigh, []

    def failing(matrix, UPLO="L"):
        tried.append(matrix.dtype)
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("did not converge")
        return real(matrix, UPLO=UPLO)

    monkeypatch.setattr(torch.linalg, "eigh", failing)
    values, vectors = eigenbasis(torch.diag(torch.tensor([1.0, 4.0])), 2, torch.float32)
    assert tried == [torch.float32, torch.float64]
    assert values.tolist() == [1.0, 4.0] and vectors.dtype == torch.float32
