"""BM25 over the words of the texts (Robertson and Zaragoza 2009): does the example talk about the queries' words?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from infra.data.tokenized import TokenizedExample
from infra.influence.engine.engine import Engine
from infra.influence.methods._method import Fitted, MethodContext, Scores
from infra.influence.methods._registry import register
from infra.influence.methods._saving import load_fitted, save_fitted

_WORD = re.compile(r"\w+|[^\w\s]")


@register("bm25")
@dataclass(frozen=True)
class BM25:
    """Okapi BM25 of each example as a document, averaged over a target's queries; no token scores.

    The idf, ``log(1 + (N - n + 0.5) / (n + 0.5))``, is never negative.
    """

    has_tokens: ClassVar[bool] = False

    k1: float = 1.5
    b: float = 0.75

    def fit(self, context: MethodContext) -> Fitted:
        """Word statistics of the training data, and the mean counts of each target's queries."""
        documents = [_words(e) for e in context.examples]
        vocabulary = {word: i for i, word in enumerate(sorted({w for d in documents for w in d}))}
        counts = _counts(documents, vocabulary)
        present = np.asarray((counts > 0).sum(0)).ravel()
        idf = np.log1p((len(documents) - present + 0.5) / (present + 0.5))
        groups = [_counts([_words(q) for q in queries], vocabulary) for queries in context.queries("bm25")]
        asked = np.stack([np.asarray(g.mean(0)).ravel() for g in groups], axis=1)
        length = max(float(counts.sum()) / max(1, len(documents)), 1e-30)
        return FittedBM25(self, vocabulary, idf, length, asked)

    def load(self, folder: Path, engine: Engine) -> Fitted:
        """As :meth:`FittedBM25.save` wrote it."""
        facts, tensors = load_fitted(folder)
        vocabulary = {word: i for i, word in enumerate(facts["words"])}
        return FittedBM25(self, vocabulary, tensors["idf"].numpy(), facts["length"], tensors["asked"].numpy())


@dataclass(frozen=True)
class FittedBM25:
    """``idf`` ``[W]`` of the vocabulary's words, mean ``length`` of a document, ``asked`` ``[W, K]`` word counts."""

    method: BM25
    vocabulary: dict[str, int] = field(repr=False)
    idf: NDArray[np.float64] = field(repr=False)
    length: float
    asked: NDArray[np.float64] = field(repr=False)

    def scores(self, examples: Sequence[TokenizedExample], tokens: bool = True) -> Iterator[Scores]:
        """See :class:`.Fitted`."""
        k1, b = self.method.k1, self.method.b
        counts = _counts([_words(e) for e in examples], self.vocabulary)
        norm = k1 * (1 - b + b * np.array([len(_words(e)) for e in examples]) / self.length)
        c = counts.tocoo()
        values = c.data * (k1 + 1) / (c.data + norm[c.row]) * self.idf[c.col]
        found = sparse.csr_matrix((values, (c.row, c.col)), shape=c.shape) @ self.asked
        for index, row in enumerate(np.asarray(found, np.float64)):
            yield Scores(index, row)

    def save(self, folder: Path) -> None:
        """Write vocabulary and statistics."""
        facts = {"words": list(self.vocabulary), "length": self.length}
        save_fitted(folder, facts, {"idf": torch.from_numpy(self.idf), "asked": torch.from_numpy(self.asked)})


def _words(example: TokenizedExample) -> list[str]:
    return _WORD.findall(example.text.lower())


def _counts(documents: Sequence[Sequence[str]], vocabulary: dict[str, int]) -> sparse.csr_matrix:
    """How often each known word is in each document, ``[documents, words]``."""
    known = [[vocabulary[w] for w in words if w in vocabulary] for words in documents]
    rows = np.repeat(np.arange(len(documents)), [len(k) for k in known])
    columns = np.array([i for k in known for i in k], np.int64)
    return sparse.csr_matrix((np.ones(len(columns)), (rows, columns)), shape=(len(documents), len(vocabulary)))
