"""Step `effects`: what influence alone says of cells of the data, of steps and of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.analysis import (
    definition_agreement,
    domain_means,
    effects,
    permutation_test,
    span_effects,
    span_permutation_test,
    target_agreement,
    top_bottom,
    with_bands,
)
from infra.analysis.folds import target_folds
from infra.data import is_whole, whole_targets
from infra.experiments.retraining import read_validity
from infra.pipeline.attribute import load_folds
from infra.pipeline.stage import Context
from infra.pipeline.step import Job, Step
from infra.pipeline.validity import STAGE as VALIDATION
from infra.spans import LABELS, cohen_kappa, label_kappa


def run_effects(context: Context) -> None:
    """Effects of cells of the training data, of steps and of token groups on every target, from influence alone.

    Writes effects, domain_means, behaviours, token_classes, parts (with intervals and false-discovery rates),
    permutation (shuffled labels), agreement (between targets) and step_definitions (`mask` against `delete`).
    """
    recipe = context.recipe
    table = pd.read_parquet(context.example_scores)
    fold_scores = np.load(context.fold_scores)
    folds, weights = load_folds(context)
    targets = by_name(folds, weights)
    whole = {t: w for t, w in targets.items() if is_whole(t)}
    examples = with_bands(table, recipe.arms.easy, recipe.arms.hard)
    wanted = dict.fromkeys((*recipe.effects.attributes, "difficulty_band"))
    attributes = tuple(a for a in wanted if a in examples.columns)
    options: dict[str, Any] = {"n_boot": recipe.effects.bootstrap, "seed": recipe.seed}
    measured = read_validity(context.root_for(VALIDATION)) if context.has(VALIDATION) else {}
    whole_examples = measured.get("example", {})
    shuffles: dict[str, Any] = {"n_permutations": recipe.effects.bootstrap, "seed": recipe.seed}
    found = {
        "effects": effects(examples, fold_scores, folds, targets, attributes, validity=whole_examples, **options),
        "domain_means": domain_means(examples, fold_scores, folds, whole, validity=whole_examples, **options),
    }
    tests = [permutation_test(examples, fold_scores, folds, whole, attributes, **shuffles).assign(table="effects")]
    span_folds = pd.read_parquet(context.span_folds)
    for name, attribute, rows, values, length in span_tables(context):
        spans: dict[str, Any] = {"examples": table, "attribute": attribute}
        removed = "step" if name == "behaviours" else "token"  # what was masked to validate scores of this kind
        found[name] = span_effects(
            rows, values, span_folds, length=length, validity=measured.get(removed), **spans, **options
        )
        tests.append(span_permutation_test(rows, values, span_folds, **spans, **shuffles).assign(table=name))
    shuffled = pd.concat(tests, ignore_index=True)
    found["permutation"] = shuffled.sort_values("target", key=lambda t: t != "(table)", kind="stable")
    train = table[table.set == "train"]
    if len(whole) > 1 and len(train) >= 3:
        found["agreement"] = target_agreement(
            train[[f"score_{t}" for t in whole]].to_numpy(), list(whole), seed=recipe.seed
        )
    deleted = pd.read_parquet(context.deleted_steps)
    both = [c.removeprefix("mask_") for c in deleted.columns if c.startswith("mask_")]
    found["step_definitions"] = definition_agreement(deleted, both, seed=recipe.seed)
    if context.judged_steps.exists():
        found["judge_agreement"] = judge_agreement(pd.read_parquet(context.judged_steps))
    for name, frame in found.items():
        frame.to_parquet(context.effect(name), index=False)


def span_tables(context: Context) -> list[tuple[str, str, pd.DataFrame, NDArray[np.float32], str]]:
    """(table, attribute, rows, scores ``[R, F]``, what lengths are matched on) below the example.

    Behaviours are compared step by step at equal step length; parts and token classes, which lie all over a response,
    as sums over the response at equal response length.
    """
    steps, step_scores = pd.read_parquet(context.span_rows("fold_steps")), np.load(context.span_values("fold_steps"))
    groups = pd.read_parquet(context.span_rows("groups")).rename(columns={"value": "group"})
    scores = np.load(context.span_values("groups"))
    out = [("behaviours", "behaviour", steps, step_scores, "span")]
    for name, attribute in (("token_classes", "token_class"), ("parts", "part")):
        mine = (groups.attribute == attribute).to_numpy()
        out.append((name, attribute, groups[mine].reset_index(drop=True), scores[mine], "response"))
    return out


def judge_agreement(steps: pd.DataFrame) -> pd.DataFrame:
    """Kappa between the rules' and the judge's behaviours: the whole label set, then each label as yes or no."""
    rules, judge = ([tuple(sorted(row)) for row in steps[column]] for column in ("rules", "judge"))
    rows: list[dict[str, Any]] = [{"label": "(whole set)", "kappa": cohen_kappa(rules, judge)}]
    for label, kappa in label_kappa(rules, judge, LABELS).items():
        counts = {
            f"n_{name}": sum(label in row for row in rows_) for name, rows_ in (("rules", rules), ("judge", judge))
        }
        rows.append({"label": label, "kappa": kappa, **counts})
    return pd.DataFrame(rows, columns=["label", "kappa", "n_rules", "n_judge"]).assign(n_steps=len(steps))


def by_name(folds: pd.DataFrame, weights: Mapping[str, NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    """Target -> name of fold -> weight, for the folds that have one."""
    return {t: {f: float(x) for f, x in zip(folds.fold, w) if x > 0} for t, w in weights.items()}


def attribution_tables(context: Context) -> dict[str, pd.DataFrame]:
    """The tables that come from influence alone: effects, and the strongest examples, steps and tokens."""
    tables = {p.stem: pd.read_parquet(p) for p in context.effect_tables}
    strongest = {f"top_{kind}": pd.read_parquet(context.strongest(kind)) for kind in ("steps", "tokens")}
    return {**tables, "top": top_examples(context), **strongest, "shares": pd.read_parquet(context.shares)}


def top_examples(context: Context) -> pd.DataFrame:
    """The most and least helpful training examples of each whole target, with the 95% interval over its queries."""
    table = pd.read_parquet(context.example_scores)
    mine = np.flatnonzero(table.set == "train")
    table = table.iloc[mine].reset_index(drop=True)
    targets = whole_targets(table.columns)
    top = top_bottom(table, table[[f"score_{t}" for t in targets]].to_numpy(), targets)
    top = with_standing(top, table)
    fold_scores = np.load(context.fold_scores, mmap_mode="r")
    folds, weights = load_folds(context)
    return with_intervals(top, dict(zip(table.id.astype(str), mine)), fold_scores, folds, by_name(folds, weights))


def with_standing(top: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """``top`` with each influence's place among those of all ``examples``: columns to read it by.

    - ``percentile``: share of the examples with at most this score, in percent.
    - ``standardised``: standard deviations from the mean; NaN where all are equal.
    - ``relative``: minus the mean of the example's domain.
    - ``cosine``: over the norms of gradient and direction, where the recipe asks for it.
    - ``format``: the part of the chat template's tokens, where the target has token scores.
    """
    parts = []
    for target, rows in top.groupby("target", sort=False):
        known = examples.set_index(examples.id.astype(str))
        scores = known[f"score_{target}"].astype(np.float64)
        mine = scores.loc[rows.id]
        spread = scores.std(ddof=1)
        below = np.searchsorted(np.sort(scores.to_numpy()), mine.to_numpy(), side="right")
        means = scores.groupby(known["domain"]).transform("mean")
        added = {
            "percentile": 100 * below / len(scores),
            "standardised": ((mine - scores.mean()) / spread).to_numpy() if spread > 0 else np.nan,
            "relative": (mine - means.loc[rows.id]).to_numpy(),
        }
        for name in ("cosine", "format"):
            if f"{name}_{target}" in known:
                added[name] = known[f"{name}_{target}"].loc[rows.id].to_numpy(np.float64)
        parts.append(rows.assign(**added))
    return pd.concat(parts) if parts else top


def with_intervals(
    top: pd.DataFrame,
    row_of: Mapping[str, int],
    fold_scores: NDArray[np.float32],
    folds: pd.DataFrame,
    targets: Mapping[str, Mapping[str, float]],
) -> pd.DataFrame:
    """``top`` with columns ``low`` and ``high``: a t interval of each influence over resampled query folds.

    Args:
        top: rows of :func:`infra.analysis.top_bottom`.
        row_of: id -> its row of ``fold_scores`` ``[N, F]``.
        folds: one row per column of ``fold_scores``.
        targets: name -> fold -> weight. A target of a single fold gets no interval.
    """
    whole = {t: targets[t] for t in dict.fromkeys(top.target)}
    drawn = target_folds(folds, fold_scores.shape[1], whole, n_boot=200, seed=0)
    half = np.full(len(top), np.nan)
    for target in drawn.names:
        places = np.flatnonzero(top.target == target)
        half[places] = drawn.half_width(fold_scores[[row_of[i] for i in top.id.iloc[places]]], {target: 1.0})
    return top.assign(low=top.influence - half, high=top.influence + half)


def validated(job: Job) -> tuple[str, ...]:
    """The step `validation` where the job has it."""
    return (VALIDATION,) if job.recipe.validation is not None and job.trains else ()


EFFECTS = Step(
    "effects",
    run_effects,
    reads=lambda job, _: ("directions", "scores", "spans", *validated(job)),
    settings=("effects", "seed", "arms.easy", "arms.hard"),
)
