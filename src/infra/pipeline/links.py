"""Step `links`: which steps of a query's strongest training examples raise which tokens of its answer.

Every step of a followed example becomes a direction, (H + lambda)^-1 grad log p(step), and the answers are visited
with these directions: the score of an answer's token is its `position` score (:func:`infra.influence.token_influence`),
what the step raises through this token as an input, summed over all later predictions. The inverse is symmetric, so
that the scores of a pair, summed over the example's steps and the answer's tokens, are the influence of the pair.
Directions are of low rank, as in the step `queries`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.data import TokenizedExample
from infra.influence import (
    Curvature,
    Engine,
    InverseCurvature,
    LowRankSettings,
    pairwise_tokens,
    query_directions,
)
from infra.influence.engine.batches import Progress
from infra.influence.targets import weights_of
from infra.layout import EXPLAINED
from infra.models import load_model, model_hash, tracked_weights
from infra.pipeline.data import load_records
from infra.pipeline.fitting import damping_of
from infra.pipeline.marked import Marked, mark
from infra.pipeline.method import has_curvature
from infra.pipeline.spread import PASSES, TRACKED, recomputing
from infra.pipeline.stage import Context
from infra.pipeline.step import Step, Uses
from infra.pipeline.targets import query_examples
from infra.pipeline.tokenized import tokens_of
from infra.progress import progress
from infra.report.encode import displayable
from infra.store import replacing

LOW_RANK = LowRankSettings(energy=0.95, max_rank=16)
DIRECTION_BYTES = 1 << 29
"""Low-rank directions in memory together."""
ROWS = 32  # per row group
REST = "outside the steps"
"""Label of the tokens under the loss that no step holds, such as the end of the turn."""


@dataclass(frozen=True)
class Unit:
    """Tokens ``t0`` to ``t1`` of a training example, with their behaviours; ``mask`` bool ``[T]`` is their loss."""

    t0: int
    t1: int
    labels: tuple[str, ...]
    mask: NDArray[np.bool_]


@recomputing
def run_links(context: Context) -> None:
    """Write links.parquet (a row per query and example) and answers.parquet (the answers' tokens and steps).

    The recipe's ``scores.query_links`` says how many examples of each query and side are followed.
    """
    recipe = context.recipe
    model, _ = load_model(context.use(EXPLAINED), dtype=recipe.model.dtype, device=recipe.model.device)
    curvature = Curvature.load(context.curvature, model_hash=model_hash(model))
    engine = Engine(model, tracked_weights(model, recipe.curvature.tracked), recipe.scores.max_tokens)
    frame, examples = query_examples(context)
    rows = pd.read_parquet(context.query_scores, columns=["query", "side", "rank", "id", "influence"])
    rows = rows[rows["rank"] <= recipe.scores.query_links]
    pairs = list(zip(map(str, rows["query"]), map(str, rows["id"])))
    asked, followed = {q for q, _ in pairs}, {i for _, i in pairs}
    answers = {e.id: e for e in examples if e.id in asked}
    train = {e.id: e for e in tokens_of(context.tokenized("train")) if e.id in followed}
    records = {r.id: r for r in load_records(context.records("train")) if r.id in followed}
    units = {id_: units_of(mark(example, records[id_])) for id_, example in train.items()}
    inverse = curvature.inverse(damping_of(recipe))
    with progress(sum(map(len, units.values())), context.label, "step") as bar:
        scores = link_scores(engine, inverse, units, train, answers, pairs, bar.reach)
    weights = dict(zip(answers, weights_of(list(answers.values()), recipe.targets.form).astype(np.float32)))
    links = [(units[i], scores[q, i] * weights[q]) for q, i in pairs]
    write_links(context.links, rows, links, [train[i] for _, i in pairs])
    given = {r.id: r for r in load_records(context.queries)}
    targets = dict(zip(frame.id, frame.target))
    write_answers(context.link_answers, [mark(e, given[e.id]) for e in answers.values()], targets)


def units_of(marked: Marked) -> list[Unit]:
    """The steps of an example that have tokens under the loss, and the rest of those tokens as one unit at the end."""
    mask, left, units = marked.example.loss_mask, marked.example.loss_mask.copy(), []
    for (a, b), labels in zip(marked.ranges, marked.labels):
        own = np.zeros_like(mask)
        own[a:b] = left[a:b]
        if own.any():
            units.append(Unit(int(a), int(b), tuple(labels), own))
            left &= ~own
    if left.any():
        places = np.flatnonzero(left)
        units.append(Unit(int(places[0]), int(places[-1]) + 1, (REST,), left))
    return units


def link_scores(
    engine: Engine,
    inverse: InverseCurvature,
    units: Mapping[str, Sequence[Unit]],
    train: Mapping[str, TokenizedExample],
    answers: Mapping[str, TokenizedExample],
    pairs: Sequence[tuple[str, str]],
    told: Progress | None = None,
    settings: LowRankSettings = LOW_RANK,
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """(query, example) -> float32 ``[units, T]``: how much each unit raises the answer's log-likelihood by token.

    Some units at a time: their directions, and a visit to the answers that their examples are linked to.
    """
    linked: dict[str, list[str]] = {}
    for query, id_ in pairs:
        linked.setdefault(id_, []).append(query)
    work = [(id_, k) for id_ in linked for k in range(len(units[id_]))]
    found = {(q, i): np.zeros((len(units[i]), len(answers[q])), np.float32) for q, i in pairs}
    sides = sum(block.shape[0] + block.columns for block in engine.tracked.blocks)
    at_once = max(1, DIRECTION_BYTES // (4 * settings.max_rank * sides))
    for first in range(0, len(work), at_once):
        some = work[first : first + at_once]
        cut = [cut_to(train[id_], units[id_][k]) for id_, k in some]
        directions = query_directions(engine, cut, inverse, "summed", settings)
        near = {q: answers[q] for id_ in dict.fromkeys(i for i, _ in some) for q in linked[id_]}
        names = list(near)
        for chunk in pairwise_tokens(engine, list(near.values()), directions):
            for index, scores in zip(chunk.indices, chunk.scores):
                for row, (id_, k) in zip(scores, some):
                    if names[index] in linked[id_]:
                        found[names[index], id_][k] = row
        if told is not None:
            told(first + len(some), len(work))
    return found


def cut_to(example: TokenizedExample, unit: Unit) -> TokenizedExample:
    """The example up to the unit's end, with the unit's tokens alone under the loss: what comes later has no say."""
    end = int(np.flatnonzero(unit.mask)[-1]) + 1
    return replace(
        example,
        id=f"{example.id} from token {unit.t0}",
        input_ids=example.input_ids[:end],
        loss_mask=unit.mask[:end],
        offsets=example.offsets[:end],
        weight=1.0,
        token_weights=None,
        content_mask=None,
    )


def write_links(
    path: Path,
    rows: pd.DataFrame,
    links: Sequence[tuple[Sequence[Unit], NDArray[np.float32]]],
    train: Sequence[TokenizedExample],
) -> None:
    """A row per query and example, in the order of ``rows``; ``scores`` are ``[units, T]``, row by row."""
    columns: dict[str, list[Any]] = {c: [] for c in ("t0", "t1", "labels", "texts", "scores")}
    for example, (units, scores) in zip(train, links):
        columns["t0"].append([u.t0 for u in units])
        columns["t1"].append([u.t1 for u in units])
        columns["labels"].append([list(u.labels) for u in units])
        columns["texts"].append([_text(example, u) for u in units])
        columns["scores"].append(scores.ravel())
    kinds = {
        "t0": pa.list_(pa.int32()),
        "t1": pa.list_(pa.int32()),
        "labels": pa.list_(pa.list_(pa.string())),
        "texts": pa.list_(pa.string()),
        "scores": pa.list_(pa.float32()),
    }
    table = pa.table(
        {c: rows[c].tolist() for c in ("query", "id", "side", "rank", "influence")}
        | {c: pa.array(values, type=kinds[c]) for c, values in columns.items()}
    )
    with replacing(path) as part:
        pq.write_table(table, part, row_group_size=ROWS, compression="zstd")


def write_answers(path: Path, answers: Sequence[Marked], targets: Mapping[str, str]) -> None:
    """A row per answer: query, target, text, its tokens (starts, ends, mask) and its steps (t0, t1, labels)."""
    examples = [a.example for a in answers]
    table = pa.table(
        {
            "query": [e.id for e in examples],
            "target": [str(targets[e.id]) for e in examples],
            "text": [displayable(e.text) for e in examples],
            "starts": pa.array([e.offsets[:, 0] for e in examples], type=pa.list_(pa.int32())),
            "ends": pa.array([e.offsets[:, 1] for e in examples], type=pa.list_(pa.int32())),
            "mask": pa.array([e.loss_mask.tolist() for e in examples], type=pa.list_(pa.bool_())),
            "t0": pa.array([[a for a, _ in m.ranges] for m in answers], type=pa.list_(pa.int32())),
            "t1": pa.array([[b for _, b in m.ranges] for m in answers], type=pa.list_(pa.int32())),
            "labels": pa.array([list(map(list, m.labels)) for m in answers], type=pa.list_(pa.list_(pa.string()))),
        }
    )
    with replacing(path) as part:
        pq.write_table(table, part, row_group_size=ROWS, compression="zstd")


def _text(example: TokenizedExample, unit: Unit, width: int = 160) -> str:
    """The unit's text on one line, shortened."""
    places = np.flatnonzero(unit.mask)
    start, end = int(example.offsets[places[0], 0]), int(example.offsets[places[-1], 1])
    return " ".join(displayable(example.text[start:end]).split())[:width]


LINKS = Step(
    "links",
    run_links,
    reads=("records", "tokenized", "targets", "curvature", "queries"),
    uses=(Uses(EXPLAINED),),
    settings=(
        *("method", "curvature.damping", "curvature.damping_scale", "targets.form"),
        *("scores.query_links", TRACKED, *PASSES),
    ),
    unhashed=("scale.recompute",),
    when=lambda job: (
        min(job.recipe.scores.query_top, job.recipe.scores.query_links) > 0
        and job.makes("directions")
        and has_curvature(job.recipe)
    ),
)
