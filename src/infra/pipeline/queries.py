"""Step `queries`: for every single query of the targets, the training examples it gains and loses most from.

A query is one response inside a target, with a gradient of its own. A visit to the training data gives every example's
influence on every query. Where full-rank directions fit in memory it is exact, and a second visit gives the tokens of
the pairs that are kept, from low-rank directions; else the low-rank directions give both in one visit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from infra.data import TokenizedExample
from infra.influence import (
    Curvature,
    Direction,
    Engine,
    LowRankSettings,
    chosen_tokens,
    example_influence,
    gradients,
    pairwise_tokens,
    query_directions,
)
from infra.influence.engine.lowrank import LowRank, compress, concatenate
from infra.influence.scores import TokenScores
from infra.layout import EXPLAINED
from infra.models import TrackedWeights, load_model, model_hash, tracked_weights
from infra.pipeline.data import load_records
from infra.pipeline.fitting import damping_of
from infra.pipeline.method import has_curvature
from infra.pipeline.recipe import Recipe
from infra.pipeline.spread import PASSES, TRACKED, recomputing
from infra.pipeline.stage import Context
from infra.pipeline.step import Step, Uses
from infra.pipeline.targets import query_examples
from infra.pipeline.tokenized import tokens_of
from infra.progress import progress
from infra.report.encode import displayable
from infra.store import replacing, seal, sealed, write_json

DIRECTION_BYTES = 1 << 29
"""Full-rank directions in memory together; more queries take further visits to the data."""
ENERGY = 0.95
RANK = 32
DECOMPOSITION = "position"
ROWS = 256  # per row group


@recomputing
def run_queries(context: Context) -> None:
    """Write queries.parquet: ``query, target, text, side, rank, id, influence, tokens``, and accuracy.json.

    ``tokens`` are `position` scores of low rank (accuracy.json says how much they lose, and whether ``influence`` is
    exact). The
    recipe's ``scores.queries`` draws that many queries at random, the same number of every target.
    """
    recipe = context.recipe
    model, _ = load_model(context.use(EXPLAINED), dtype=recipe.model.dtype, device=recipe.model.device)
    tracked = tracked_weights(model, recipe.curvature.tracked)
    curvature = Curvature.load(context.curvature, model_hash=model_hash(model))
    frame, queries = query_examples(context)
    kept = chosen_queries(frame, recipe.scores.queries, recipe.seed)
    frame, queries = frame.iloc[kept].reset_index(drop=True), [queries[i] for i in kept]
    train = [e.counting(recipe.scores.tokens) for e in tokens_of(context.tokenized("train"))]
    visit = first_visit(context, model, tracked, curvature, train, queries)
    scores, low = visit.scores, visit.directions
    rows, chosen = strongest_pairs(scores, recipe.scores.query_top)
    tokens = visit.tokens
    if tokens is None:
        tokens = {}
        with progress(int(chosen.any(axis=1).sum()), f"{context.label} tokens", "example") as bar:
            engine = Engine(model, tracked, recipe.scores.max_tokens)
            for index, which, values in chosen_tokens(engine, train, low, chosen, bar.reach):
                tokens |= {(index, int(q)): row.astype(np.float32) for q, row in zip(which, values)}
    records = {r.id: r for r in load_records(context.queries)}
    texts = [displayable(f"{records[q.id].question}\n\n{records[q.id].response}") for q in queries]
    heads = [(q.id, str(target), text) for q, target, text in zip(queries, frame.target, texts)]
    write_queries(context.query_scores, rows, scores, tokens, [e.id for e in train], heads)
    whole = np.array([scores[i, q] for q, _, _, i in rows], dtype=np.float64)
    added = np.array([tokens[i, q].sum(dtype=np.float64) for q, _, _, i in rows])
    size = float(np.linalg.norm(whole))
    write_json(
        context.query_accuracy,
        {
            "queries": len(queries),
            "examples": len(train),
            "kept_per_side": recipe.scores.query_top,
            "decomposition": DECOMPOSITION,
            "energy_kept": {"mean": float(low.kept.mean()), "least": float(low.kept.min())},
            "influence": "low rank" if visit.tokens is not None else "exact",
            "token_sums_against_influence": float(np.linalg.norm(added - whole)) / size if size else 0.0,
        },
    )


def chosen_queries(frame: pd.DataFrame, most: int | None, seed: int) -> list[int]:
    """Rows of ``frame`` to follow: all, or ``most`` of them, drawn at random with equal shares of the targets."""
    if most is None or most >= len(frame):
        return list(range(len(frame)))
    rng = np.random.default_rng([seed, 11])
    piles = [list(rng.permutation(np.flatnonzero(frame.target == t))) for t in dict.fromkeys(frame.target)]
    drawn: list[int] = []
    while len(drawn) < most:
        for pile in piles:
            if pile and len(drawn) < most:
                drawn.append(int(pile.pop()))
    return sorted(drawn)


@dataclass(frozen=True)
class Visit:
    """Influence of every example on every query, float32 ``[N, Q]``, and the queries' low-rank directions.

    ``tokens``: `position` scores float32 ``[T_i]`` of the strongest pairs (example, query), where the influence is that
    of the low-rank directions itself, so that one visit gives both; None where it is exact.
    """

    scores: NDArray[np.float32]
    directions: LowRank
    tokens: dict[tuple[int, int], NDArray[np.float32]] | None = None


def first_visit(
    context: Context,
    model: Any,
    tracked: TrackedWeights,
    curvature: Curvature,
    train: Sequence[TokenizedExample],
    queries: Sequence[TokenizedExample],
) -> Visit:
    """Influence of every example on every query.

    Where fewer than eight full-rank directions fit in memory a visit for each handful of queries would be too dear:
    the influence is then that of the low-rank directions. Finished groups of queries lie in ``part-*.npy``, and a
    later command goes on from them.
    """
    recipe = context.recipe
    damping, form, most = damping_of(recipe), recipe.targets.form, recipe.scores.max_tokens
    engine, inverse = Engine(model, tracked, most), curvature.inverse(damping)
    group = DIRECTION_BYTES // (4 * tracked.size)
    if group < min(8, len(queries)):
        low = query_directions(engine, queries, inverse, form, LowRankSettings(ENERGY, RANK))
        with progress(len(train), context.label, "example") as bar:
            return _low_rank_visit(pairwise_tokens(engine, train, low, bar.reach), low, len(train), recipe)
    columns, parts = [], []
    with progress(len(queries), context.label, "query") as bar:
        for first in range(0, len(queries), group):
            some = queries[first : first + group]
            full = [inverse @ g for g in gradients(engine, some, np.arange(len(some)), [q.id for q in some], form)]
            cache = context.out / f"part-{first:06d}.npy"
            if not sealed(context.out, cache):
                with replacing(cache) as part, open(part, "wb") as handle:
                    np.save(handle, example_influence(model, train, full, max_tokens=most))
                seal(context.out, cache)  # a later command goes on from it
            columns.append(np.load(cache))
            parts += [_compressed(tracked, full[i : i + 16]) for i in range(0, len(full), 16)]
            bar.advance(len(some))
    for file in context.out.glob("part-*.npy"):
        file.unlink()
    return Visit(np.concatenate(columns, axis=1).astype(np.float32), concatenate(parts))


def _low_rank_visit(chunks: Iterator[TokenScores], low: LowRank, n: int, recipe: Recipe) -> Visit:
    """Token scores of every pair pass by once; those of pairs that may be among the strongest are kept."""
    scores = np.zeros((n, len(low)), np.float32)
    tokens: dict[tuple[int, int], NDArray[np.float32]] = {}
    most = recipe.scores.query_top
    wanted, seen = 2 * most * len(low), list[int]()
    for chunk in chunks:
        for index, rows in zip(chunk.indices, chunk.scores):
            scores[index] = rows.sum(axis=1)
            tokens |= {(index, q): row.astype(np.float32) for q, row in enumerate(rows)}
            seen.append(index)
        if len(tokens) > 2 * wanted:
            places = np.array(sorted(seen))
            _, chosen = strongest_pairs(scores[places], most, n)
            kept = {(int(places[i]), int(q)) for i, q in zip(*np.nonzero(chosen))}
            tokens = {pair: row for pair, row in tokens.items() if pair in kept}
            seen = sorted({index for index, _ in kept})
    return Visit(scores, low, tokens)


def _compressed(tracked: TrackedWeights, directions: Sequence[Direction]) -> LowRank:
    return compress(
        {b.key: torch.stack([b.matrix(d.tensors) for d in directions]) for b in tracked.blocks}, ENERGY, RANK
    )


def strongest_pairs(
    scores: NDArray[np.float32], most: int, among: int | None = None
) -> tuple[list[tuple[int, str, int, int]], NDArray[np.bool_]]:
    """(query, side, rank, example) of each query's ``most`` highest and lowest, and bool ``[N, Q]``: which those are.

    Ties go to the earlier example; with fewer than ``2 most`` examples none is on both sides. ``among``: how many
    examples there are in all, when ``scores`` are those of some of them.
    """
    n_queries = scores.shape[1]
    n = len(scores) if among is None else among
    top, bottom = min(most, (n + 1) // 2), min(most, n // 2)
    rows: list[tuple[int, str, int, int]] = []
    chosen = np.zeros(scores.shape, dtype=bool)
    for q in range(n_queries):
        order = np.argsort(-scores[:, q], kind="stable")
        for side, picked in (("top", order[:top]), ("bottom", order[::-1][:bottom])):
            rows += [(q, side, rank, int(i)) for rank, i in enumerate(picked, start=1)]
            chosen[picked, q] = True
    return rows, chosen


def write_queries(
    path: Path,
    rows: Sequence[tuple[int, str, int, int]],
    scores: NDArray[np.float32],
    tokens: Mapping[tuple[int, int], NDArray[np.float32]],
    ids: Sequence[str],
    queries: Sequence[tuple[str, str, str]],
) -> None:
    """Sorted by query in small row groups, so that following one query reads little. ``queries``: id, target, text."""
    schema = pa.schema(
        [
            ("query", pa.string()),
            ("target", pa.string()),
            ("text", pa.string()),
            ("side", pa.string()),
            ("rank", pa.int32()),
            ("id", pa.string()),
            ("influence", pa.float32()),
            ("tokens", pa.list_(pa.float32())),
            ("decomposition", pa.string()),
        ]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, len(rows), ROWS):
            some = rows[first : first + ROWS]
            columns: dict[str, Any] = {
                "query": [queries[q][0] for q, *_ in some],
                "target": [queries[q][1] for q, *_ in some],
                "text": [queries[q][2] for q, *_ in some],
                "side": [side for _, side, _, _ in some],
                "rank": [rank for _, _, rank, _ in some],
                "id": [ids[i] for *_, i in some],
                "influence": [float(scores[i, q]) for q, _, _, i in some],
                "tokens": [tokens[i, q] for q, _, _, i in some],
                "decomposition": [DECOMPOSITION] * len(some),
            }
            writer.write_table(pa.table(columns, schema=schema), row_group_size=ROWS)


QUERIES = Step(
    "queries",
    run_queries,
    reads=("tokenized", "targets", "curvature"),
    uses=(Uses(EXPLAINED),),
    settings=(
        *(
            "method",
            "scores.query_top",
            "scores.queries",
            "scores.tokens",
            "curvature.damping",
            "curvature.damping_scale",
            "targets.form",
        ),
        *("seed", TRACKED, *PASSES),
    ),
    unhashed=("scale.recompute",),
    when=lambda job: job.recipe.scores.query_top > 0 and job.makes("directions") and has_curvature(job.recipe),
)
