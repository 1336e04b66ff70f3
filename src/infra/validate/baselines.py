"""Scores that cost next to nothing: what any method with gradients must beat. All ``[N, F]`` over query folds."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infra.influence import token_log_likelihoods
from infra.models.precision import float64_everywhere
from infra.records import TokenizedExample
from infra.validate.scores import Array, MethodScores, Targets

_WORD = re.compile(r"\w+|[^\w\s]")


def random_scores(examples: Sequence[TokenizedExample], targets: Targets, seed: int = 0) -> MethodScores:
    """Independent normal numbers for every response token."""
    rng = np.random.default_rng(seed)
    tokens: list[NDArray[np.floating]] = [
        rng.standard_normal((targets.n_folds, len(e))) * e.loss_mask[None] for e in examples
    ]
    return MethodScores(np.stack([t.sum(1) for t in tokens]), tokens)


def length_scores(examples: Sequence[TokenizedExample], targets: Targets) -> MethodScores:
    """1 for every response token."""
    tokens: list[NDArray[np.floating]] = [
        np.repeat(e.loss_mask[None].astype(np.float64), targets.n_folds, 0) for e in examples
    ]
    return MethodScores(np.stack([t.sum(1) for t in tokens]), tokens)


def loss_scores(model: Any, examples: Sequence[TokenizedExample], targets: Targets) -> MethodScores:
    """-log p of every response token under the trained model."""
    tokens: list[NDArray[np.floating]] = [
        np.repeat(-row[None].astype(np.float64), targets.n_folds, 0) for row in token_log_likelihoods(model, examples)
    ]
    return MethodScores(np.stack([t.sum(1) for t in tokens]), tokens)


def bm25_scores(
    examples: Sequence[TokenizedExample],
    queries: Sequence[TokenizedExample],
    targets: Targets,
    *,
    k1: float = 1.5,
    b: float = 0.75,
) -> MethodScores:
    """Okapi BM25 (Robertson and Zaragoza 2009) of each example's text for each query's text, averaged over folds."""
    documents = [Counter(_WORD.findall(e.text.lower())) for e in examples]
    lengths = np.array([sum(d.values()) for d in documents], np.float64)
    frequency = Counter(word for d in documents for word in d)
    n = len(documents)
    words = {w: i for i, w in enumerate(sorted(frequency))}
    weight = np.zeros((n, len(words)))
    scale = k1 * (1 - b + b * lengths / lengths.mean())
    for i, document in enumerate(documents):
        for word, count in document.items():
            idf = math.log(1 + (n - frequency[word] + 0.5) / (frequency[word] + 0.5))
            weight[i, words[word]] = idf * count * (k1 + 1) / (count + scale[i])
    asked = np.zeros((len(queries), len(words)))
    for q, query in enumerate(queries):
        for word, count in Counter(_WORD.findall(query.text.lower())).items():
            if word in words:
                asked[q, words[word]] = count
    return MethodScores(targets.folded(weight @ asked.T))


def representations(model: Any, examples: Sequence[TokenizedExample], max_tokens: int = 8192) -> Array:
    """Mean final hidden state over the response, unit length: ``[n, d]``."""
    out = []
    wide = next(model.parameters()).dtype == torch.float64
    with torch.no_grad():
        for example in examples:
            ids = torch.from_numpy(example.input_ids)[None].to(next(model.parameters()).device)
            if wide:
                with float64_everywhere():
                    hidden = model.base_model(input_ids=ids, use_cache=False)[0][0]
            else:
                hidden = model.base_model(input_ids=ids, use_cache=False)[0][0]
            out.append(hidden[torch.from_numpy(example.loss_mask).to(hidden.device)].double().mean(0).cpu().numpy())
    table = np.stack(out)
    unit: Array = table / np.linalg.norm(table, axis=1, keepdims=True)
    return unit


def similarity_scores(
    model: Any, examples: Sequence[TokenizedExample], queries: Sequence[TokenizedExample], targets: Targets
) -> MethodScores:
    """Cosine of mean final hidden states of example and query, averaged over each fold's queries."""
    return MethodScores(targets.folded(representations(model, examples) @ representations(model, queries).T))
