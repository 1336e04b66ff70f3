"""Steps that attribute: `curvature`, `directions`, `scores`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.data import Counted, Record, TokenizedExample, TokenizedFile, is_whole
from infra.influence import FitSettings, combine, fit_curvature, identity, open_directions
from infra.influence.fit import subsample_draw
from infra.influence.methods import AlongDirections, has_token_scores, write_fitted
from infra.influence.steps import ModelSettings, OnDisk, each_shard
from infra.layout import EXPLAINED
from infra.models import load_model, tracked_weights
from infra.parallel.process_group import this_rank
from infra.parallel.shards import open_shards
from infra.pipeline.fitting import announce, damping_of, decide
from infra.pipeline.method import GRADIENT, fit_method, has_curvature, models_of_method
from infra.pipeline.recipe import Recipe
from infra.pipeline.spread import PASSES, TRACKED, launcher_of, model_of, recomputing, shards_of, work_folder
from infra.pipeline.stage import Context
from infra.pipeline.step import Job, Step, Uses
from infra.pipeline.targets import fold_names, folds_table, query_folds, target_weights
from infra.pipeline.tokenized import sets_of, stored_records
from infra.plugins import file_of
from infra.progress import progress
from infra.store import link, read_json, write_json


@recomputing
def run_curvature(context: Context) -> None:
    """Fit the curvature on the training data of the model that is explained. Every process takes its share."""
    recipe = context.recipe
    c = recipe.curvature
    if recipe.method == GRADIENT:
        if this_rank().first:
            model, _ = load_model(context.use(EXPLAINED), dtype=recipe.model.dtype)
            identity(tracked_weights(model, c.tracked)).save(context.out)
        return
    model, launcher = model_of(context), launcher_of(recipe)
    train = open_shards(context.tokenized("train"))
    with work_folder(context) as work:
        decided = decide(recipe, train.stream(), model, work, launcher.runtime)
        settings = FitSettings(
            recipe.method, c.fisher, recipe.seed, decided.eigenvalues, c.include_prompt, block_size=c.block_size
        )
        data = train
        if decided.below < 1.0:
            chosen = subsampled(train.stream(), decided.below, recipe.seed)
            data = shards_of(chosen, work / "train.parquet", recipe)
        announce(context.label, "fit", model, data, work, launcher.runtime, block_size=c.block_size)
        visits = 1 if recipe.method == "diagonal" else 2
        with progress(visits * sum(data.tokens), context.label, "token") as bar:
            found = fit_curvature(OnDisk(work, data, model, launcher, bar.advance, c.sum_shards), settings)
        if this_rank().first:
            noted = {"agreement": decided.agreement, "per_token_check": decided.per_token_check}
            fitted = found.curvature(model.model_hash)
            fitted.noting(available=sum(train.examples), **noted).save(context.out)


def subsampled(examples: Iterable[TokenizedExample], fraction: float, seed: int) -> Iterator[TokenizedExample]:
    """About that share of the examples, each chosen by hash of seed and id; at least the first."""
    for i, example in enumerate(examples):
        if fraction >= 1.0 or i == 0 or subsample_draw(seed, example) < fraction:
            yield example


@recomputing
def run_directions(context: Context) -> None:
    """Fit the method on the folds of the targets. Writes folds.parquet, targets.json and the fitted method."""
    recipe = context.recipe
    queries = open_shards(context.tokenized_queries)
    frame = query_folds(context, [e.id for e in queries.stream()])
    folds = folds_table(frame)
    number = {name: i for i, name in enumerate(folds.fold)}
    groups = np.array([number[name] for name in fold_names(frame)], dtype=np.int64)
    model = model_of(context)
    if not has_curvature(recipe):
        if this_rank().first:
            fit_method(context, model, queries, groups, list(folds.fold))
            write_targets(context, folds, model)
        return
    with work_folder(context) as work:
        announce(context.label, "gradients", model, queries, work, launcher_of(recipe).runtime, len(folds))
        with progress(sum(queries.tokens), context.label, "token") as bar:
            place = OnDisk(work, queries, model, launcher_of(recipe), bar.advance, recipe.curvature.sum_shards)
            found = place.directions(
                groups,
                list(folds.fold),
                context.curvature,
                damping_of(recipe),
                recipe.targets.form,
            )
        if found is not None:  # maybe still in the work folder
            write_fitted(recipe.method, AlongDirections(place.engine, found), context.out, model.model_hash)
    if found is not None:
        write_targets(context, folds, model)


def write_targets(context: Context, folds: pd.DataFrame, model: ModelSettings) -> None:
    """What the method's scores are on: folds, targets as weights over them; and the share of tracked weights."""
    recipe = context.recipe
    folds.to_parquet(context.folds, index=False)
    weights = target_weights(folds, recipe.targets.minimum)
    write_json(context.target_weights, {k: v.tolist() for k, v in weights.items()})
    tracked = tracked_weights(load_model(model.path, dtype=recipe.model.dtype)[0], recipe.curvature.tracked)
    write_json(
        context.coverage,
        {"tracked": recipe.curvature.tracked, "share": tracked.coverage, "parameters": tracked.total},
    )


