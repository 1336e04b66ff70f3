"""Content and template tokens told apart, in f and in the scores, against autograd on the tiny float64 model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from infra.errors import InputError
from infra.influence import Engine, MeanLogLikelihood, example_influence, gradient
from infra.influence.methods import MethodContext, get_method, write_fitted
from infra.influence.steps.scores import example_step, token_step
from infra.influence.steps.step import Item
from infra.models import float64_everywhere, tracked_weights
from tests.influence import toys


def with_template(n: int = 5):
    """Examples whose last token, and in every second one the first under the loss too, is the template's."""
    out = []
    for i, e in enumerate(toys.examples(n, seed=3)):
        under = np.flatnonzero(e.loss_mask)
        if len(under) < 3:  # room for content
            e = replace(e, loss_mask=np.arange(len(e)) > 0)
            under = np.flatnonzero(e.loss_mask)
        content = e.loss_mask.copy()
        content[under[-1]] = False
        if i % 2 and len(under) > 2:
            content[under[0]] = False
        out.append(replace(e, content_mask=content))
    return [e for e in out if e.content_mask.any()]


def log_probs(model, example):
    ids = torch.from_numpy(example.input_ids)
    with float64_everywhere():
        logits = model(ids[None]).logits[0, :-1].log_softmax(-1)
    return torch.cat([logits.new_zeros(1), logits.gather(1, ids[1:, None])[:, 0]])


@pytest.mark.parametrize("form", ["per_token", "summed"])
def test_f_over_content_is_the_mean_over_content_tokens_and_so_is_its_gradient(form):
    model, items = toys.qwen2(), with_template()
    tracked = tracked_weights(model)
    terms = []
    for e in items:
        own = log_probs(model, e)[torch.from_numpy(e.content_mask)]
        terms.append(own.mean() if form == "per_token" else own.sum())
    want = torch.stack(terms).mean()
    target = MeanLogLikelihood("content", items, form, "content")
    assert target.value(model) == pytest.approx(float(want.detach()), rel=1e-10)
    grads = torch.autograd.grad(want, list(tracked.parameters.values()))
    found = gradient(model, target, tracked)
    for name, grad in zip(tracked.parameters, grads):
        assert toys.error(found.tensors[name].numpy(), grad.numpy()) < 1e-10
    assert MeanLogLikelihood("all", items, form).value(model) != pytest.approx(float(want.detach()), rel=1e-3)


def test_examples_without_template_tokens_and_unknown_ones_count_whole():
    (first, *_) = toys.examples(1)
    assert first.counting("content") is first and not first.template_mask.any()
    plain = replace(first, content_mask=first.loss_mask.copy())
    assert plain.counting("content") is plain


def test_a_response_of_template_tokens_alone_is_no_target():
    (first, *_) = toys.examples(1)
    empty = replace(first, content_mask=np.zeros(len(first), bool))
    with pytest.raises(InputError, match=f"record {first.id} has no response token"):
        MeanLogLikelihood("content", [empty], tokens="content")


@pytest.mark.parametrize("method", ["gradient", "ekfac", "cosine", "length", "repsim"])
def test_an_examples_score_is_the_sum_over_its_counted_tokens_for_every_kind_of_method(tmp_path: Path, method):
    model, items = toys.qwen2(), with_template()
    engine = Engine(model, tracked_weights(model), 64)
    context = MethodContext(engine, items, [MeanLogLikelihood("a", items[:2]), MeanLogLikelihood("b", items[2:])])
    write_fitted(method, get_method(method).fit(context), tmp_path, "hash")
    item = Item(engine, [(range(len(items)), items)])
    tables = {}
    for counted in ("content", "all"):
        scores = example_step(engine, tmp_path, "hash", counted)(item)
        table: pa.Table = token_step(engine, tmp_path, "hash", {"a": [1, 0], "b": [0, 1]}, ["loss"], counted)(item)
        for k, name in enumerate("ab"):
            for row, e, total in zip(table[f"loss_{name}"].to_pylist(), items, scores[:, k]):
                own = e.content_mask if counted == "content" else e.loss_mask
                size = np.abs(row).sum()  # float32 sums are taken relative to it
                assert np.sum(np.array(row)[own]) == pytest.approx(total, abs=1e-5 * size)
        tables[counted] = scores, table
    if method in ("gradient", "ekfac"):  # linear in the loss: content and template add up to the whole
        for k, name in enumerate("ab"):
            rows = tables["content"][1][f"loss_{name}"].to_pylist()
            template = [np.sum(np.array(r)[e.template_mask]) for r, e in zip(rows, items)]
            assert np.allclose(tables["content"][0][:, k] + template, tables["all"][0][:, k], rtol=1e-9, atol=1e-12)


def test_content_scores_of_an_example_without_content_are_zero():
    model, items = toys.qwen2(), with_template(3)
    empty = replace(items[0], content_mask=np.zeros(len(items[0]), bool))
    v = toys.direction(tracked_weights(model).parameters, 0)
    scores = example_influence(model, [empty.counting("content"), items[1]], [v, v])
    assert (scores[0] == 0).all() and (scores[1] != 0).all()
