"""Pivots: clusters of the three tokens that sentences open with, an alternative to behaviour labels without
labels.

After the idea of ReasonOps (arXiv 2605.29192): the opening of a sentence gives away the operation it
performs. Here each opening becomes a vector of (a) its words and (b) the openings it follows and precedes and
its place in the trace; positive pointwise mutual information, a truncated SVD and k-means with a seed group
them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError
from infra.spans.regions import regions
from infra.spans.segment import steps

Pivot = tuple[str, ...]
_TOKEN = re.compile(r"[A-Za-z]+(?:['’][a-z]+)?|\d+(?:[.,]\d+)*|[^\w\s]")
_TAG = re.compile(r"</?\w+>|<\|\w+\|>")
_MARKS = {"␀code": "{}", "␀math": "$", "␀answer": "<answer>"}
_PLACES = 5


@dataclass(frozen=True, slots=True)
class PivotCluster:
    """Openings that behave alike. ``name``: its most frequent opening; ``count``: sentences; ``place``: their
    mean
    relative place in the trace, 0 first to 1 last."""

    name: str
    members: tuple[Pivot, ...]
    count: int
    place: float


@dataclass(frozen=True, slots=True)
class Pivots:
    """Clusters, largest first, and for each trace and step the index of its cluster (-1: opening too
    rare)."""

    clusters: tuple[PivotCluster, ...]
    assignment: tuple[tuple[int, ...], ...]


def opening(text: str, start: int, end: int) -> Pivot:
    """First three tokens of a step: words in small letters, ``#`` for a number, ``$`` for a formula, ``{}``
    for code."""
    body = _TAG.sub(" ", text[start:end].replace("<answer>", " ␀answer "))
    body = body.lstrip(" \t\r\n*_->")
    first = next(iter(regions(body)), None)
    if first is not None and first.start < 80:
        mark = " ␀code " if first.kind in ("fence", "code") else " ␀math "
        body = body[: first.start] + mark + body[first.end :]
    tokens: list[str] = []
    for m in re.finditer(rf"␀(?:code|math|answer)|{_TOKEN.pattern}", body[:400]):
        token = m.group()
        if token.startswith("␀"):
            tokens.append(_MARKS[token])
        elif token[0].isdigit():
            tokens.append("#")
        elif token[0].isalpha():
            tokens.append(token.lower().replace("’", "'"))
        elif token not in "*_.,;:!?()[]\"'":
            tokens.append(token)
        if len(tokens) == 3:
            break
    return tuple(tokens)


def pivots(
    texts: Sequence[str],
    spans: Sequence[Sequence[tuple[int, int]]] | None = None,
    clusters: int = 7,
    min_count: int = 3,
    seed: int = 0,
) -> Pivots:
    """Group the sentence openings of ``texts`` into at most ``clusters`` clusters.

    ``spans``: the steps of each text, by default its sentences. Openings seen fewer than ``min_count`` times
    fall back to their first two tokens, then one, and stay out (-1) when that is rare too. Deterministic for
    a seed. Raises :class:`InputError` when no opening is frequent enough.
    """
    if spans is None:
        spans = [steps(text) for text in texts]
    raw = [[opening(text, a, b) for a, b in row] for text, row in zip(texts, spans, strict=True)]
    rows = _back_off(raw, min_count)
    kinds = sorted({p for row in rows for p in row if p})
    if not kinds:
        raise InputError(f"no sentence opening occurs {min_count} times in {len(texts)} traces; give more traces")
    index = {p: i for i, p in enumerate(kinds)}
    counts = np.zeros(len(kinds))
    places = np.zeros(len(kinds))
    for row in rows:
        for i, p in enumerate(row):
            if p:
                counts[index[p]] += 1
                places[index[p]] += i / max(1, len(row) - 1)
    features = _features(rows, index)
    group = _kmeans(features, counts, min(clusters, len(kinds)), np.random.default_rng(seed))
    order = sorted(set(group.tolist()), key=lambda g: (-counts[group == g].sum(), g))
    rank = {g: i for i, g in enumerate(order)}
    found = []
    for g in order:
        members = sorted((i for i in range(len(kinds)) if group[i] == g), key=lambda i: (-counts[i], kinds[i]))
        total = counts[members].sum()
        found.append(
            PivotCluster(
                name=" ".join(kinds[members[0]]),
                members=tuple(kinds[i] for i in members),
                count=int(total),
                place=float(places[members].sum() / total),
            )
        )
    assigned = tuple(tuple(rank[int(group[index[p]])] if p else -1 for p in row) for row in rows)
    return Pivots(tuple(found), assigned)


def _back_off(rows: list[list[Pivot]], min_count: int) -> list[list[Pivot]]:
    """Each opening cut to its longest prefix that is frequent, or ()."""
    for length in (3, 2, 1):
        counts = Counter(p for row in rows for p in row if len(p) == length)
        rows = [[p[: length - 1] if len(p) == length and counts[p] < min_count else p for p in row] for row in rows]
    return rows


def _features(rows: list[list[Pivot]], index: dict[Pivot, int]) -> NDArray[np.float64]:
    """Unit vectors ``[openings, d]``: SVD of positive PMI between openings and their words, neighbours and
    place."""
    pairs: Counter[tuple[int, str]] = Counter()
    for row in rows:
        for i, p in enumerate(row):
            if not p:
                continue
            for j, word in enumerate(p):
                pairs[index[p], f"word:{word}"] += 2 if j == 0 else 1
            before = row[i - 1][:1] if i else ("^",)
            after = row[i + 1][:1] if i + 1 < len(row) else ("$end",)
            pairs[index[p], f"before:{before}"] += 1
            pairs[index[p], f"after:{after}"] += 1
            pairs[index[p], f"place:{min(_PLACES - 1, i * _PLACES // len(row))}"] += 1
    names = {name: k for k, name in enumerate(sorted({name for _, name in pairs}))}
    table = np.zeros((len(index), len(names)))
    for (i, name), n in pairs.items():
        table[i, names[name]] = n
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    pmi = np.log(np.maximum(table, 1e-12) / expected)
    u, s, _ = np.linalg.svd(np.maximum(pmi, 0.0), full_matrices=False)
    vectors = u[:, :24] * s[:24]
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float64] = vectors / np.maximum(norm, 1e-12)
    return unit


def _kmeans(
    points: NDArray[np.float64], weights: NDArray[np.float64], k: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Weighted spherical k-means with k-means++ starts, the best of eight; cluster of each point, int64
    ``[n]``."""
    best, best_cost = np.zeros(len(points), dtype=np.int64), np.inf
    for _ in range(8):
        centres = points[[int(rng.choice(len(points), p=weights / weights.sum()))]]
        while len(centres) < k:
            distance = np.maximum(0.0, 1.0 - (points @ centres.T).max(1)) * weights
            if distance.sum() <= 1e-12:
                break
            centres = np.vstack([centres, points[int(rng.choice(len(points), p=distance / distance.sum()))]])
        group = np.full(len(points), -1)
        for _ in range(100):
            nearest = (points @ centres.T).argmax(1)
            if (nearest == group).all():
                break
            group = nearest
            for c in range(len(centres)):
                mean = (points * weights[:, None])[group == c].sum(0)
                norm = np.linalg.norm(mean)
                if norm > 0:
                    centres[c] = mean / norm
        cost = float(((1.0 - (points * centres[group]).sum(1)) * weights).sum())
        if cost < best_cost - 1e-12:
            best, best_cost = group, cost
    return best
