"""What the step `spans` makes of a sample: sums per query fold, steps cut out of the text, the labels of a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.data import Record, Span, TargetName, TokenizedExample
from infra.experiments.selection.truncate import without
from infra.influence.methods import Fitted, mixed, spread
from infra.layout import EXPLAINED
from infra.pipeline.attribute import load_folds, token_targets_of
from infra.pipeline.marked import Marked, classes_of, mark
from infra.pipeline.method import fitted_method
from infra.pipeline.settings import StepJudgeSettings
from infra.pipeline.stage import Context
from infra.pipeline.tokenized import encode
from infra.progress import progress
from infra.spans import Judge, JudgeItem, judge_behaviours, parts, sum_over

LEAST_DELETIONS = 64
"""Steps that are deleted however few training examples there are."""


def score_sample(context: Context, examples: Sequence[TokenizedExample], records: Mapping[str, Record]) -> None:
    """What is too dear for every example: steps and token groups per query fold, and steps cut out of the text.

    Query folds here are those of a whole target (all levels together): few directions, so that intervals over target
    queries stay affordable token by token.
    """
    recipe = context.recipe
    folds, weights = load_folds(context)
    fitted = fitted_method(context)
    rng = np.random.default_rng(recipe.seed)
    n = min(recipe.scores.span_examples, len(examples))
    sample = [examples[i].counting(recipe.scores.tokens) for i in sorted(rng.choice(len(examples), n, replace=False))]
    coarse, columns = [], []
    for target in dict.fromkeys(folds.target):
        for part in sorted(set(folds.part[folds.target == target])):
            counts = np.where((folds.target == target) & (folds.part == part), folds.n_queries, 0).astype(float)
            name = str(TargetName(target, fold=int(part)))
            columns.append({"fold": name, "target": target, "n_queries": int(counts.sum())})
            coarse.append(list(counts / counts.sum()))
    in_groups, in_steps = [], []
    with progress(n, f"{context.label} folds", "example") as bar:
        for found in mixed(fitted, coarse).scores(sample):
            example = sample[found.index]
            tokens = spread(found, example)
            marked = mark(example, records[example.id])
            in_groups += group_rows(marked, tokens)
            in_steps += fold_step_rows(marked, tokens)
            bar.advance()
    _save_rows(context, "groups", in_groups, ["id", "attribute", "value"])
    _save_rows(context, "fold_steps", in_steps, ["id", "step"])
    pd.DataFrame(columns).to_parquet(context.span_folds, index=False)
    targets = token_targets_of(recipe, weights)
    whole = mixed(fitted, [list(weights[t]) for t in targets])
    chosen = sample[:: max(1, n // max(1, recipe.scores.delete_examples))][: recipe.scores.delete_examples]
    chosen = within_budget(chosen, records, max(len(examples), LEAST_DELETIONS))
    deleted = deleted_steps(context, whole, chosen, records, targets)
    deleted.to_parquet(context.deleted_steps, index=False)
    if recipe.scores.judge is not None:
        judged = judged_steps(context, recipe.scores.judge, sample, records)
        judged.to_parquet(context.judged_steps, index=False)


def within_budget(sample: list[TokenizedExample], records: Mapping[str, Record], most: int) -> list[TokenizedExample]:
    """The first examples of ``sample`` that have at most ``most`` steps together, at least one.

    Each deleted step is one more example to score, and all of them shall not cost more than the training data's scores.
    """
    steps = np.cumsum([len(mark(e, records[e.id]).spans) for e in sample])
    return sample[: max(1, int(np.searchsorted(steps, most, side="right")))]


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
    classes = np.array(classes_of(example))
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
    fitted: Fitted,
    sample: Sequence[TokenizedExample],
    records: Mapping[str, Record],
    targets: Sequence[str],
) -> pd.DataFrame:
    """Both definitions for every step of ``sample``: id, domain, step, n_tokens, behaviours, mask_<t>, delete_<t>.

    ``delete`` is the example's score minus the score of the example without the step's text. The only step of an
    example is left out: nothing would remain.
    """
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
    counted = context.recipe.scores.tokens
    shorter = encode(unique, context.use(EXPLAINED), context.recipe)
    examples = [*sample, *(e.counting(counted) for e in shorter)]
    score: dict[str, NDArray[np.float64]] = {}
    with progress(len(examples), f"{context.label} deleted", "example") as bar:
        for found in fitted.scores(examples, tokens=False):
            score[examples[found.index].id] = found.example
            bar.advance()
    tokens = {sample[s.index].id: spread(s, sample[s.index]) for s in fitted.scores(sample)}
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
