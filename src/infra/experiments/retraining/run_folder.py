"""What `infra validate RUN` needs of a finished run, read from its artifacts and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from infra.data import (
    Counted,
    Record,
    TargetName,
    TokenizedExample,
    TokenizedFile,
    is_whole,
    records_from_table,
    tokenize,
)
from infra.errors import ArtifactError, InputError, ModelError
from infra.experiments.retraining.methods import ScoreSettings, scores_of, step_variants
from infra.experiments.retraining.problem import Accuracy, Problem
from infra.experiments.retraining.scores import MethodScores, QueryFolds
from infra.experiments.retraining.units import example_units, step_units, token_units
from infra.influence.methods import Engine, methods_that_replay, open_fitted
from infra.layout import BASE, EXPLAINED, Run
from infra.models import load_model, model_hash, model_place, tracked_weights
from infra.plugins import label_of
from infra.store import read_json
from infra.train import SFTConfig
from infra.train.flat_model import flat_model, loss_weights
from infra.train.recorded import RecordedRun
from infra.train.replay import TrainingPlan, plan_of_sft, train


@dataclass(frozen=True)
class RunData:
    """What lies in a run's ``folder``: problem, targets and scores. ``method`` is what its curvature is called.

    ``counted``: the tokens that an example's score is over."""

    problem: Problem
    targets: QueryFolds
    scores: MethodScores
    method: str
    tracked: str
    counted: Counted
    folder: Path


def read_run(run: Path, *, base_model: str | None = None, levels: bool = False, with_accuracy: int = 0) -> RunData:
    """Read a run folder.

    ``levels`` keeps targets by difficulty as well. ``with_accuracy``: held-out problems a task answered after each
    half-subset retrain (0: none). Raises ArtifactError naming the artifact that is missing and how to make it.
    """
    paths = Run(run)
    recipe = read_json(_needed(paths.recipe_file))
    check_recorded(paths.model(EXPLAINED))
    base = base_model or base_of(recipe, run)
    model, tokenizer = load_model(base, dtype=recipe["model"]["dtype"], device=recipe["model"]["device"])
    flat = flat_model(model)
    maximum = recipe["data"]["max_length"]

    def encode(records: Sequence[Record]) -> list[TokenizedExample]:
        return list(tokenize(records, tokenizer, max_length=maximum, on_error=recipe["data"]["on_error"]).examples)

    records = records_from_table(pq.read_table(_needed(paths.records("train"))))
    examples = _tokens(paths.tokenized("train"))
    by_id = {r.id: r for r in records}
    records = [by_id[e.id] for e in examples]
    plan = recorded_plan(paths.model(EXPLAINED), len(examples))
    queries, targets = read_targets(paths, levels=levels)
    problem = Problem(
        flat,
        plan,
        examples,
        queries,
        {"example": example_units(examples), "token": token_units(examples), "step": step_units(examples, records)},
        model_hash=model_hash(model),
        form=recipe["targets"]["form"],
        records=records,
        encode=encode,
        accuracy=held_out_accuracy(run, recipe, tokenizer, with_accuracy) if with_accuracy else None,
    )
    scores = read_scores(paths, examples)
    return RunData(
        problem,
        targets,
        scores,
        recipe["method"],
        recipe["curvature"]["tracked"],
        recipe.get("scores", {}).get("tokens", "all"),
        run,
    )


def recorded_run(
    base: str, trained: str | Path, examples: Sequence[TokenizedExample], dtype: str, device: str
) -> RecordedRun:
    """The fine-tuning that made the model in the folder ``trained`` from ``base``, ready to be replayed."""
    model, _ = load_model(base, dtype=dtype, device=device)
    return RecordedRun(flat_model(model), recorded_plan(Path(trained), len(examples)), examples)


def recorded_plan(trained: Path, n: int) -> TrainingPlan:
    """Batches, rates and optimiser of the fine-tuning on ``n`` examples that wrote the model in ``trained``.

    Raises ArtifactError when they were not recorded, or are not those of this data.
    """
    summary, order_file = check_recorded(trained)
    config = sft_config_of(summary["config"])
    plan = plan_of_sft(config, n, int(summary["seed"]), float(summary["normaliser"]))
    order, replayed = np.load(order_file).reshape(-1), [i for batch in plan.batches for i in batch]
    if not np.array_equal(order[: len(replayed)], replayed):
        raise ArtifactError(
            f"{order_file} is not the order that seed {summary['seed']} gives for the {n} training records "
            "of this run, so it cannot be replayed; delete sft/original-s0 and run `infra run` again"
        )
    return plan


def check_recorded(folder: Path) -> tuple[dict[str, Any], Path]:
    """The recorded settings of the SFT run whose model lies in ``folder``, and the file of its data order.

    Raises ArtifactError that names what cannot be measured without them and how to record them.
    """
    for name, what in (("sft.json", "the SFT run's settings"), ("order.npy", "its data order")):
        if not (folder / name).exists():
            raise ArtifactError(
                f"{folder / name} is missing, so the SFT run cannot be replayed: LDS, removal and the methods "
                f"{', '.join(methods_that_replay())} and ensembles are unavailable; `infra run` records {what} there "
                "(`infra score` trains nothing)"
            )
    return dict(read_json(folder / "sft.json")), folder / "order.npy"


def _needed(path: Path) -> Path:
    if not path.exists():
        raise ArtifactError(
            f"{path} is missing; validation reads a finished run of version 0.2.0 or later: make it with infra run"
        )
    return path


