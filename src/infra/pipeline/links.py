"""Step `links`: which steps of a query's strongest training examples raise which tokens of its answer.

The influence of a training step s on a token t of a correct answer is

    < grad log p(step s), (H + lambda)^-1 grad log p(y_t | x, y_<t) >.

The inverse is symmetric, so that every training step becomes one direction and every answer is scored along it, token
by token (`loss` scores, exact). Summed over an example's steps and over the answer's tokens this is the influence of
the pair, exact where that of the step `queries` may be of low rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.data import TokenizedExample
from infra.influence import Curvature, Engine, InverseCurvature, gradients, token_influence
from infra.influence.targets import weights_of
from infra.layout import EXPLAINED
from infra.models import load_model, model_hash, tracked_weights
from infra.pipeline.data import load_records
from infra.pipeline.fitting import damping_of
from infra.pipeline.marked import Marked, mark
from infra.pipeline.method import has_curvature
from infra.pipeline.queries import DIRECTION_BYTES
from infra.pipeline.spread import PASSES, TRACKED, recomputing
from infra.pipeline.stage import Context
from infra.pipeline.step import Step, Uses
from infra.pipeline.targets import query_examples
from infra.pipeline.tokenized import tokens_of
from infra.progress import progress
from infra.report.encode import displayable
from infra.store import replacing

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

    The recipe's ``scores.query_links`` says how many examples of each query and side are followed. Every step of one
    costs a gradient and a product with the inverse, whichever way the queries share their examples.
    """
    recipe = context.recipe
    model, _ = load_model(context.use(EXPLAINED), dtype=recipe.model.dtype, device=recipe.model.device)
    tracked = tracked_weights(model, recipe.curvature.tracked)
    curvature = Curvature.load(context.curvature, model_hash=model_hash(model))
    frame, examples = query_examples(context)
    rows = pd.read_parquet(context.query_scores, columns=["query", "side", "rank", "id", "influence"])
    rows = rows[rows["rank"] <= recipe.scores.query_links]
    answers = {e.id: e for e in examples if e.id in set(rows["query"])}
    train = {e.id: e for e in tokens_of(context.tokenized("train")) if e.id in set(rows["id"])}
    records = {r.id: r for r in load_records(context.records("train")) if r.id in train}
    asked = {r.id: r for r in load_records(context.queries)}
    engine = Engine(model, tracked, recipe.scores.max_tokens)
    inverse = curvature.inverse(damping_of(recipe))
    weights = dict(zip(answers, weights_of(list(answers.values()), recipe.targets.form).astype(np.float32)))
    found: dict[tuple[str, str], tuple[list[Unit], NDArray[np.float32]]] = {}
    with progress(len(train), context.label, "example") as bar:
        for id_, of in rows.groupby("id", sort=False)["query"]:
            units = units_of(mark(train[id_], records[id_]))
            mine = [answers[q] for q in dict.fromkeys(of)]
            for query, scores in step_scores(engine, inverse, train[id_], units, mine):
                found[query, id_] = units, scores * weights[query]
            bar.advance()
    write_links(context.links, rows, found, train)
    targets = dict(zip(frame.id, frame.target))
    write_answers(context.link_answers, [mark(e, asked[e.id]) for e in answers.values()], targets)


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


def step_scores(
    engine: Engine,
    inverse: InverseCurvature,
    example: TokenizedExample,
    units: Sequence[Unit],
    answers: Sequence[TokenizedExample],
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """For each answer its id and float32 ``[units, T]``: how much each unit raises the log-likelihood of each token."""
    at_once = max(1, DIRECTION_BYTES // (4 * engine.tracked.size))
    parts: dict[str, list[NDArray[Any]]] = {a.id: [] for a in answers}
    for first in range(0, len(units), at_once):
        some = units[first : first + at_once]
        cut = [replace(example, loss_mask=u.mask, content_mask=None, weight=1.0, token_weights=None) for u in some]
        raw = gradients(engine, cut, np.arange(len(some)), [str(u.t0) for u in some], "summed")
        directions = [inverse @ gradient for gradient in raw]
        for chunk in token_influence(engine.model, answers, directions, max_tokens=engine.max_tokens):
            for index, scores in zip(chunk.indices, chunk.scores):
                parts[answers[index].id].append(scores)
    for id_, scores in parts.items():
        yield id_, np.concatenate(scores).astype(np.float32)


def write_links(
    path: Path,
    rows: pd.DataFrame,
    found: Mapping[tuple[str, str], tuple[Sequence[Unit], NDArray[np.float32]]],
    train: Mapping[str, TokenizedExample],
) -> None:
    """A row per query and example, in the order of ``rows``; ``scores`` are ``[units, T]``, row by row."""
    columns: dict[str, list[Any]] = {c: [] for c in ("t0", "t1", "labels", "texts", "scores")}
    for query, id_ in zip(rows["query"], rows["id"]):
        units, scores = found[query, id_]
        columns["t0"].append([u.t0 for u in units])
        columns["t1"].append([u.t1 for u in units])
        columns["labels"].append([list(u.labels) for u in units])
        columns["texts"].append([_text(train[id_], u) for u in units])
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
