"""Step `spans`: token scores summed into steps, behaviours, token classes and parts, by both definitions of a step.

`mask`: a step's influence is the sum of its tokens'. `delete`: it is the example's influence minus that of the example
without the step's text, tokenised again and scored along the same directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.analysis import Strongest
from infra.data import Record, Span, TargetName, TokenizedExample
from infra.experiments.selection.truncate import without
from infra.influence import Direction, combine, example_influence, token_influence
from infra.layout import EXPLAINED
from infra.models import load_model
from infra.pipeline.attribute import load_folds, token_targets_of
from infra.pipeline.data import load_records
from infra.pipeline.recipe import StepJudgeSettings
from infra.pipeline.spread import PASSES, recomputing
from infra.pipeline.stage import Context
from infra.pipeline.step import TOKENIZER, WEIGHTS, Step, Uses
from infra.pipeline.tokenized import ENCODING, encode, sets_of, tokens_of
from infra.progress import progress
from infra.spans import (
    Judge,
    JudgeItem,
    behaviours,
    judge_behaviours,
    parts,
    spans_to_tokens,
    steps,
    sum_over,
    token_classes,
)

SHOWN = 20  # strongest steps and tokens kept per target and side
CONTEXT = 40  # characters shown on either side of a token


@recomputing
def run_spans(context: Context) -> None:
    """Steps, behaviours and token classes with their influence; on a sample also per query fold and by deletion.

    Writes steps.parquet (every step), top_steps.parquet and top_tokens.parquet (training data), fold_steps and groups
    (a sample: rows x query folds) and deleted.parquet (both definitions side by side).
    """
    records = {which: {r.id: r for r in load_records(context.records(which))} for which in sets_of(context)}
    tokenised = {which: tokens_of(context.tokenized(which)) for which in records}
    step_rows: list[dict[str, object]] = []
    strongest: dict[str, tuple[Strongest, Strongest]] = {}
    for which, examples in tokenised.items():
        with progress(len(examples), f"{context.label} {which}", "example") as bar:
            for example, scores in with_scores(context.token_files(which), examples):
                marked = mark(example, records[which][example.id])
                rows = step_table(marked, scores, which)
                step_rows += rows
                if which == "train":
                    keep_strongest(strongest, marked, scores, rows)
                bar.advance()
    pd.DataFrame(step_rows).to_parquet(context.step_scores, index=False)
    for i, kind in enumerate(("steps", "tokens")):
        frames = [pair[i].table().assign(target=target) for target, pair in strongest.items()]
        table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        first = [c for c in ("target", "side", "rank", "id", "influence") if c in table]
        table[[*first, *table.columns.difference(first, sort=False)]].to_parquet(context.strongest(kind), index=False)
    score_sample(context, tokenised["train"], records["train"])


@dataclass(frozen=True)
class Marked:
    """An example with its steps: character ranges of the response, behaviours, token ranges, and the part of each."""

    example: TokenizedExample
    record: Record
    spans: Sequence[tuple[int, int]]
    labels: Sequence[Sequence[str]]
    ranges: Sequence[tuple[int, int]]
    part: Sequence[str]

    @property
    def text(self) -> str:
        """The response."""
        return self.record.response or ""


def mark(example: TokenizedExample, record: Record) -> Marked:
    """Segment and label the response of one example."""
    text = record.response or ""
    spans = steps(text)
    labels = behaviours(text, spans, answer=record.answer, question=record.question)
    ranges = spans_to_tokens(spans, example.offsets, shift=example.response_start, text=example.text)
    named = {i: name for a, b, name in parts(text) for i, (s, _) in enumerate(spans) if a <= s < b}
    return Marked(example, record, spans, labels, ranges, [named.get(i, "solution") for i in range(len(spans))])


def step_table(marked: Marked, scores: Mapping[str, NDArray[np.float32]], which: str) -> list[dict[str, object]]:
    """One row per step of a response: character and token range, part, behaviours, influence sums."""
    sums = {name: sum_over(row[None], marked.ranges)[0] for name, row in scores.items()}
    return [
        {
            "id": marked.example.id,
            "set": which,
            "domain": marked.record.domain,
            "step": i,
            "start": s,
            "end": e,
            "t0": t0,
            "t1": t1,
            "part": marked.part[i],
            "behaviours": list(marked.labels[i]),
            **{name: float(values[i]) for name, values in sums.items()},
        }
        for i, ((s, e), (t0, t1)) in enumerate(zip(marked.spans, marked.ranges))
    ]


def keep_strongest(
    strongest: dict[str, tuple[Strongest, Strongest]],
    marked: Marked,
    scores: Mapping[str, NDArray[np.float32]],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Add one example's steps and response tokens to each target's strongest (`loss` scores)."""
    example = marked.example
    places = np.flatnonzero(example.loss_mask)
    for column in (c for c in scores if c.startswith("loss_")):
        best = strongest.setdefault(column.removeprefix("loss_"), (Strongest(SHOWN), Strongest(SHOWN)))

        def step(i: int) -> dict[str, object]:
            start, end = marked.spans[i]
            return {
                "id": example.id,
                "domain": marked.record.domain,
                "step": i,
                "behaviours": ", ".join(marked.labels[i]),
                "preview": _line(marked.text[start:end]),
            }

        def token(i: int) -> dict[str, object]:
            a, b = (int(x) for x in example.offsets[places[i]])
            before, after = example.text[max(0, a - CONTEXT) : a], example.text[b : b + CONTEXT]
            return {
                "id": example.id,
                "domain": marked.record.domain,
                "position": int(places[i]),
                "token": example.text[a:b],
                "preview": f"{_line(before)}⟦{example.text[a:b]}⟧{_line(after)}",
            }

        best[0].add(np.array([r[column] for r in rows], dtype=np.float64), step)
        best[1].add(scores[column][places].astype(np.float64), token)


