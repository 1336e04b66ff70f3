"""Token and example scores against explicit per-token gradients in float64."""

import numpy as np
import pytest
import torch

from infra.errors import InputError
from infra.influence import (
    MeanLogLikelihood,
    example_influence,
    fit_ekfac,
    gradient,
    token_influence,
)
from infra.models import tracked_weights
from infra.models.precision import deterministic
from tests.influence import toys


def all_tokens(model, items, directions, **options):
    found = [None] * len(items)
    for chunk in token_influence(model, items, directions, **options):
        for index, scores in zip(chunk.indices, chunk.scores):
            found[index] = scores
    return found


@pytest.mark.parametrize("pattern", ["mlp", "attention", "all"])
@pytest.mark.parametrize("count", [1, 3])
def test_forward_scores_are_the_explicit_token_gradients_dotted_with_v(pattern, count):
    model, items = toys.qwen2(), toys.examples()
    parameters = tracked_weights(model, pattern).parameters
    directions = [toys.direction(parameters, k) for k in range(count)]
    found = all_tokens(model, items, directions, max_tokens=30)
    for item, scores in zip(items, found):
        assert toys.error(scores, toys.oracle_scores(model, item, directions)) < 1e-10
        assert (scores[:, ~item.loss_mask] == 0).all()


@pytest.mark.parametrize("pattern", ["mlp", "attention"])
def test_all_routes_sum_to_the_same_example_scores(pattern):
    model, items = toys.qwen2(), toys.examples(6)
    directions = [toys.direction(tracked_weights(model, pattern).parameters, k) for k in range(2)]
    examples = example_influence(model, items, directions, max_tokens=30)
    oracle = np.array([toys.oracle_scores(model, item, directions).sum(1) for item in items])
    assert toys.error(examples, oracle) < 1e-10
    for options, tolerance in [
        ({"route": "forward"}, 1e-10),
        ({"decomposition": "position"}, 1e-10),
        ({"route": "difference"}, 1e-7),
    ]:
        tokens = all_tokens(model, items, directions, max_tokens=30, **options)
        assert toys.error([t.sum(1) for t in tokens], oracle) < tolerance


def test_single_direction_goes_through_positions_and_agrees():
    model, items = toys.qwen2(), toys.examples(4)
    directions = [toys.direction(tracked_weights(model).parameters, k) for k in range(3)]
    together = example_influence(model, items, directions)
    for k, one in enumerate(directions):
        assert toys.error(example_influence(model, items, [one])[:, 0], together[:, k]) < 1e-12


def test_float32_is_within_tolerance_of_float64():
    model, items = toys.qwen2(torch.float32), toys.examples()
    directions = [toys.direction(tracked_weights(model).parameters, k) for k in range(2)]
    oracle = np.concatenate([toys.oracle_scores(model, item, directions) for item in items], axis=1)
    found = np.concatenate(all_tokens(model, items, directions), axis=1)
    assert found.dtype == np.float32
    assert toys.error(found, oracle) < 1e-5
    difference = np.concatenate(all_tokens(model, items, directions, route="difference"), axis=1)
    assert toys.error(difference, oracle) < 2e-2


def test_packing_and_batching_do_not_change_scores():
    model, items = toys.qwen2(), toys.examples(7)
    directions = [toys.direction(tracked_weights(model).parameters, k) for k in range(2)]
    apart = [all_tokens(model, [item], directions)[0] for item in items]
    for options in ({"max_tokens": 1000}, {"max_tokens": 25}, {"max_tokens": 30, "packed": True}):
        for route in ({}, {"decomposition": "position"}):
            expected = apart if not route else [all_tokens(model, [i], directions, **route)[0] for i in items]
            together = all_tokens(model, items, directions, **options, **route)
            assert toys.error(np.concatenate(together, 1), np.concatenate(expected, 1)) < 1e-10
        assert toys.error(example_influence(model, items, directions, **options), [a.sum(1) for a in apart]) < 1e-10


