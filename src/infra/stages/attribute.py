"""Stages that attribute: `curvature`, `directions`, `scores`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.influence import (
    Curvature,
    Direction,
    combine,
    ekfac_direction,
    example_influence,
    fit_diagonal,
    fit_ekfac,
    fit_kfac,
    gradients,
    identity,
    load_directions,
    save_directions,
    token_influence,
)
from infra.models import load_model, model_hash, tracked_weights
from infra.progress import progress
from infra.recipe import Recipe
from infra.records import Record, TokenizedExample
from infra.report.encode import displayable
from infra.stages.data import load_records
from infra.stages.runner import Context
from infra.stages.targets import fold_names, folds_table, query_examples, target_weights
from infra.stages.train import encode
from infra.store import read_json, write_json

SHARD = 1000  # examples per token-score file: the unit of resume
ROW_GROUP = 128  # examples read together when the explorer opens one


def run_curvature(context: Context, recipe: Recipe, model_path: str) -> None:
    """Fit EK-FAC on the training data of the model that is explained."""
    c = recipe.curvature
    model, _ = load_model(model_path, dtype=recipe.model.dtype, device=recipe.model.device)
    examples = encode(load_records(context.dep("records") / "train.parquet"), model_path, recipe)
    tracked = tracked_weights(model, c.tracked)
    fits: dict[str, Callable[..., Curvature]] = {"ekfac": fit_ekfac, "kfac": fit_kfac, "diagonal": fit_diagonal}
    fit = fits.get(c.method)
    with progress(None, context.label, "example") as bar:
        curvature = (
            identity(tracked)
            if fit is None
            else fit(
                model,
                examples,
                tracked,
                fisher=c.fisher,
                fraction=c.fraction,
                seed=recipe.seed,
                max_tokens=recipe.scores.max_tokens,
                progress=bar.reach,
            )
        )
    curvature.save(context.out)


def run_directions(context: Context, recipe: Recipe, model_path: str) -> None:
    """One preconditioned gradient per fold. Writes folds.parquet, targets.json and the directions."""
    model, _ = load_model(model_path, dtype=recipe.model.dtype, device=recipe.model.device)
    tracked = tracked_weights(model, recipe.curvature.tracked)
    made_for = model_hash(model)
    curvature = Curvature.load(context.dep("curvature"), model_hash=made_for)
    frame, examples = query_examples(context, recipe, model_path)
    folds = folds_table(frame)
    number = {name: i for i, name in enumerate(folds.fold)}
    groups = np.array([number[name] for name in fold_names(frame)])
    raw = gradients(model, examples, groups, len(folds), tracked, form=recipe.targets.form, names=list(folds.fold))
    directions = [ekfac_direction(curvature, g, damping=recipe.curvature.damping) for g in raw]
    save_directions(directions, context.out, model_hash=made_for)
    folds.to_parquet(context.out / "folds.parquet", index=False)
    weights = target_weights(folds, recipe.targets.minimum)
    write_json(context.out / "targets.json", {k: v.tolist() for k, v in weights.items()})
    write_json(
        context.out / "coverage.json",
        {"tracked": recipe.curvature.tracked, "share": tracked.coverage, "parameters": tracked.total},
    )


def load_folds(context: Context) -> tuple[pd.DataFrame, dict[str, NDArray[np.float64]], list[Direction]]:
    """Folds, targets as weights over folds, and the folds' directions."""
    here = context.dep("directions")
    weights = {k: np.array(v) for k, v in read_json(here / "targets.json").items()}
    return pd.read_parquet(here / "folds.parquet"), weights, load_directions(here)


def sets_of(context: Context) -> tuple[str, ...]:
    """Which of train and pool this run has."""
    return tuple(w for w in ("train", "pool") if (context.dep("records") / f"{w}.parquet").exists())


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
    whole = [t for t in targets if ":" not in t]
    named = [t for t in recipe.scores.token_targets if t in set(targets)]
    return named or whole