def _line(text: str, width: int = 160) -> str:
    text = text.replace("\n", "↵")
    return text if len(text) <= width else text[: width - 1] + "…"


def with_scores(
    files: Sequence[Path], examples: Sequence[TokenizedExample]
) -> Iterator[tuple[TokenizedExample, dict[str, NDArray[np.float32]]]]:
    """Each example with its token scores by column, one score file in memory at a time.

    ``files`` are the token scores of the examples' set.
    """
    by_id = {e.id: e for e in examples}
    for path in files:
        names = [n for n in pq.read_schema(path).names if n.startswith(("loss_", "position_"))]
        table = pq.read_table(path, columns=["id", *names])
        columns = {name: table[name].combine_chunks() for name in names}
        ends = {name: column.offsets.to_numpy() for name, column in columns.items()}
        values = {name: column.values.to_numpy() for name, column in columns.items()}
        for i, id_ in enumerate(table["id"].to_pylist()):
            yield by_id[id_], {name: values[name][ends[name][i] : ends[name][i + 1]] for name in names}


def score_sample(context: Context, examples: Sequence[TokenizedExample], records: Mapping[str, Record]) -> None:
    """What is too dear for every example: steps and token groups per query fold, and steps cut out of the text.

    Query folds here are those of a whole target (all levels together): few directions, so that intervals over target
    queries stay affordable token by token.
    """
    recipe = context.recipe
    folds, weights, directions = load_folds(context)
    model, _ = load_model(context.use(EXPLAINED), dtype=recipe.model.dtype, device=recipe.model.device)
    rng = np.random.default_rng(recipe.seed)
    n = min(recipe.scores.span_examples, len(examples))
    sample = [examples[i] for i in sorted(rng.choice(len(examples), n, replace=False))]
    coarse, columns = [], []
    for target in dict.fromkeys(folds.target):
        for part in sorted(set(folds.part[folds.target == target])):
            counts = np.where((folds.target == target) & (folds.part == part), folds.n_queries, 0).astype(float)
            name = str(TargetName(target, fold=int(part)))
            columns.append({"fold": name, "target": target, "n_queries": int(counts.sum())})
            coarse.append(combine(directions, list(counts / counts.sum()), name=name))
    in_groups, in_steps = [], []
    by_id = {e.id: e for e in sample}
    with progress(n, f"{context.label} folds", "example") as bar:
        for chunk in token_influence(model, sample, coarse, max_tokens=recipe.scores.max_tokens):
            for id_, scores in zip(chunk.ids, chunk.scores):
                marked = mark(by_id[id_], records[id_])
                in_groups += group_rows(marked, scores)
                in_steps += fold_step_rows(marked, scores)
                bar.advance()
    _save_rows(context, "groups", in_groups, ["id", "attribute", "value"])
    _save_rows(context, "fold_steps", in_steps, ["id", "step"])
    pd.DataFrame(columns).to_parquet(context.span_folds, index=False)
    targets = token_targets_of(recipe, weights)
    whole = [combine(directions, list(weights[t]), name=t) for t in targets]
    chosen = sample[:: max(1, n // max(1, recipe.scores.delete_examples))][: recipe.scores.delete_examples]
    deleted = deleted_steps(context, model, chosen, records, dict(zip(targets, whole)))
    deleted.to_parquet(context.deleted_steps, index=False)
    if recipe.scores.judge is not None:
        judged = judged_steps(context, recipe.scores.judge, sample, records)
        judged.to_parquet(context.judged_steps, index=False)


def _save_rows(
    context: Context, name: str, rows: Sequence[tuple[dict[str, object], NDArray[np.float64]]], order: Sequence[str]
) -> None:
    """<name>.parquet and <name>.npy, rows sorted by the columns ``order``."""
    frame = pd.DataFrame([r[0] for r in rows])
    by = np.lexsort([frame[c] for c in reversed(order)])
    frame.iloc[by].to_parquet(context.span_rows(name), index=False)
    np.save(context.span_values(name), np.stack([r[1] for r in rows])[by].astype(np.float32))


def fold_step_rows(marked: Marked, scores: NDArray[np.float32]) -> list[tuple[dict[str, object], NDArray[np.float64]]]:
    """For each step that has tokens: (id, step, group = its behaviours, part, n_tokens) and its score sums ``[F]``."""
    sums = sum_over(scores, marked.ranges)
    return [
        (
            {
                "id": marked.example.id,
                "step": i,
                "group": list(marked.labels[i]),
                "part": marked.part[i],
                "n_tokens": t1 - t0,
            },
            sums[:, i],
        )
        for i, (t0, t1) in enumerate(marked.ranges)
        if t1 > t0
    ]


def group_rows(marked: Marked, scores: NDArray[np.float32]) -> list[tuple[dict[str, object], NDArray[np.float64]]]:
    """For one example: (id, attribute, value, domain, n_tokens) and the sum of scores ``[F]`` of each group of tokens.

    Groups are token classes and parts; a group's tokens may lie anywhere in the response.
    """
    example = marked.example
    masks: dict[tuple[str, str], NDArray[np.bool_]] = {}
    starts = np.maximum(example.offsets[:, 0] - example.response_start, -1)
    for a, b, name in parts(marked.text):
        inside = example.loss_mask & (starts >= a) & (starts < b)
        masks["part", name] = masks.get(("part", name), np.zeros(len(example), dtype=bool)) | inside
    classes = np.array(token_classes(example.text, example.offsets))
    for name in sorted(set(classes.tolist())):
        masks["token_class", name] = example.loss_mask & (classes == name)
    return [
        (
            {"id": example.id, "attribute": a, "value": v, "domain": marked.record.domain, "n_tokens": int(m.sum())},
            scores[:, m].sum(axis=1, dtype=np.float64),
        )
        for (a, v), m in sorted(masks.items())
        if m.any()
    ]


def deleted_steps(
    context: Context,
    model: object,
    sample: Sequence[TokenizedExample],
    records: Mapping[str, Record],
    directions: Mapping[str, Direction],
) -> pd.DataFrame:
    """Both definitions for every step of ``sample``: id, domain, step, n_tokens, behaviours, mask_<t>, delete_<t>.

    ``delete`` is the example's score minus the score of the example without the step's text. The only step of an
    example is left out: nothing would remain.
    """
    recipe, targets = context.recipe, list(directions)
    rows: list[dict[str, object]] = []
    cut: list[Record] = []
    ranges: list[tuple[int, int]] = []
    for example in sample:
        marked = mark(example, records[example.id])
        plain = replace(marked.record, spans=())
        for i, ((start, end), (t0, t1)) in enumerate(zip(marked.spans, marked.ranges)):
            if not (marked.text[:start] + marked.text[end:]).strip():
                continue
            cut.append(without(plain, [Span(start, end, ())]))
            ranges.append((t0, t1))
            rows.append(
                {
                    "id": example.id,
                    "domain": marked.record.domain,
                    "step": i,
                    "n_tokens": t1 - t0,
                    "behaviours": list(marked.labels[i]),
                }
            )
    names = [f"{kind}_{t}" for t in targets for kind in ("mask", "delete")]
    if not rows:
        return pd.DataFrame(columns=["id", "domain", "step", "n_tokens", "behaviours", *names])
    unique = list({r.id: r for r in cut}.values())  # equal steps of one example leave the same text
    examples = [*sample, *encode(unique, context.use(EXPLAINED), recipe)]
    with progress(len(examples), f"{context.label} deleted", "example") as bar:
        scored = example_influence(
            model, examples, list(directions.values()), max_tokens=recipe.scores.max_tokens, progress=bar.reach
        ).astype(np.float64)
    score = dict(zip((e.id for e in examples), scored))
    tokens: dict[str, NDArray[np.float32]] = {}
    for chunk in token_influence(model, sample, list(directions.values()), max_tokens=recipe.scores.max_tokens):
        tokens |= dict(zip(chunk.ids, chunk.scores))
    for row, record, (t0, t1) in zip(rows, cut, ranges):
        id_ = str(row["id"])
        mask = tokens[id_][:, t0:t1].sum(axis=1, dtype=np.float64)
        lost = score[id_] - score[record.id]
        for k, target in enumerate(targets):
            row[f"mask_{target}"], row[f"delete_{target}"] = float(mask[k]), float(lost[k])
    return pd.DataFrame(rows)


def judged_steps(
    context: Context, settings: StepJudgeSettings, sample: Sequence[TokenizedExample], records: Mapping[str, Record]
) -> pd.DataFrame:
    """Behaviours by the rules and by a judge, step by step: id, step, rules, judge.

    The judge's answers are kept beside the run's stages and never asked for again. Raises
    :class:`infra.spans.JudgeError` when its server gives no labels.
    """
    marked = [mark(example, records[example.id]) for example in sample[: settings.examples]]
    judge = Judge(
        settings.server, settings.model, cache=context.beside("judge-steps"), max_tokens=settings.max_new_tokens
    )
    items = [JudgeItem(m.example.id, m.text, tuple(m.spans), m.record.question) for m in marked]
    return pd.DataFrame(
        [
            {"id": m.example.id, "step": i, "rules": list(rules), "judge": list(theirs)}
            for m, labels in zip(marked, judge_behaviours(items, judge))
            for i, (rules, theirs) in enumerate(zip(m.labels, labels))
        ]
    )


SPANS = Step(
    "spans",
    run_spans,
    reads=("records", "tokenized", "directions", "scores"),
    uses=(Uses(EXPLAINED, (WEIGHTS, TOKENIZER)),),
    settings=(
        *("scores.span_examples", "scores.delete_examples", "scores.judge", "scores.token_targets"),
        *("seed", *PASSES, *ENCODING),
    ),
    unhashed=("scale.recompute",),
)
