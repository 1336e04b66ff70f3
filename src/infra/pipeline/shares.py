"""What the absolute scores of a data set lie in: one example, one token, one class of tokens, one position."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from heapq import nlargest
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.data import TokenizedExample
from infra.pipeline.marked import classes_of

EXAMPLE, TOKEN, CLASS, POSITION = "example", "token", "class", "position"
FIRST, LAST = "first token of the response", "last token of the response"
KEPT = 20
"""Largest entries kept of each kind and target."""


class Shares:
    """Sums of absolute `loss` scores over examples that come one by one, by target, kind and name.

    The share of an example is of the sum of the examples' absolute scores, the others of that of the tokens'.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, defaultdict[tuple[str, str], float]] = {}
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._examples = 0

    def add(self, example: TokenizedExample, scores: Mapping[str, NDArray[np.float32]]) -> None:
        """Add an example's scores, ``loss_<target>`` ``[T]`` each, of the tokens that its loss mask counts."""
        places = np.flatnonzero(example.loss_mask)
        if not len(places):
            return
        self._examples += 1
        classes = classes_of(example)
        texts = [example.text[a:b] for a, b in example.offsets[places].tolist()]
        names = [
            *((TOKEN, text) for text in texts),
            *((CLASS, classes[t]) for t in places),
            *((POSITION, name) for name in (FIRST, LAST)),
        ]
        self._tokens.update(names)
        for column in (c for c in scores if c.startswith("loss_")):
            target = column.removeprefix("loss_")
            signed = scores[column][places].astype(np.float64)
            values = np.abs(signed).tolist()
            sizes = self._sizes.setdefault(target, defaultdict(float))
            for name, value in zip(names, [*values, *values, values[0], values[-1]]):
                sizes[name] += value
            sizes[EXAMPLE, example.id] = abs(float(signed.sum()))

    def table(self) -> pd.DataFrame:
        """``target, kind, name, share, of_tokens, n_examples``, the largest of each kind first.

        ``of_tokens``: the share of the counted tokens that are of this kind and name.
        """
        rows = [row for target in self._sizes for row in self._rows(target)]
        return pd.DataFrame(rows, columns=["target", "kind", "name", "share", "of_tokens", "n_examples"])

    def _rows(self, target: str) -> Iterable[dict[str, Any]]:
        sizes, n_tokens = self._sizes[target], sum(n for (kind, _), n in self._tokens.items() if kind == CLASS)
        for kind in (EXAMPLE, TOKEN, CLASS, POSITION):
            mine = {key: size for key, size in sizes.items() if key[0] == kind}
            total = sum(size for key, size in sizes.items() if key[0] == (EXAMPLE if kind == EXAMPLE else CLASS))
            for key, size in nlargest(KEPT, mine.items(), key=itemgetter(1)):
                yield {
                    "target": target,
                    "kind": kind,
                    "name": key[1],
                    "share": size / total if total else 0.0,
                    "of_tokens": None if kind == EXAMPLE else self._tokens[key] / n_tokens,
                    "n_examples": self._examples,
                }
