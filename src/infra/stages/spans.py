"""Stage `spans`: token scores summed into steps, behaviours, token classes and parts (the `mask` definition)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.influence import combine, token_influence
from infra.models import load_model
from infra.progress import progress
from infra.recipe import Recipe
from infra.records import Record, TokenizedExample
from infra.spans import behaviours, parts, spans_to_tokens, steps, sum_over, token_classes
from infra.stages.attribute import load_folds, sets_of
from infra.stages.data import load_records
from infra.stages.runner import Context
from infra.stages.train import encode


def run_spans(context: Context, recipe: Recipe, model_path: str) -> None:
    """Steps with behaviours and token classes; their `mask` influence, per target and, on a sample, per query fold."""
    tokenised = {
        which: encode(load_records(context.dep("records") / f"{which}.parquet"), model_path, recipe)
        for which in sets_of(context)
    }
    responses = {r.id: r for which in tokenised for r in load_records(context.dep("records") / f"{which}.parquet")}
    step_rows: list[dict[str, object]] = []
    for which, examples in tokenised.items():
        scores = _token_scores(context.dep("scores"), which)
        with progress(len(examples), f"{context.label} {which}", "example") as bar:
            for example in examples:
                step_rows += step_table(example, responses[example.id], scores[example.id], which)
                bar.advance()
    pd.DataFrame(step_rows).to_parquet(context.out / "steps.parquet", index=False)
    _fold_sample(context, recipe, model_path, tokenised["train"], responses)


def step_table(
    example: TokenizedExample, record: Record, scores: Mapping[str, NDArray[np.float32]], which: str
) -> list[dict[str, object]]:
    """One row per step of a response: character and token range, part, behaviours, influence sums."""
    text = record.response or ""
    spans = steps(text)
    labels = behaviours(text, spans, answer=record.answer, question=record.question)
    ranges = spans_to_tokens(spans, example.offsets, shift=example.response_start, text=example.text)
    part = {i: name for a, b, name in parts(text) for i, (s, _) in enumerate(spans) if a <= s < b}
    sums = {name: sum_over(row[None], ranges)[0] for name, row in scores.items()}
    return [
        {
            "id": example.id,
            "set": which,
            "domain": record.domain,
            "step": i,
            "start": s,
            "end": e,
            "t0": t0,
            "t1": t1,
            "part": part.get(i, "solution"),
            "behaviours": list(labels[i]),
            **{name: float(values[i]) for name, values in sums.items()},
        }
        for i, ((s, e), (t0, t1)) in enumerate(zip(spans, ranges))
    ]


def _token_scores(folder: Path, which: str) -> dict[str, dict[str, NDArray[np.float32]]]:
    """id -> column -> token scores, of one set: views into the columns' buffers."""
    out: dict[str, dict[str, NDArray[np.float32]]] = {}
    for path in sorted((folder / "tokens").glob(f"{which}-*.parquet")):
        table = pq.read_table(path)
        ids = table["id"].to_pylist()
        for name in (c for c in table.column_names if c != "id"):
            column = table[name].combine_chunks()
            ends = column.offsets.to_numpy()
            values = column.values.to_numpy()
            for i, id_ in enumerate(ids):
                out.setdefault(id_, {})[name] = values[ends[i] : ends[i + 1]]
    return out


def _fold_sample(
    context: Context,
    recipe: Recipe,
    model_path: str,
    examples: Sequence[TokenizedExample],
    responses: Mapping[str, Record],
) -> None:
    """Groups of tokens (behaviour, token class, part) x query fold on a random sample of training examples.

    Query folds here are those of a whole target (all levels together): few directions, so that intervals over
    target queries stay affordable token by token.
    """
    folds, _, directions = load_folds(context)
    model, _ = load_model(model_path, dtype=recipe.model.dtype, device=recipe.model.device)
    rng = np.random.default_rng(recipe.seed)
    n = min(recipe.scores.span_examples, len(examples))
    sample = [examples[i] for i in sorted(rng.choice(len(examples), n, replace=False))]
    coarse, columns = [], []
    for target in dict.fromkeys(folds.target):
        for part in sorted(set(folds.part[folds.target == target])):
            counts = np.where((folds.target == target) & (folds.part == part), folds.n_queries, 0).astype(float)
            columns.append({"fold": f"{target}#{part}", "target": target, "n_queries": int(counts.sum())})
            coarse.append(combine(directions, list(counts / counts.sum()), name=f"{target}#{part}"))
    rows = []
    by_id = {e.id: e for e in sample}
    with progress(n, f"{context.label} folds", "example") as bar:
        for chunk in token_influence(model, sample, coarse, max_tokens=recipe.scores.max_tokens):
            for id_, scores in zip(chunk.ids, chunk.scores):
                example = by_id[id_]
                rows += group_rows(example, responses[id_], scores)
                bar.advance()
    frame = pd.DataFrame([r[0] for r in rows])
    order = np.lexsort((frame.value, frame.attribute, frame.id))
    frame.iloc[order].to_parquet(context.out / "groups.parquet", index=False)
    np.save(context.out / "groups.npy", np.stack([r[1] for r in rows])[order].astype(np.float32))
    pd.DataFrame(columns).to_parquet(context.out / "folds.parquet", index=False)


def group_rows(
    example: TokenizedExample, record: Record, scores: NDArray[np.float32]
) -> list[tuple[dict[str, object], NDArray[np.float64]]]:
    """For one example: (id, attribute, value, domain, n_tokens) and the sum of scores [K] of each token group."""
    text = record.response or ""
    spans = steps(text)
    labels = behaviours(text, spans, answer=record.answer, question=record.question)
    ranges = spans_to_tokens(spans, example.offsets, shift=example.response_start, text=example.text)
    inside = example.loss_mask
    masks: dict[tuple[str, str], NDArray[np.bool_]] = {}

    def mark(attribute: str, value: str, tokens: NDArray[np.bool_]) -> None:
        if tokens.any():
            old = masks.get((attribute, value))
            masks[attribute, value] = tokens if old is None else old | tokens

    places = np.arange(len(example))
    for (t0, t1), names in zip(ranges, labels):
        for name in names:
            mark("behaviour", name, inside & (places >= t0) & (places < t1))
    starts = np.maximum(example.offsets[:, 0] - example.response_start, -1)
    for a, b, name in parts(text):
        mark("part", name, inside & (starts >= a) & (starts < b))
    for name in sorted(set(classes := token_classes(example.text, example.offsets))):
        mark("token_class", name, inside & (np.array(classes) == name))
    return [
        (
            {"id": example.id, "attribute": a, "value": v, "domain": record.domain, "n_tokens": int(m.sum())},
            scores[:, m].sum(axis=1, dtype=np.float64),
        )
        for (a, v), m in sorted(masks.items())
    ]
