"""What must hold for any lengths, masks and batch sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.data.tokenized import TokenizedExample
from infra.errors import ModelError, ResourceError
from infra.influence import MeanLogLikelihood, example_influence, gradient, token_influence
from infra.influence.engine.attention import Layout
from infra.influence.engine.batches import build_batch, halving_on_memory, plan_batches
from infra.influence.engine.rotation import add_gram_, eigenbasis, empty_gram, rotate, rotate_back
from infra.models import tracked_weights
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
    from infra.influence.engine import attention

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


SHAPES = st.fixed_dictionaries(
    {
        "heads": st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2), (4, 1)]),
        "head_dim": st.sampled_from([2, 4]),
        "intermediate_size": st.integers(1, 9),
        "num_hidden_layers": st.integers(1, 3),
        "vocab_size": st.integers(2, 30),
        "window": st.one_of(st.none(), st.integers(1, 6)),
        "tie_word_embeddings": st.booleans(),
    }
)


@settings(max_examples=12, deadline=None)
@given(SHAPES, st.lists(st.tuples(st.integers(2, 9), st.integers(1, 8)), min_size=1, max_size=3), st.integers(0, 99))
def test_any_shape_of_model_agrees_with_explicit_token_gradients(shape, lengths, seed):
    """Heads and key heads, widths, layers, vocabularies, windows: loss scores, both sums, the gradient of a target."""
    heads, window = shape["heads"], shape["window"]
    sliding = {} if window is None else {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 0}
    kept = {k: v for k, v in shape.items() if k not in ("heads", "head_dim", "window")}
    model = toys.qwen2(
        seed=seed,
        hidden_size=heads[0] * shape["head_dim"],
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        **kept,
        **sliding,
    )
    items = [toys.example(f"r{k}", n, min(p, n - 1), seed + k, shape["vocab_size"]) for k, (n, p) in enumerate(lengths)]
    tracked = tracked_weights(model, "all")
    directions = [toys.direction(tracked.parameters, seed + k) for k in range(2)]
    oracle = [toys.oracle_scores(model, item, directions) for item in items]
    found = {i: s for c in token_influence(model, items, directions) for i, s in zip(c.indices, c.scores)}
    size = max(np.linalg.norm(np.concatenate(oracle, 1)), 1e-12)
    assert np.linalg.norm(np.concatenate([found[i] - o for i, o in enumerate(oracle)], 1)) / size < 1e-9
    sums = np.array([o.sum(1) for o in oracle])
    total = max(np.abs(np.concatenate(oracle, 1)).sum(), 1e-12)
    assert np.abs(example_influence(model, items, directions) - sums).max() / total < 1e-9
    target = gradient(model, MeanLogLikelihood("f", items, "summed"), tracked)
    assert np.abs(np.array([target.dot(d) for d in directions]) - sums.mean(0)).max() / total < 1e-9


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 7), st.integers(1, 14), st.integers(0, 999))
def test_a_basis_in_blocks_is_orthogonal_whatever_the_widths(width, rows, block_size, seed):
    """Rotations keep lengths, come back, and make each diagonal block of the sum diagonal."""
    made = torch.randn(rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    total = empty_gram(width, block_size, torch.float64)
    add_gram_(total, made)
    values, basis = eigenbasis(total, width)
    turned = rotate(made, basis)
    assert torch.allclose(rotate_back(turned, basis), made, atol=1e-12)
    again = turned.T @ turned
    for first in range(0, width, block_size):
        here = slice(first, min(first + block_size, width))
        assert torch.allclose(again[here, here], torch.diag(values[here]), atol=1e-10)