def test_a_route_that_cannot_give_the_decomposition_is_refused():
    model, items = toys.qwen2(), toys.examples(1)
    directions = [toys.direction(tracked_weights(model).parameters, 0)]
    with pytest.raises(InputError, match="hooks"):
        next(token_influence(model, items, directions, route="hooks"))


@pytest.mark.parametrize("decomposition", ["loss", "position"])
def test_directions_that_do_not_fit_together_run_in_groups(decomposition):
    """Same scores, same order of examples, whatever the groups; progress counts every visit."""
    model, items = toys.qwen2(), toys.examples(6)
    directions = [toys.direction(tracked_weights(model).parameters, k) for k in range(5)]
    options = {"decomposition": decomposition, "max_tokens": 30}
    together = all_tokens(model, items, directions, **options)
    seen = []
    apart = all_tokens(model, items, directions, **options, at_once=2, progress=lambda *n: seen.append(n))
    assert seen[-1] == (18, 18)
    assert toys.error(np.concatenate(apart, 1), np.concatenate(together, 1)) < 1e-12
    sums = example_influence(model, items, directions, at_once=2)
    assert toys.error(sums, [t.sum(1) for t in together]) < 1e-10
    with pytest.raises(InputError, match="at_once is 0"):
        example_influence(model, items, directions, at_once=0)


def test_groups_are_planned_from_the_memory_there_is(monkeypatch):
    from infra.influence import directions_at_once, estimate, scores

    model, items = toys.qwen2(), toys.examples(6)
    tracked = tracked_weights(model)
    directions = [toys.direction(tracked.parameters, k) for k in range(7)]
    one = estimate("examples", model, items, tracked, 1)
    memory = int((one.activation_bytes + 3 * 3.5 * one.direction_bytes) / 0.8)  # room for three, three copies each
    assert directions_at_once("examples", model, items, tracked, 7, memory=memory) == 3
    assert directions_at_once("examples", model, items, tracked, 7, memory=0) == 1
    assert directions_at_once("examples", model, items, tracked, 7) == 7
    planned = []

    def few(*args):
        planned.append(args[0])
        return 3

    monkeypatch.setattr(scores, "directions_at_once", few)
    visits = []
    found = example_influence(model, items, directions, progress=lambda done, n: visits.append(n))
    assert planned == ["examples"] and set(visits) == {18}
    monkeypatch.undo()
    assert toys.error(found, example_influence(model, items, directions)) < 1e-12


def test_what_else_is_in_the_batch_does_not_enter_under_the_deterministic_setting():
    """float32, norm-wise 1e-5 as the protocol says, for scores, gradients and curvature."""
    model, items = toys.qwen2(torch.float32), toys.examples(9)
    tracked = tracked_weights(model)
    directions = [toys.direction(tracked.parameters, k) for k in range(2)]
    with deterministic():
        apart = np.concatenate([all_tokens(model, [item], directions)[0] for item in items], 1)
        alone = np.concatenate([example_influence(model, [item], directions) for item in items])
        raw = gradient(model, MeanLogLikelihood("f", items), tracked, max_tokens=12)
        v = fit_ekfac(model, items, tracked, max_tokens=12).inverse() @ raw
        for options in ({"max_tokens": 1000}, {"max_tokens": 25}, {"max_tokens": 30, "packed": True}):
            assert toys.error(np.concatenate(all_tokens(model, items, directions, **options), 1), apart) < 1e-5
            assert toys.error(example_influence(model, items, directions, **options), alone) < 1e-5
            other = gradient(model, MeanLogLikelihood("f", items), tracked, options["max_tokens"])
            assert (other - raw).norm() / raw.norm() < 1e-5
            w = fit_ekfac(model, items, tracked, **options).inverse() @ raw
            assert (w - v).norm() / v.norm() < 1e-4  # after EK-FAC: near-degenerate eigenvectors rotate under rounding
        again = [example_influence(model, items, directions) for _ in range(2)]
        assert (again[0] == again[1]).all()
