"""Simple scores that attribution must beat. Each gives ``[N, K]``: training examples by targets, higher = helpful.

A target's queries are the examples of its :class:`MeanLogLikelihood`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from infra.errors import InputError
from infra.influence.batches import DEFAULT_MAX_TOKENS, Batch, batches, halving_on_memory
from infra.influence.capture import Use
from infra.influence.contract import example_gradients
from infra.influence.functional import Backbone, accumulator, engine_mode
from infra.influence.gradient import gradient
from infra.influence.scores import example_influence
from infra.influence.target import MeanLogLikelihood, log_likelihoods
from infra.influence.visit import device_of, visit
from infra.models.tracked import Block, TrackedWeights
from infra.records.tokenized import TokenizedExample

Scores = NDArray[np.float64]
BASELINES = (
    "random", "length", "training_loss", "bm25", "representation", "gradient_dot", "gradient_cosine",
)  # fmt: skip


def baseline_scores(
    name: str,
    model: Any,
    examples: Sequence[TokenizedExample],
    targets: Sequence[MeanLogLikelihood],
    tracked: TrackedWeights,
    seed: int = 0,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Scores:
    """The baseline called ``name``, one of :data:`BASELINES`, float64 ``[N, K]``."""
    n, k = len(examples), len(targets)
    queries = [t.examples for t in targets]
    known: dict[str, Callable[[], NDArray[Any]]] = {
        "random": lambda: np.random.default_rng(seed).standard_normal((n, k)),
        "length": lambda: _same_for_all([e.n_response_tokens for e in examples], k),
        "training_loss": lambda: _same_for_all(-log_likelihoods(model, examples, max_tokens), k),
        "bm25": lambda: bm25(examples, queries),
        "representation": lambda: representation_similarity(model, examples, queries, max_tokens),
        "gradient_dot": lambda: gradient_dot(model, examples, targets, tracked, max_tokens),
        "gradient_cosine": lambda: gradient_cosine(model, examples, targets, tracked, max_tokens),
    }
    if name not in known:
        raise InputError(f"there is no baseline {name!r}; choose one of {', '.join(BASELINES)}")
    return np.asarray(known[name](), dtype=np.float64)


def bm25(
    examples: Sequence[TokenizedExample],
    queries: Sequence[Sequence[TokenizedExample]],
    k1: float = 1.2,
    b: float = 0.75,
) -> Scores:
    """Okapi BM25 over token ids: each example as a document, averaged over a target's queries, ``[N, K]``.

    Robertson and Zaragoza 2009, with the idf that is never negative, log(1 + (N - n + 0.5) / (n + 0.5)).
    """
    vocabulary = 1 + max(int(e.input_ids.max()) for group in [examples, *queries] for e in group)
    counts = _counts(examples, vocabulary)
    lengths = np.asarray(counts.sum(1)).ravel()
    present = np.asarray((counts > 0).sum(0)).ravel()
    idf = np.log1p((len(examples) - present + 0.5) / (present + 0.5))
    norm = k1 * (1 - b + b * lengths / lengths.mean())
    weights = counts.tocoo()
    values = weights.data * (k1 + 1) / (weights.data + norm[weights.row]) * idf[weights.col]
    documents = sparse.csr_matrix((values, (weights.row, weights.col)), shape=weights.shape)
    means = np.stack([np.asarray(_counts(group, vocabulary).mean(0)).ravel() for group in queries], axis=1)
    return np.asarray(documents @ means)


def representation_similarity(
    model: Any,
    examples: Sequence[TokenizedExample],
    queries: Sequence[Sequence[TokenizedExample]],
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Scores:
    """Mean cosine between an example's and the queries' representations, ``[N, K]``.

    The representation is the mean final hidden state over positions that predict a response token.
    """
    own = _unit(representations(model, examples, max_tokens))
    means = [_unit(representations(model, group, max_tokens)).mean(0) for group in queries]
    return own @ np.stack(means, axis=1)


def representations(model: Any, examples: Sequence[TokenizedExample], max_tokens: int = DEFAULT_MAX_TOKENS) -> Scores:
    """Mean final hidden state over positions that predict a response token, float64 ``[N, d]``."""
    backbone = Backbone(model)
    found: dict[int, NDArray[Any]] = {}

    def work(batch: Batch, _: set[str]) -> Tensor:
        weight = batch.loss.double()
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

    for _ in visit(model, examples, tracked, consume, max_tokens=max_tokens):
        pass
    return squares.sqrt().cpu().numpy()


def _same_for_all(column: Any, k: int) -> Scores:
    return np.repeat(np.asarray(column, dtype=np.float64)[:, None], k, axis=1)


def _unit(rows: Scores) -> Scores:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def _counts(group: Sequence[TokenizedExample], vocabulary: int) -> sparse.csr_matrix:
    columns = np.concatenate([e.input_ids for e in group])
    rows = np.repeat(np.arange(len(group)), [len(e) for e in group])
    ones = np.ones(len(columns))
    return sparse.csr_matrix((ones, (rows, columns)), shape=(len(group), vocabulary))