def load_weights(context: Context) -> dict[str, NDArray[np.float64]]:
    """Each target as weights over folds."""
    return {k: np.array(v) for k, v in read_json(context.target_weights).items()}


def load_folds(context: Context) -> tuple[pd.DataFrame, dict[str, NDArray[np.float64]]]:
    """Folds, and targets as weights over folds."""
    return pd.read_parquet(context.folds), load_weights(context)


def preview(record: Record, width: int = 160) -> str:
    """The question on one line, for tables."""
    text = " ".join(record.question.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def describe(records: Sequence[Record], examples: Sequence[TokenizedExample], which: str) -> pd.DataFrame:
    """One row per example: id, set and everything to slice by."""
    rows = []
    for record, example in zip(records, examples):
        rows.append(
            {
                **{k: v for k, v in record.attributes.items()},
                "id": record.id,
                "set": which,
                "domain": record.domain,
                "source": record.source,
                "n_tokens": len(example),
                "n_response_tokens": example.n_response_tokens,
                "preview": preview(record),
            }
        )
    frame = pd.DataFrame(rows)
    if "difficulty" not in frame:
        frame["difficulty"] = None
    frame["difficulty"] = pd.to_numeric(frame["difficulty"], errors="coerce").astype("Int64")  # missing stays missing
    return frame


def token_targets_of(recipe: Recipe, targets: Iterable[str]) -> list[str]:
    """The targets whose scores are kept token by token: those the recipe names, or every whole one if there is none."""
    whole = [t for t in targets if is_whole(t)]
    named = [t for t in recipe.scores.token_targets if t in set(targets)]
    return named or whole


@recomputing
def run_scores(context: Context) -> None:
    """Influence of every example on every fold, and of every token on the token targets; training data and pool."""
    recipe, here = context.recipe, context.directions
    weights = load_weights(context)
    targets = token_targets_of(recipe, weights)
    decompositions = ("loss", "position") if recipe.scores.position else ("loss",)
    model, launcher = model_of(context), launcher_of(recipe)
    frames, folds, check, share = [], [], {}, {}
    with work_folder(context) as work:
        for which in sets_of(context):
            data = open_shards(context.tokenized(which))
            label, runtime = f"{context.label} {which}", launcher.runtime
            announce(label, "examples", model, data, work / which, runtime, len(pd.read_parquet(context.folds)))
            announce(label, "forward", model, data, work / which, runtime, len(targets))
            visits = 3 if recipe.scores.cosine else 2
            with progress(visits * sum(data.tokens), label, "token") as bar:
                place = OnDisk(work / which, data, model, launcher, bar.advance)
                counted = recipe.scores.tokens
                examples = place.example_scores(here, counted)
                norms = place.gradient_norms(counted) if recipe.scores.cosine else None
                tokens = place.token_scores(here, {t: weights[t].tolist() for t in targets}, decompositions, counted)
            if not this_rank().first:
                continue
            per_fold = np.concatenate(list(each_shard(examples)))
            frame = described(stored_records(context.records(which)), data, which)
            for name, w in weights.items():
                frame[f"score_{name}"] = (per_fold.astype(np.float64) @ w).astype(np.float32)
            put_in_place(tokens.results(), context, which)
            if norms is not None:
                lengths = np.concatenate(list(each_shard(norms)))
                for target in targets:
                    size = lengths * combine(open_directions(here), weights[target].tolist()).norm()
                    frame[f"cosine_{target}"] = (frame[f"score_{target}"] / np.where(size > 0, size, np.inf)).astype(
                        np.float32
                    )
            for target in targets:
                sums = token_sums(context.token_files(which), target, counted)
                frame[f"format_{target}"] = sums.template.astype(np.float32)
                exact = frame[f"score_{target}"].to_numpy(np.float64)
                check[f"{which}:{target}"] = float(np.linalg.norm(sums.counted - exact) / np.linalg.norm(exact))
                share[f"{which}:{target}"] = sums.template_share
            frames.append(frame)
            folds.append(per_fold)
        if this_rank().first:
            pd.concat(frames, ignore_index=True).to_parquet(context.example_scores, index=False)
            np.save(context.fold_scores, np.concatenate(folds))
            said = {"token_sums_against_example_scores": check, "spread_evenly": not has_token_scores(recipe.method)}
            write_json(context.score_check, {**said, "tokens": recipe.scores.tokens, "template_share": share})


def described(records: Iterable[Record], data: TokenizedFile, which: str) -> pd.DataFrame:
    """:func:`describe` for examples in shards, of which the records are a superset in the same order."""
    waiting = iter(records)
    frames = []
    for examples in data:
        matching = [next(r for r in waiting if r.id == e.id) for e in examples]
        frames.append(describe(matching, examples, which))
    return pd.concat(frames, ignore_index=True)


def put_in_place(results: Sequence[Path], context: Context, which: str) -> None:
    """Token-score files as tokens/<set>-<shard>.parquet."""
    for number, result in enumerate(results):
        path = context.token_file(which, number)
        path.parent.mkdir(exist_ok=True)
        link(result, path)


@dataclass(frozen=True)
class TokenSums:
    """Sums of one target's `loss` scores over the tokens of each example, float64 ``[N]``.

    ``counted``: over the tokens that make the example's score. ``template``: over those that the chat template wrote.
    ``template_share``: the template tokens' share of the absolute scores of all tokens of all examples.
    """

    counted: NDArray[np.float64]
    template: NDArray[np.float64]
    template_share: float


def token_sums(files: Sequence[Path], target: str, counted: Counted) -> TokenSums:
    """The sums of a target over files of token scores, in the order of their examples."""
    column, sums, sizes = f"loss_{target}", [], np.zeros(2)
    for file in files:
        table = pq.read_table(file, columns=[column, "template"])
        for values, template in zip(table[column].to_pylist(), table["template"].to_pylist()):
            scores, mask = np.asarray(values, np.float64), np.asarray(template, bool)
            parts = scores[~mask].sum(), scores[mask].sum()
            sums.append((parts[0] if counted == "content" else sum(parts), parts[1]))
            sizes += np.abs(scores[mask]).sum(), np.abs(scores).sum()
    both = np.array(sums, np.float64).reshape(-1, 2)
    return TokenSums(both[:, 0], both[:, 1], float(sizes[0] / sizes[1]) if sizes[1] else 0.0)


def _fit_settings(job: Job) -> tuple[str, ...]:
    c = job.recipe.curvature
    own = ("fisher", "eigenvalues", "include_prompt", "block_size", "fraction", "sum_shards")
    probed = ("curvature.damping", "curvature.damping_scale") if c.fraction == "auto" else ()
    return ("method", *(f"curvature.{name}" for name in own), TRACKED, *PASSES, "scores.shard_tokens", "seed", *probed)


CURVATURE = Step(
    "curvature",
    run_curvature,
    reads=("tokenized",),
    uses=(Uses(EXPLAINED),),
    settings=_fit_settings,
    unhashed=("scale",),
    when=lambda job: job.makes("directions") and has_curvature(job.recipe),
    parallel=True,
)
DIRECTIONS = Step(
    "directions",
    run_directions,
    reads=lambda job, _: ("targets", "curvature") if has_curvature(job.recipe) else ("targets", "tokenized"),
    uses=models_of_method,
    settings=(
        *("method", "targets.form", "targets.minimum", "curvature.damping", "curvature.damping_scale"),
        *("curvature.sum_shards", TRACKED, *PASSES, "seed"),
    ),
    files=lambda job: [file] if (file := file_of(job.recipe.method)) is not None else [],
    unhashed=("scale",),
    parallel=True,
)
SCORES = Step(
    "scores",
    run_scores,
    reads=("records", "tokenized", "directions"),
    uses=(Uses(EXPLAINED),),
    settings=("method", "scores.token_targets", "scores.tokens", "scores.cosine", "scores.position", TRACKED, *PASSES),
    unhashed=("scale",),
    parallel=True,
)
