"""The engine on a CUDA device against the same on the CPU. Marked `gpu`: these need a device."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from infra.influence import (
    CGSettings,
    Engine,
    LowRankSettings,
    MeanLogLikelihood,
    cg_directions,
    directions_at_once,
    example_influence,
    fit_ekfac,
    gradient,
    pairwise_influence,
    self_influence,
    token_influence,
)
from infra.influence.estimate import free_memory
from infra.models import tracked_weights
from infra.models.precision import deterministic
from tests.influence import toys
from tests.influence.test_scores import all_tokens

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def pair(dtype=torch.float64, **changes):
    """One and the same model on the CPU and on the device."""
    return toys.qwen2(dtype, **changes), toys.qwen2(dtype, **changes).cuda()


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("decomposition", ["loss", "position"])
def test_scores_are_those_of_the_cpu(dtype, tolerance, decomposition):
    (host, device), items = pair(dtype), toys.examples(8)
    directions = [toys.direction(tracked_weights(host).parameters, k) for k in range(3)]
    reference = toys.qwen2(torch.float64)
    wide = [toys.Direction({k: t.double() for k, t in d.tensors.items()}, d.name) for d in directions]
    with deterministic():
        found = np.concatenate(all_tokens(device, items, directions, decomposition=decomposition), 1)
        sums = example_influence(device, items, directions)
    expected = np.concatenate(all_tokens(reference, items, wide, decomposition=decomposition), 1)
    assert toys.error(found, expected) < tolerance
    assert toys.error(sums, example_influence(reference, items, wide)) < tolerance


def test_the_whole_chain_gives_the_same_directions_and_scores():
    (host, device), items = pair(), toys.examples(10)
    results = []
    for model in (host, device):
        tracked = tracked_weights(model)
        curvature = fit_ekfac(model, items, tracked, fisher="empirical")
        raw = gradient(model, MeanLogLikelihood("f", items[:4]), tracked)
        [refined] = cg_directions(Engine(model, tracked), items, [raw], curvature, CGSettings(steps=5))
        both = [curvature.inverse() @ raw, refined.direction]
        matrix = pairwise_influence(
            Engine(model, tracked), items, items[:3], curvature.inverse(), settings=LowRankSettings(1.0, rescore=2)
        ).scores
        own = self_influence(Engine(model, tracked), items, curvature.inverse())
        results.append((example_influence(model, items, both), matrix, own))
    for found, expected in zip(results[1], results[0]):
        assert toys.error(found, expected) < 1e-8


@pytest.mark.parametrize("kind", ["Mixtral experts", "GPT-OSS experts, sinks, window", "Conv1D with bias", "LoRA"])
def test_other_kinds_of_weight_run_there(kind):
    from tests.influence.test_architectures import build

    model, tracked = build(kind)
    items = [toys.example(f"r{k}", 6 + k, 2, k) for k in range(3)]
    directions = [toys.direction(tracked.parameters, 0)]
    expected = example_influence(model, items, directions)
    moved = model.cuda()
    assert toys.error(example_influence(moved, items, directions), expected) < 1e-10
    tokens = all_tokens(moved, items, directions)
    assert toys.error([t.sum(1) for t in tokens], expected) < 1e-10


def test_sampled_labels_are_those_of_the_cpu():
    host, device = pair()
    items = toys.examples(6)
    fits = [fit_ekfac(m, items, tracked_weights(m), seed=1) for m in (host, device)]
    grad = toys.direction(tracked_weights(host).parameters, 0)
    there = toys.Direction({k: t.cuda() for k, t in grad.tensors.items()}, "d")
    expected, found = fits[0].inverse() @ grad, fits[1].inverse() @ there
    for key, tensor in expected.tensors.items():
        assert toys.error(found.tensors[key].cpu(), tensor) < 1e-8


def test_packing_and_batches_do_not_enter_under_the_deterministic_setting():
    device, items = toys.qwen2(torch.float32).cuda(), toys.examples(9)
    directions = [toys.direction(tracked_weights(device).parameters, k) for k in range(2)]
    with deterministic():
        apart = np.concatenate([all_tokens(device, [i], directions)[0] for i in items], 1)
        for options in ({"max_tokens": 1000}, {"max_tokens": 25}, {"max_tokens": 30, "packed": True}):
            assert toys.error(np.concatenate(all_tokens(device, items, directions, **options), 1), apart) < 1e-5


def test_bfloat16_ranks_like_float32_there():
    from tests.influence.test_memory import trained

    model, items = trained()
    ranks = []
    for dtype in (torch.bfloat16, torch.float32):
        cast = model.to(torch.bfloat16).to(dtype).cuda()
        tracked = tracked_weights(cast)
        v = fit_ekfac(cast, items, tracked).inverse() @ gradient(cast, MeanLogLikelihood("f", items[:8]), tracked)
        ranks.append(example_influence(cast, items, [v])[:, 0])
    assert spearmanr(*ranks).statistic >= 0.999


def test_a_batch_that_does_not_fit_on_the_device_is_halved():
    model = toys.qwen2(torch.float32, max_position_embeddings=4096).cuda()
    items = [toys.example(f"r{k}", 512, 2, k) for k in range(16)]
    directions = [toys.direction(tracked_weights(model).parameters, 0)]
    expected = example_influence(model, items, directions, max_tokens=512)
    torch.cuda.reset_peak_memory_stats()
    example_influence(model, items, directions, max_tokens=512 * 16)
    whole = torch.cuda.max_memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.7 * whole / total)
    try:
        with pytest.warns(RuntimeWarning, match="going on with halves"):
            found = example_influence(model, items, directions, max_tokens=512 * 16)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert toys.error(found, expected) < 1e-5


def test_directions_are_planned_by_the_devices_memory():
    device = toys.qwen2(torch.float32).cuda()
    tracked = tracked_weights(device)
    free = free_memory(torch.device("cuda", 0))
    assert 0 < free <= torch.cuda.get_device_properties(0).total_memory
    assert directions_at_once("examples", device, toys.examples(4), tracked, 5) == 5
    assert directions_at_once("examples", device, toys.examples(4), tracked, 5, memory=0) == 1


def test_memory_is_linear_in_the_length_there():
    model = toys.qwen2(torch.float32, hidden_size=64, intermediate_size=128, max_position_embeddings=32768).cuda()
    directions = [toys.direction(tracked_weights(model).parameters, 0)]
    peaks = []
    for length in (4096, 16384):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
        next(token_influence(model, [toys.example("long", length, 2, 0)], directions, max_tokens=length))
        peaks.append(torch.cuda.max_memory_allocated() - base)
    assert peaks[1] <= 4.5 * peaks[0]