def run_scores(context: Context, recipe: Recipe, model_path: str) -> None:
    """Influence of every example on every fold, and of every token on the token targets; training data and pool."""
    model, _ = load_model(model_path, dtype=recipe.model.dtype, device=recipe.model.device)
    _, weights, directions = load_folds(context)
    token_targets = token_targets_of(recipe, weights)
    token_directions = [combine(directions, list(weights[t]), name=t) for t in token_targets]
    frames, folds, check = [], [], {}
    for which in sets_of(context):
        records = load_records(context.dep("records") / f"{which}.parquet")
        examples = encode(records, model_path, recipe)
        by_id = {r.id: r for r in records}
        records = [by_id[e.id] for e in examples]
        cache = context.out / f"folds-{which}.npy"
        if cache.exists():
            per_fold = np.load(cache)
        else:
            with progress(len(examples), f"{context.label} {which} examples", "example") as bar:
                per_fold = example_influence(
                    model, examples, directions, max_tokens=recipe.scores.max_tokens, progress=bar.reach
                )
            part = cache.with_suffix(".part.npy")
            np.save(part, per_fold)
            part.rename(cache)  # whole or absent: a later command goes on from it
        frame = describe(records, examples, which)
        for name, w in weights.items():
            frame[f"score_{name}"] = (per_fold.astype(np.float64) @ w).astype(np.float32)
        sums = _token_shards(context, recipe, which, model, examples, token_directions, token_targets)
        for target in token_targets:
            exact = frame[f"score_{target}"].to_numpy(np.float64)
            check[f"{which}:{target}"] = float(np.linalg.norm(sums[target] - exact) / np.linalg.norm(exact))
        frames.append(frame)
        folds.append(per_fold)
    pd.concat(frames, ignore_index=True).to_parquet(context.out / "examples.parquet", index=False)
    np.save(context.out / "folds.npy", np.concatenate(folds))
    for which in sets_of(context):
        (context.out / f"folds-{which}.npy").unlink()
    write_json(context.out / "check.json", {"token_sums_against_example_scores": check})


def _token_shards(
    context: Context,
    recipe: Recipe,
    which: str,
    model: object,
    examples: Sequence[TokenizedExample],
    directions: Sequence[Direction],
    names: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """Write tokens/<set>-<shard>.parquet and return each target's sum over tokens per example."""
    folder = context.out / "tokens"
    folder.mkdir(exist_ok=True)
    sums: dict[str, list[float]] = {n: [] for n in names}
    with progress(len(examples), f"{context.label} {which} tokens", "example") as bar:
        for start in range(0, len(examples), SHARD):
            batch = examples[start : start + SHARD]
            path = folder / f"{which}-{start // SHARD:05d}.parquet"
            if not path.exists():
                _write_tokens(path, model, batch, directions, names, recipe)
            table = pq.read_table(path, columns=[f"loss_{name}" for name in names])
            for name in names:
                sums[name] += [float(np.sum(row, dtype=np.float64)) for row in table[f"loss_{name}"].to_pylist()]
            bar.advance(len(batch))
    return {n: np.array(v) for n, v in sums.items()}


def _write_tokens(
    path: Path,
    model: object,
    batch: Sequence[TokenizedExample],
    directions: Sequence[Direction],
    names: Sequence[str],
    recipe: Recipe,
) -> None:
    columns: dict[str, dict[str, NDArray[np.float32]]] = {}
    decompositions: list[Literal["loss", "position"]] = ["loss", "position"] if recipe.scores.position else ["loss"]
    for decomposition in decompositions:
        for chunk in token_influence(
            model, batch, directions, decomposition=decomposition, max_tokens=recipe.scores.max_tokens
        ):
            for id_, scores in zip(chunk.ids, chunk.scores):
                for name, row in zip(names, scores):
                    columns.setdefault(f"{decomposition}_{name}", {})[id_] = row
    arrays = {
        column: pa.array([values[e.id] for e in batch], type=pa.list_(pa.float32()))
        for column, values in columns.items()
    }
    # the words beside the numbers: an example opens without the tokenizer
    text = {
        "text": [displayable(e.text) for e in batch],
        "starts": pa.array([e.offsets[:, 0] for e in batch], type=pa.list_(pa.int32())),
        "ends": pa.array([e.offsets[:, 1] for e in batch], type=pa.list_(pa.int32())),
        "mask": pa.array([e.loss_mask for e in batch], type=pa.list_(pa.bool_())),
    }
    table = pa.table({"id": [e.id for e in batch], **text, **arrays})
    temporary = path.with_suffix(".tmp")
    pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)
    temporary.rename(path)
