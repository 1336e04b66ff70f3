"""Simple scores that attribution must beat. Each gives ``[N, K]``: training examples by targets, higher = helpful.

A target's queries are the examples of its :class:`MeanLogLikelihood`. Some have a score for every token too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from infra.data.tokenized import TokenizedExample
from infra.errors import InputError
from infra.influence.engine.batches import DEFAULT_MAX_TOKENS, Batch, batches, halving_on_memory
from infra.influence.engine.contract import example_gradients
from infra.influence.engine.forward_backward import device_of, forward_backward
from infra.influence.engine.functional import Backbone, accumulator, engine_mode
from infra.influence.engine.gradient import gradient
from infra.influence.engine.layer_inputs import Use
from infra.influence.scores import example_influence
from infra.influence.targets import MeanLogLikelihood, token_log_likelihoods
from infra.models.tracked import Block, TrackedWeights

Scores = NDArray[np.float64]
TOKEN_BASELINES = ("random", "length", "training_loss")
BASELINES = (*TOKEN_BASELINES, "bm25", "representation", "gradient_dot", "gradient_cosine")
_WORD = re.compile(r"\w+|[^\w\s]")


def baseline_scores(
    name: str,
    model: Any,
    examples: Sequence[TokenizedExample],
    targets: Sequence[MeanLogLikelihood],
    tracked: TrackedWeights,
    seed: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Scores:
    """The baseline called ``name``, one of :data:`BASELINES`, float64 ``[N, K]``.

    Raises :class:`InputError` for an unknown name.
    """
    if name in TOKEN_BASELINES:
        return np.stack([t.sum(1) for t in baseline_tokens(name, model, examples, len(targets), seed, max_tokens)])
    queries = [t.examples for t in targets]
    known: dict[str, Callable[[], NDArray[Any]]] = {
        "bm25": lambda: bm25(examples, queries),
        "representation": lambda: representation_similarity(model, examples, queries, max_tokens),
        "gradient_dot": lambda: gradient_dot(model, examples, targets, tracked, max_tokens),
        "gradient_cosine": lambda: gradient_cosine(model, examples, targets, tracked, max_tokens),
    }
    if name not in known:
        raise InputError(f"there is no baseline {name!r}; choose one of {', '.join(BASELINES)}")
    return np.asarray(known[name](), dtype=np.float64)


def baseline_tokens(
    name: str,
    model: Any,
    examples: Sequence[TokenizedExample],
    k: int,
    seed: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> list[Scores]:
    """A baseline that has a score for every token, one of :data:`TOKEN_BASELINES`: per example float64 ``[K, T_i]``.

    ``random``: independent normal numbers; ``length``: 1; ``training_loss``: -log p. Zero outside the response.
    """
    masks = [e.loss_mask[None] for e in examples]
    if name == "random":
        rng = np.random.default_rng(seed)
        return [rng.standard_normal((k, m.shape[1])) * m for m in masks]
    if name == "length":
        return [np.repeat(m.astype(np.float64), k, 0) for m in masks]
    if name == "training_loss":
        rows = token_log_likelihoods(model, examples, max_tokens)
        return [np.repeat(-row[None].astype(np.float64), k, 0) for row in rows]
    raise InputError(f"baseline {name!r} has no token scores; choose one of {', '.join(TOKEN_BASELINES)}")


def bm25(
    examples: Sequence[TokenizedExample],
    queries: Sequence[Sequence[TokenizedExample]],
    k1: float = 1.5,
    b: float = 0.75,
) -> Scores:
    """Okapi BM25 over the words of the texts: each example as a document, averaged over a target's queries, ``[N, K]``.

    Robertson and Zaragoza 2009, with the idf that is never negative, log(1 + (N - n + 0.5) / (n + 0.5)).
    """
    documents = [_words(e) for e in examples]
    vocabulary = {word: i for i, word in enumerate(sorted({w for d in documents for w in d}))}
    if not vocabulary:
        return np.zeros((len(examples), len(queries)))
    counts = _counts(documents, vocabulary)
    lengths = np.asarray(counts.sum(1)).ravel()
    present = np.asarray((counts > 0).sum(0)).ravel()
    idf = np.log1p((len(examples) - present + 0.5) / (present + 0.5))
    norm = k1 * (1 - b + b * lengths / lengths.mean())
    weights = counts.tocoo()
    values = weights.data * (k1 + 1) / (weights.data + norm[weights.row]) * idf[weights.col]
    scored = sparse.csr_matrix((values, (weights.row, weights.col)), shape=weights.shape)
    means = [np.asarray(_counts([_words(q) for q in group], vocabulary).mean(0)).ravel() for group in queries]
    return np.asarray(scored @ np.stack(means, axis=1))


def representation_similarity(
    model: Any,
    examples: Sequence[TokenizedExample],
    queries: Sequence[Sequence[TokenizedExample]],
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Scores:
    """Mean cosine between an example's and the queries' representations, ``[N, K]``.

    The representation is the mean final hidden state over the response's own tokens.
    """
    own = _unit(representations(model, examples, max_tokens))
    means = [_unit(representations(model, group, max_tokens)).mean(0) for group in queries]
    return own @ np.stack(means, axis=1)


def representations(model: Any, examples: Sequence[TokenizedExample], max_tokens: int = DEFAULT_MAX_TOKENS) -> Scores:
    """Mean final hidden state over the response's own tokens, float64 ``[N, d]``."""
    backbone = Backbone(model)
    found: dict[int, NDArray[Any]] = {}

    def work(batch: Batch, _: set[str]) -> Tensor:
        weight = batch.loss.double().roll(1, dims=1)  # from the predicting position to the token
        states = backbone.hidden(batch).double() * weight[..., None]
        return states.sum(1) / weight.sum(1, keepdim=True).clamp_min(1)

    for planned in batches(examples, max_tokens, device_of(model)):
        with torch.no_grad(), engine_mode(model):
            finished = list(halving_on_memory(planned, work))
        for batch, values in finished:
            found.update(zip(batch.indices, values.cpu().numpy()))
    return np.stack([found[i] for i in range(len(examples))])


