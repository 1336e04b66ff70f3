"""What a subset is a subset of: examples, steps or tokens; and how keeping some of them becomes loss weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from infra.data import Record, TokenizedExample
from infra.errors import InputError
from infra.spans import spans_to_tokens, steps

Unit = Literal["example", "step", "token"]


@dataclass(frozen=True)
class Units:
    """``U`` removable pieces of the training data.

    ``owner`` int64 ``[U]``: the example of each; ``start``, ``end`` int64 ``[U]``: its tokens; ``begin``, ``stop``:
    for steps, its characters in the response.
    """

    unit: Unit
    owner: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    begin: NDArray[np.int64]
    stop: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.owner)

    def of(self, example: int) -> NDArray[np.int64]:
        """Numbers of the units of one example."""
        return np.flatnonzero(self.owner == example)


def example_units(examples: Sequence[TokenizedExample]) -> Units:
    """One unit an example."""
    n = len(examples)
    zeros = np.zeros(n, np.int64)
    return Units("example", np.arange(n), zeros, np.array([len(e) for e in examples]), zeros, zeros)


def token_units(examples: Sequence[TokenizedExample]) -> Units:
    """One unit a token under the loss."""
    places = [np.flatnonzero(e.loss_mask) for e in examples]
    owner = np.repeat(np.arange(len(examples)), [len(p) for p in places])
    start = np.concatenate(places).astype(np.int64)
    zeros = np.zeros(len(start), np.int64)
    return Units("token", owner, start, start + 1, zeros, zeros)


def step_units(examples: Sequence[TokenizedExample], records: Sequence[Record]) -> Units:
    """One unit a step of a response (``spans.steps``) that owns at least one token under the loss."""
    rows = []
    for i, (example, record) in enumerate(zip(examples, records)):
        if example.id != record.id:
            raise InputError(f"example {example.id} is not record {record.id}; give both in the same order")
        found = steps(record.response or "")
        ranges = spans_to_tokens(found, example.offsets, example.response_start, example.text)
        rows += [(i, t0, t1, a, b) for (a, b), (t0, t1) in zip(found, ranges) if example.loss_mask[t0:t1].any()]
    table = np.array(rows, np.int64).reshape(-1, 5)
    return Units("step", *table.T)


def kept_token_weights(
    units: Units, keep: NDArray[np.bool_], examples: Sequence[TokenizedExample]
) -> list[NDArray[np.float64]]:
    """0 on the tokens of units that are not kept and 1 elsewhere: one ``[T_i]`` an example."""
    out = [np.ones(len(e)) for e in examples]
    for u in np.flatnonzero(~keep):
        out[units.owner[u]][units.start[u] : units.end[u]] = 0.0
    return out


def cut_response(record: Record, units: Units, gone: NDArray[np.int64]) -> Record:
    """The record with the steps numbered ``gone`` cut out of its response's text (offsets of spans are dropped)."""
    text = record.response or ""
    keep = np.ones(len(text), bool)
    for u in gone:
        keep[units.begin[u] : units.stop[u]] = False
    shorter = "".join(c for c, k in zip(text, keep) if k)
    last = replace(record.messages[-1], content=shorter)
    return replace(record, messages=(*record.messages[:-1], last), spans=())


def cut_examples(
    records: Sequence[Record],
    originals: Sequence[TokenizedExample],
    encode: Callable[[Sequence[Record]], Sequence[TokenizedExample]],
) -> list[TokenizedExample]:
    """Cut records as token sequences; one whose response is empty keeps its tokens and loses its loss mask."""
    whole = [i for i, r in enumerate(records) if (r.response or "").strip()]
    out = [replace(e, loss_mask=np.zeros(len(e), bool)) for e in originals]
    for i, example in zip(whole, encode([records[i] for i in whole]) if whole else []):
        out[i] = example
    return out


def sum_tokens(units: Units, token_scores: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Token scores (one ``[K, T_i]`` an example) summed over each unit: ``[U, K]``."""
    totals = [np.concatenate([np.zeros((len(s), 1)), np.cumsum(s, 1, dtype=np.float64)], 1) for s in token_scores]
    return np.stack([totals[o][:, b] - totals[o][:, a] for o, a, b in zip(units.owner, units.start, units.end)])
