"""Which tokens should count, content or all? Decided by retraining a real model on half subsets of its data.

    python -m bench.content_tokens --data FOLDER --plan docs/results/content-tokens-plan.json --plan-only
    python -m bench.content_tokens --data FOLDER --plan docs/results/content-tokens-plan.json --out OUT
    python -m bench.content_tokens --smoke --out OUT          the world's model and data, a handful of subsets

Every retrain starts from the given model. Afterwards f is measured over content tokens and over all tokens of the same
responses. Both forms of each training example's score are taken at the given model (no warm-up) and at the model
trained on all of the data (with warm-up), and all of them predict the same retrains. The plan names subsets, order,
data and model, and is committed before the first retrain; the same command goes on where a killed one was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.data import Record, TokenizedExample, read_records, tokenize
from infra.data.tokenized import Counted
from infra.experiments.retraining import (
    Problem,
    QueryFolds,
    SubsetPlan,
    deal_folds,
    difference,
    example_units,
    flat_model,
    gathered,
    lds,
    load_plan,
    loss_weights,
    make_subset_plan,
    plan_of_sft,
    run_retrains,
    train,
)
from infra.experiments.retraining.correlation import PointEstimate, estimate
from infra.experiments.retraining.methods import fold_targets, scores_of
from infra.influence import Engine
from infra.influence.methods import MethodContext, get_method
from infra.models import load_model, model_hash, model_place, tracked_weights
from infra.progress import progress, say
from infra.train import SFTConfig
from infra.train.run import mean_response_tokens

FORMS: tuple[Counted, ...] = ("content", "all")
METHODS = ("gradient", "ekfac")
Scored = dict[tuple[str, str, str], NDArray[np.float64]]
"""(model, method, form of the scores) -> example scores ``[N, F]``."""
RULE = (
    "For each f, scores over content are better than scores over all tokens where the paired-bootstrap interval of the "
    "difference of LDS (ekfac, mean over math and code) lies above 0, and worse where it lies below 0. For its own f "
    "(content scores for f over content) a form becomes the default of scores.tokens where it is better for the given "
    "model without warm-up and not worse with it; otherwise the default stays all."
)


def main() -> None:
    """Plan, retrain, predict, and write the table."""
    a = arguments()
    problem, targets = setting(a)
    plan = planned(a, problem)
    if a.plan_only:
        return
    with progress(len(plan.runs), "retrains", "run") as bar:
        journal = run_retrains(problem, plan, a.out, progress=bar.advance)
    measured = targets.folded(gathered(journal, plan, "half", "same_seed")[:, 0])
    rows = compared(plan.subsets["half"], measured, targets, scored(problem, targets))
    table = pd.DataFrame(rows)
    table.to_json(a.out / "content-tokens.json", orient="records", indent=1)
    print(table.round(3).to_string(index=False))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--data", type=Path, help="folder with gsm8k_train.jsonl and mbpp.jsonl")
    parser.add_argument("--examples", type=int, default=24, help="training examples a domain")
    parser.add_argument("--queries", type=int, default=8, help="queries a domain")
    parser.add_argument("--subsets", type=int, default=40)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--plan", type=Path, help="file of the plan; one that is there is followed")
    parser.add_argument("--plan-only", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/content-tokens"))
    return parser.parse_args()


def setting(a: argparse.Namespace) -> tuple[Problem, QueryFolds]:
    """What is retrained; each query stands there once with f over content and once with f over all tokens."""
    sources = (
        world_records() if a.smoke else [read_records(a.data / f).records for f in ("gsm8k_train.jsonl", "mbpp.jsonl")]
    )
    if a.smoke:
        from infra.world import BASE_MODEL

        model, tokenizer = load_model(BASE_MODEL, dtype="float32")
        a.examples, a.queries, a.subsets = 8, 4, 6
    else:
        model, tokenizer = load_model(model_place(a.model), dtype="float32")
    examples: list[TokenizedExample] = []
    queries: list[TokenizedExample] = []
    names: list[str] = []
    for records in sources:
        found = tokenize(records[:2000], tokenizer, max_length=a.max_length, on_error="skip").examples
        examples += found[: a.examples]
        asked = found[a.examples : a.examples + a.queries]
        for form in FORMS:
            queries += [replace(q.counting(form), id=f"{q.id}/{form}") for q in asked]
            names += [f"{records[0].domain}/{form}"] * len(asked)
    config = SFTConfig(
        learning_rate=a.learning_rate, epochs=1, batch_size=4, max_tokens_per_microbatch=1024, dtype="float32"
    )
    training = plan_of_sft(config, len(examples), 0, mean_response_tokens(examples) * config.batch_size)
    units = {"example": example_units(examples)}
    problem = Problem(flat_model(model), training, examples, queries, units, model_hash(model))
    return problem, deal_folds(names)


def world_records() -> list[Sequence[Record]]:
    """Math and code of the embedded world."""
    from infra.world import build_world

    world = build_world()
    return [[r for r in world.train if r.domain == domain] for domain in ("math", "code")]


def planned(a: argparse.Namespace, problem: Problem) -> SubsetPlan:
    """The plan in ``--plan`` where there is one, else a new one, written there."""
    file = a.plan or a.out / "plan.json"
    plan = make_subset_plan(
        problem,
        [("half", "same_seed")],
        n_subsets=a.subsets,
        extra={"below_protocol": True, "rule": RULE, "methods": list(METHODS), "forms": list(FORMS)},
    )
    plan.commit(file)
    return load_plan(file)


def scored(problem: Problem, targets: QueryFolds) -> Scored:
    """Example scores ``[N, F]`` of every form, by every method, at both models."""
    found = {}
    trained = train(problem.flat, problem.training, problem.examples, loss_weights(problem.examples))
    ends = {"given": problem.flat.start, "warmed up": trained}
    for name, theta in ends.items():
        model = problem.flat.into(theta)
        context = MethodContext(
            Engine(model, tracked_weights(model), 1024), problem.examples, fold_targets(problem, targets)
        )
        for method in METHODS:
            say(f"{method} at the {name} model")
            fitted = get_method(method).fit(context)
            for form in FORMS:
                counted = [e.counting(form) for e in problem.examples]
                found[name, method, form] = scores_of(fitted, counted, tokens=False).examples
    problem.flat.into(problem.flat.start)
    return found


def compared(
    keep: NDArray[np.bool_], measured: NDArray[np.float64], targets: QueryFolds, scores: Scored
) -> list[dict[str, Any]]:
    """LDS of every form of the scores on every target and on the mean of each f, and content minus all."""
    predictions = {key: keep.astype(np.float64) @ value for key, value in scores.items()}
    named = {"|".join(key): value for key, value in predictions.items()}
    found = {target: lds(named, measured, weights) for target, weights in targets.weights.items()}
    for form in FORMS:
        mine = [each for target, each in found.items() if target.endswith(f"/{form}")]
        found[f"mean/{form}"] = {name: mean_of([each[name] for each in mine]) for name in named}
    rows: list[dict[str, Any]] = []
    for target, each in found.items():
        for model, method in dict.fromkeys(key[:2] for key in scores):
            both = [each["|".join((model, method, form))] for form in FORMS]
            gap = difference(*both)
            rows.append(
                {
                    "f": target,
                    "model": model,
                    "method": method,
                    **{f"lds_{form}": one.value for form, one in zip(FORMS, both)},
                    "content_minus_all": gap.value,
                    "low": gap.low,
                    "high": gap.high,
                    "subsets": len(keep),
                }
            )
    return rows


def mean_of(found: Sequence[PointEstimate]) -> PointEstimate:
    """The mean of estimates on the same resamples."""
    return estimate(float(np.mean([e.value for e in found])), np.mean([e.draws for e in found], axis=0))


if __name__ == "__main__":
    main()
