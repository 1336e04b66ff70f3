"""What must hold for any lengths, masks and batch sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import ModelError, ResourceError
from infra.influence import example_influence, token_influence
from infra.influence.attention import Layout
from infra.influence.batches import build_batch, halving_on_memory, plan_batches
from infra.models import tracked_weights
from infra.records.tokenized import TokenizedExample
from tests.influence import toys

MODEL = toys.qwen2(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_key_value_heads=1)
DIRECTIONS = [toys.direction(tracked_weights(MODEL).parameters, k) for k in range(2)]


@st.composite
def ragged(draw):
    """One to five examples with any lengths and any loss masks, holes included."""
    items = []
    for k in range(draw(st.integers(1, 5))):
        length = draw(st.integers(1, 9))
        ids = draw(st.lists(st.integers(0, toys.VOCABULARY - 1), min_size=length, max_size=length))
        mask = draw(st.lists(st.booleans(), min_size=length, max_size=length))
        mask[0] = False
        items.append(TokenizedExample(f"r{k}", np.array(ids), np.array(mask), np.zeros((length, 2), np.int32), "", 0))
    return items


@settings(max_examples=15, deadline=None)
@given(ragged(), st.integers(1, 40), st.booleans())
def test_tokens_sum_to_examples_whatever_the_masks_and_batches(items, max_tokens, packed):
    options = {"max_tokens": max_tokens, "packed": packed}
    sums = example_influence(MODEL, items, DIRECTIONS, **options)
    for decomposition in ("loss", "position"):
        seen = set()
        for chunk in token_influence(MODEL, items, DIRECTIONS, decomposition=decomposition, **options):
            for index, scores in zip(chunk.indices, chunk.scores):
                seen.add(index)
                assert scores.shape == (2, len(items[index]))
                size = np.abs(scores).sum(1)
                assert (np.abs(scores.sum(1) - sums[index]) <= 1e-10 * size + 1e-12).all()
                if decomposition == "loss":
                    assert (scores[:, ~items[index].loss_mask] == 0).all()
        assert seen == set(range(len(items)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 200))
def test_the_plan_holds_every_example_once_within_the_limit(lengths, max_tokens):
    items = [toys.example(f"r{k}", n, 1, k) for k, n in enumerate(lengths)]
    plan = plan_batches(items, max_tokens)
    assert sorted(i for batch in plan for i in batch) == list(range(len(items)))
    for batch in plan:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4), st.one_of(st.none(), st.integers(1, 8)), st.integers(1, 400)
)
def test_chunks_of_query_rows_see_exactly_the_keys_they_attend_to(lengths, window, budget):
    """The mask put together from chunks is causal, inside the document and inside the window."""
    from infra.influence import attention

    ends = np.cumsum(lengths)
    documents = tuple((int(e - n), int(e)) for e, n in zip(ends, lengths))
    total = int(ends[-1])
    owner = np.repeat(np.arange(len(lengths)), lengths)
    q, k = np.arange(total)[:, None], np.arange(total)[None]
    expected = (k <= q) & (owner[:, None] == owner[None]) & ((q - k < window) if window else True)
    found = np.zeros((total, total), bool)
    before, attention.CHUNK_ELEMENTS = attention.CHUNK_ELEMENTS, budget
    try:
        for start, stop, first in Layout(documents, window).chunks(1):
            visible = Layout(documents, window).visible(start, stop, first, "cpu")
            found[start:stop, first:stop] = visible.numpy()
    finally:
        attention.CHUNK_ELEMENTS = before
    assert (found == expected).all()


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_counted_twice():
    items = [toys.example(f"r{k}", 6, 2, k) for k in range(5)]
    batch = build_batch(items, range(5))
    counted = []

    def work(part, finished):
        if "first" not in finished:
            counted.extend(part.indices)
            finished.add("first")
        if len(part.examples) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return part.indices

    done = list(halving_on_memory(batch, work))
    assert [i for _, indices in done for i in indices] == list(range(5))
    assert sorted(counted) == list(range(5))


def test_one_example_that_does_not_fit_is_named():
    batch = build_batch([toys.example("long", 9, 2, 0)], [0])

    def work(*_):
        raise MemoryError

    with pytest.raises(ResourceError, match="record long with 9 tokens does not fit"):
        list(halving_on_memory(batch, work))


def test_the_caller_is_not_left_inside_the_engine():
    """Between two batches the model is as it was: attention, training mode, gradients."""
    model = toys.qwen2().train()
    items = toys.examples(4)
    before = model.config._attn_implementation
    for _ in token_influence(model, items, [toys.direction(tracked_weights(model).parameters, 0)], max_tokens=12):
        assert model.training and model.config._attn_implementation == before
        assert torch.zeros(1, dtype=torch.float64).float().dtype == torch.float32
    assert all(p.requires_grad for p in model.parameters())


def test_a_score_that_is_not_finite_names_the_record():
    model = toys.qwen2(torch.float32, tie_word_embeddings=False)
    items = [toys.example("fine", 6, 2, 0), toys.example("broken", 6, 2, 1)]
    only = sorted(set(items[1].input_ids) - set(items[0].input_ids))[0]
    with torch.no_grad():
        model.model.embed_tokens.weight[only] = float("inf")
    directions = [toys.direction(tracked_weights(model).parameters, k) for k in range(2)]
    for call in (
        lambda: list(token_influence(model, items, directions)),
        lambda: example_influence(model, items, directions),
    ):
        with pytest.raises(ModelError, match="record broken"):
            call()