def gradient_dot(
    model: Any,
    examples: Sequence[TokenizedExample],
    targets: Sequence[MeanLogLikelihood],
    tracked: TrackedWeights,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> NDArray[Any]:
    """Inner products of the example's and the target's gradients: influence with H = 1, ``[N, K]``."""
    directions = [gradient(model, target, tracked, max_tokens) for target in targets]
    return example_influence(model, examples, directions, max_tokens)


def gradient_cosine(
    model: Any,
    examples: Sequence[TokenizedExample],
    targets: Sequence[MeanLogLikelihood],
    tracked: TrackedWeights,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> NDArray[Any]:
    """Cosines between the example's and the target's gradients, ``[N, K]``; 0 for an example without gradient."""
    directions = [gradient(model, target, tracked, max_tokens).unit() for target in targets]
    sizes = gradient_norms(model, examples, tracked, max_tokens)[:, None]
    dots = example_influence(model, examples, directions, max_tokens)
    return np.divide(dots, sizes, out=np.zeros_like(dots), where=sizes > 0)


def gradient_norms(
    model: Any, examples: Sequence[TokenizedExample], tracked: TrackedWeights, max_tokens: int = DEFAULT_MAX_TOKENS
) -> NDArray[Any]:
    """Euclidean norm of each example's summed-loss gradient over the tracked weights, ``[N]``."""
    dtype = accumulator(next(model.parameters()).dtype)
    squares = torch.zeros(len(examples), dtype=dtype, device=device_of(model))

    def consume(batch: Batch, block: Block, uses: list[Use]) -> None:
        squares[batch.indices] += example_gradients(block, uses, batch).to(dtype).flatten(1).square().sum(1)

    for _ in forward_backward(model, examples, tracked, consume, max_tokens=max_tokens):
        pass
    return squares.sqrt().cpu().numpy()


def _unit(rows: Scores) -> Scores:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def _words(example: TokenizedExample) -> list[str]:
    return _WORD.findall(example.text.lower())


def _counts(documents: Sequence[Sequence[str]], vocabulary: dict[str, int]) -> sparse.csr_matrix:
    """How often each known word is in each document, ``[documents, words]``."""
    known = [[vocabulary[w] for w in words if w in vocabulary] for words in documents]
    rows = np.repeat(np.arange(len(documents)), [len(k) for k in known])
    columns = np.array([i for k in known for i in k], np.int64)
    return sparse.csr_matrix((np.ones(len(columns)), (rows, columns)), shape=(len(documents), len(vocabulary)))