def _tokens(path: Path) -> list[TokenizedExample]:
    return list(TokenizedFile.open(_needed(path)).stream())


def base_of(recipe: Mapping[str, Any], run: Path) -> str:
    """Where the run's base model lies."""
    if recipe["model"].get("pretrain") is not None:
        return str(_needed(Run(run).model(BASE)))
    return model_place(recipe["model"]["base"])


def sft_config_of(raw: Mapping[str, Any]) -> SFTConfig:
    """The settings recorded in sft.json. Raises ArtifactError for one this version does not know."""
    unknown = sorted(set(raw) - {f.name for f in fields(SFTConfig)})
    if unknown:
        raise ArtifactError(
            f"the recorded SFT settings name {unknown[0]!r}, unknown here; run `infra run` again with this version"
        )
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    return SFTConfig(**settings)


def read_targets(run: Run, *, levels: bool) -> tuple[list[TokenizedExample], QueryFolds]:
    """The queries inside f, their folds in the order of the run's directions, and the targets' weights over folds."""
    queries = _tokens(run.tokenized_queries)
    frame = pd.read_parquet(_needed(run.query_folds)).set_index("id").loc[[q.id for q in queries]]
    folds = pd.read_parquet(_needed(run.folds))
    number = {name: i for i, name in enumerate(folds.fold)}
    names = [str(TargetName(*f)) for f in zip(frame.target, frame.difficulty, frame.fold)]
    raw = read_json(run.target_weights)
    weights = {t: np.array(w, np.float64) for t, w in raw.items() if levels or is_whole(t)}
    return queries, QueryFolds(np.array([number[n] for n in names], np.int64), weights)


def read_scores(run: Run, examples: Sequence[TokenizedExample]) -> MethodScores:
    """The run's own example scores on every fold."""
    table = pd.read_parquet(_needed(run.example_scores), columns=["id", "set"])
    per_fold = np.load(_needed(run.fold_scores))
    place = {i: row for row, (i, s) in enumerate(zip(table.id, table.set)) if s == "train"}
    missing = [e.id for e in examples if e.id not in place]
    if missing:
        raise ArtifactError(
            f"{run.example_scores} has no score for training record {missing[0]}; run `infra run` again"
        )
    return MethodScores(per_fold[[place[e.id] for e in examples]].astype(np.float64))


def own_scores(data: RunData, *, deletes: bool) -> MethodScores:
    """The run's scores once more, by the method that it fitted: of every token and, if asked, every cut step.

    A run keeps token scores of whole targets only. Raises ArtifactError when the fitted method is gone or damaged.
    """
    problem = data.problem
    start = problem.flat.start
    model, _ = load_model(Run(data.folder).model(EXPLAINED), dtype=start.dtype, device=str(start.device))
    engine = Engine(model, tracked_weights(model, data.tracked), ScoreSettings().max_tokens)
    fitted = open_fitted(Run(data.folder).directions, engine)
    variants = [(i, e.counting(data.counted)) for i, e in step_variants(problem)] if deletes else ()
    return scores_of(fitted, [e.counting(data.counted) for e in problem.examples], variants)


def check_replay(data: RunData, run: Path, tolerance: float = 0.02) -> float:
    """Replay the recorded run and compare it with the model it saved: relative distance of the parameter change.

    Raises ModelError beyond ``tolerance``: then what is retrained here is not what was trained there.
    """
    problem = data.problem
    saved = flat_model(load_model(Run(run).model(EXPLAINED), dtype=problem.flat.start.dtype)[0]).start
    ours = train(problem.flat, problem.training, problem.examples, loss_weights(problem.examples))
    distance = float((ours - saved).norm() / (saved - problem.flat.start).norm())
    if not distance <= tolerance:
        raise ModelError(
            f"replaying {EXPLAINED} ends {distance:.1%} away from the model saved there; the base model or the "
            "versions differ from those of the run: run `infra run` again here, or give the base model it used"
        )
    return distance


def held_out_accuracy(run: Path, recipe: Mapping[str, Any], tokenizer: Any, limit: int) -> Accuracy:
    """Accuracy on the first ``limit`` held-out problems of each target's task, greedy, as a function of a model."""
    problems: dict[str, list[Record]] = {}
    for task in recipe["tasks"]:
        if not task.get("target"):
            continue
        table = pq.read_table(_needed(Run(run).problems(label_of(task["name"]))))
        held_out = [r for r in records_from_table(table) if r.attributes["split"] == "held-out"]
        problems.setdefault(task["target"], []).extend(held_out[:limit])
    if not any(problems.values()):
        raise InputError(f"{run} has no held-out problems for its targets; leave out accuracy")
    return greedy_accuracy(problems, tokenizer, int(recipe["eval"]["max_new_tokens"]))


def greedy_accuracy(problems: Mapping[str, Sequence[Record]], tokenizer: Any, max_new_tokens: int) -> Accuracy:
    """A function from a model to the share of each domain's problems it solves with greedy decoding."""

    def accuracy(model: Any) -> dict[str, float]:
        from infra.evals import evaluate
        from infra.models.generation import InProcess, Sampling

        out = {}
        for domain, records in problems.items():
            sampling = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=max_new_tokens, n=1)
            rows = evaluate(list(records), InProcess(model, tokenizer), sampling, 0)
            out[domain] = float(np.mean([r.correct for r in rows]))
        return out

    return accuracy
