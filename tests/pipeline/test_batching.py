"""Batches fit the memory that is free; a choice is made once, said, kept, and never against what the recipe sets."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest

from infra.models.shape import shape_of
from infra.pipeline import batching
from infra.pipeline.plan import Amounts, Costs
from infra.pipeline.score import score_recipe

GIB = 2.0**30
estimate = import_module("infra.influence.estimate")  # the package has a function of this name


def costs(model: str = "SmolLM2-135M", on: str = "cpu", **settings) -> Costs:
    recipe = score_recipe("train.jsonl", "queries.jsonl", model={"device": on}, **settings)
    amounts = Amounts(64, 0, 0, 250.0, 0.7, 80.0, 170.0, (), given_queries=40)
    return Costs(recipe, shape_of(model), amounts, trains=False)


def test_less_free_memory_gives_smaller_batches_that_fit():
    c = costs(model="Qwen2.5-1.5B")
    sizes = [batching.chosen(c, "scores", room * GIB) for room in (400, 40, 24, 20, 16)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) > 1
    for room, tokens in zip((400, 40, 24, 20), sizes):
        assert batching.peak(c, "scores", tokens) <= room * GIB or tokens < 2 * c.amounts.length


def test_scoring_smollm2_stays_under_six_gib_however_much_is_free():
    c = costs()
    tokens = batching.chosen(c, "scores", 1000 * GIB)
    assert batching.peak(c, "scores", tokens) < 5 * GIB  # and the libraries
    assert tokens >= batching.BUSY_TOKENS


def test_a_small_model_keeps_large_batches_and_so_does_a_gpu():
    tiny = costs()
    tiny = replace(tiny, shape=replace(tiny.shape, layers=4, hidden=128, intermediate=384, heads=4, kv_heads=2))
    assert batching.chosen(tiny, "scores", 1000 * GIB) == 8192
    assert batching.chosen(costs(on="cuda"), "scores", 1000 * GIB) == 8192


def test_an_example_is_never_cut_by_a_batch():
    c = costs()
    long = replace(c, amounts=replace(c.amounts, length=3000.0))
    assert batching.chosen(long, "scores", 1 * GIB) >= 3000


def test_a_choice_is_said_kept_and_gone_on_with(tmp_path, capsys):
    c = costs()
    first = batching.settle(c, c.recipe, tmp_path, 100 * GIB, trains=False)
    assert f"{first.scores.max_tokens:,} tokens (scores.max_tokens)" in capsys.readouterr().err
    later = batching.settle(c, c.recipe, tmp_path, 2 * GIB, trains=False)
    assert later == first == batching.with_recorded(c.recipe, tmp_path) and capsys.readouterr().err == ""


def test_what_the_recipe_sets_stands(tmp_path, capsys):
    c = costs(scores={"max_tokens": 7000})
    assert batching.settle(c, c.recipe, tmp_path, 1 * GIB, trains=False) == c.recipe
    assert not list(tmp_path.iterdir()) and capsys.readouterr().err == ""
    kept = tmp_path / "kept"
    kept.mkdir()
    plain = costs()
    batching.settle(plain, plain.recipe, kept, 100 * GIB, trains=False)
    assert batching.with_recorded(c.recipe, kept).scores.max_tokens == 7000


@pytest.mark.parametrize(("limit", "used", "free"), [("3000", "1000", 2000), ("max", "5", None), ("10", "999", 0)])
@pytest.mark.parametrize("version", [0, 1])
def test_a_containers_limit_counts(tmp_path, monkeypatch, version, limit, used, free):
    import torch

    names = list(estimate.CONTROL_GROUPS.values())[version]
    for name, text in zip(names, (limit, used)):
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(estimate, "CONTROL_GROUPS", {str(tmp_path): names})
    found = estimate.free_memory(torch.device("cpu"))
    assert found == free if free is not None else found > 2000
