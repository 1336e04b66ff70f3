"""What bench.accuracy retrains: the embedded world, real GSM8K and MBPP text, or a finished run.

Each gives (problem, targets, a few words on the set-up, tuning problem and targets). The tuning
problem differs in its queries only: damping and solver steps are swept there, never on the queries that judge.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from infra.data import (
    Message,
    Record,
    TokenizedExample,
    read_records,
    split_of,
    tokenize,
)
from infra.experiments.retraining import (
    Problem,
    QueryFolds,
    deal_folds,
    example_units,
    flat_model,
    greedy_accuracy,
    loss_weights,
    plan_of_sft,
    step_units,
    token_units,
    train,
)
from infra.models import load_model, load_tokenizer, model_hash
from infra.models.small import small_model
from infra.train import SFTConfig, fine_tune

Encode = Callable[[Sequence[Record]], list[TokenizedExample]]
DOMAINS = ("math", "code")
ASKED_AT_A_TIME = 48


@dataclass(frozen=True)
class Setting:
    """A problem with its targets, the same with other queries for tuning, and what to say about it."""

    problem: Problem
    targets: QueryFolds
    tuning: Problem
    tuning_targets: QueryFolds
    about: dict[str, Any]


def make_setting(a: argparse.Namespace, out: Path) -> Setting:
    """The setting that the command line asks for."""
    if a.run is not None:
        return from_run(a)
    return from_real(a, out) if a.data is not None else from_world(a, out)


def encoder(tokenizer: Any, max_length: int) -> Encode:
    return lambda records: list(tokenize(records, tokenizer, max_length=max_length, on_error="skip").examples)


def fitting(records: Sequence[Record], encode: Encode) -> list[Record]:
    """Those that are not longer than the encoder allows."""
    kept = {e.id for e in encode(records)}
    return [r for r in records if r.id in kept]


def drawn(records: Sequence[Record], n: int, rng: np.random.Generator) -> list[Record]:
    return [records[i] for i in rng.permutation(len(records))[:n]]


def per_domain(
    records: Sequence[Record], n: int, rng: np.random.Generator
) -> tuple[list[Record], list[str], list[Record], list[str]]:
    """``n`` judging and ``n`` tuning queries a domain, with their targets' names."""
    judge: list[Record] = []
    tune: list[Record] = []
    names: tuple[list[str], list[str]] = ([], [])
    for domain in DOMAINS:
        mine = drawn([r for r in records if r.domain == domain], 2 * n, rng)
        for place, some in enumerate((mine[:n], mine[n:])):
            (judge, tune)[place].extend(some)
            names[place].extend([domain] * len(some))
    return judge, names[0], tune, names[1]


def from_world(a: argparse.Namespace, out: Path) -> Setting:
    """The embedded world and its base model; queries are the trained model's own verified responses where it has
    enough of them, else reference solutions of pool problems outside the training data."""
    from infra.world import BASE_MODEL, build_world

    world = build_world()
    rng = np.random.default_rng(a.seed)
    if a.smoke:
        if not (out / "base").exists():
            small_model(
                [m.content for r in world.train[:200] for m in r.messages],
                out / "base",
                seed=0,
                vocab_size=400,
                hidden_size=32,
                intermediate_size=48,
                layers=2,
                heads=2,
                kv_heads=1,
                max_length=512,
            )
        model, tokenizer = load_model(out / "base")
    else:
        model, tokenizer = load_model(BASE_MODEL, dtype="float32")
    encode = encoder(tokenizer, a.max_length)
    available = list(world.train) + (list(world.pool) if a.with_pool else [])
    records = drawn(fitting(available, encode), a.examples, rng)
    trained = {r.id for r in records}
    rest = fitting([r for r in world.pool if r.id not in trained], encode)
    judge, names, tune, tune_names = per_domain(rest, a.queries, rng)
    problem = assemble(a, model, records, encode, encode(judge))
    source = "reference solutions of pool problems"
    if a.own_responses:
        asked = {d: [r for r in world.problems[f"world-{d}"] if r.attributes["split"] == "target"] for d in DOMAINS}
        own = own_responses(problem, tokenizer, asked, a.queries, out / "queries.json")
        if own:
            judge, names = own, [r.domain for r in own]
            problem, source = replace(problem, queries=encode(own)), "the model's own verified responses"
    if a.accuracy:
        held_out = {
            d: [r for r in world.problems[f"world-{d}"] if r.attributes["split"] == "held-out"][: a.accuracy]
            for d in DOMAINS
        }
        problem = replace(problem, accuracy=greedy_accuracy(held_out, tokenizer, 160))
    return Setting(
        problem,
        deal_folds(names, a.folds),
        replace(problem, queries=encode(tune), accuracy=None),
        deal_folds(tune_names, a.folds),
        {"data": "world", "responses": source},
    )


def own_responses(
    problem: Problem, tokenizer: Any, asked: dict[str, list[Record]], wanted: int, kept: Path
) -> list[Record]:
    """Verified-correct responses of the model the recorded run ends in, ``wanted`` a domain, or none at all.

    They are kept in ``kept``: f must be of the same responses when the command goes on.
    """
    from infra.evals import evaluate
    from infra.models.generation import InProcess, Sampling

    if kept.exists():
        answers = json.loads(kept.read_text(encoding="utf-8"))
    else:
        theta = train(problem.flat, problem.training, problem.examples, loss_weights(problem.examples))
        generator = InProcess(problem.flat.into(theta), tokenizer)
        sampling = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=160, n=1)
        answers = {}
        for domain, problems in asked.items():
            answers[domain], tried = [], 0
            while len(answers[domain]) < wanted and tried < len(problems):
                some = problems[tried : tried + ASKED_AT_A_TIME]
                answers[domain] += [[r.problem_id, r.text] for r in evaluate(some, generator, sampling, 0) if r.correct]
                tried += len(some)
            print(f"{domain}: {len(answers[domain])} of {tried} target problems solved", file=sys.stderr, flush=True)
        problem.flat.into(problem.flat.start)
        kept.write_text(json.dumps(answers), encoding="utf-8")
    if any(len(rows) < wanted for rows in answers.values()):
        return []
    out: list[Record] = []
    for domain, rows in answers.items():
        by_id = {r.id: r for r in asked[domain]}
        for problem_id, text in rows[:wanted]:
            messages = (*by_id[problem_id].prompt, Message("assistant", text))
            out.append(replace(by_id[problem_id], id=f"q{len(out)}", messages=messages, spans=()))
    return out


def from_real(a: argparse.Namespace, out: Path) -> Setting:
    """GSM8K and MBPP text from the folder ``--data``, with a small Qwen2 model trained here on other records of it."""
    found = {
        "math": read_records(a.data / "gsm8k_train.jsonl", domain="math", source="gsm8k").records,
        "code": read_records(a.data / "mbpp.jsonl", domain="code", source="mbpp").records,
    }
    rng = np.random.default_rng(a.seed)
    mixed = {d: drawn(list(records), len(records), rng) for d, records in found.items()}
    # GSM8K: a third, MBPP: a third is for pretraining; the rest is training data and, by hash of the problem, queries
    pretrain = [r for d in DOMAINS for r in mixed[d][: len(mixed[d]) // 3]]
    rest = [r for d in DOMAINS for r in mixed[d][len(mixed[d]) // 3 :]]
    if not (out / "base").exists():
        pretrained(pretrain, out, a)
    model, tokenizer = load_model(out / "base", dtype="float32")
    encode = encoder(tokenizer, a.max_length)
    usable = fitting(rest, encode)
    training = [r for r in usable if split_of(r.question) != "target"]
    records = [r for d in DOMAINS for r in [t for t in training if t.domain == d][: a.examples // 2]]
    judge, names, tune, tune_names = per_domain([r for r in usable if split_of(r.question) == "target"], a.queries, rng)
    problem = assemble(a, model, records, encode, encode(judge))
    return Setting(
        problem,
        deal_folds(names, a.folds),
        replace(problem, queries=encode(tune)),
        deal_folds(tune_names, a.folds),
        {"data": "GSM8K and MBPP", "responses": "reference solutions (the model is too small to solve problems)"},
    )


def pretrained(records: Sequence[Record], out: Path, a: argparse.Namespace) -> None:
    """Train the small base model on whole texts, ``out/base``."""
    from infra.pipeline.train import everything_predicted

    start = out / "start"
    texts = [m.content for r in records for m in r.messages]
    small_model(
        texts,
        start,
        seed=a.seed,
        vocab_size=2048,
        hidden_size=128,
        intermediate_size=384,
        layers=3,
        heads=4,
        kv_heads=2,
        max_length=2 * a.max_length,
    )
    examples = [
        everything_predicted(e)
        for e in tokenize(records, load_tokenizer(str(start)), max_length=a.max_length, on_error="skip").examples
    ]
    config = SFTConfig(
        learning_rate=2e-3,
        epochs=2,
        batch_size=16,
        max_tokens_per_microbatch=1024,
        weight_decay=0.1,
        dtype="float32",
        normaliser=float(np.mean([e.n_response_tokens for e in examples])) * 16,
    )
    fitted = fine_tune(str(start), examples, out / "base.part", config, seed=a.seed)
    print(f"base model: {len(examples)} examples, loss {np.mean(fitted.losses[-10:]):.3f}", file=sys.stderr, flush=True)
    (out / "base.part").rename(out / "base")


def from_run(a: argparse.Namespace) -> Setting:
    """A run folder, cut to ``--examples`` and ``--queries``."""
    from infra.experiments.retraining import read_run

    data = read_run(a.run, with_accuracy=a.accuracy)
    rng = np.random.default_rng(a.seed)
    chosen = sorted(rng.permutation(len(data.problem.examples))[: a.examples].tolist())
    domain_of = {f: t for t, w in data.targets.weights.items() for f in np.flatnonzero(w)}
    names = [domain_of.get(int(f), "") for f in data.targets.fold]
    kept: tuple[list[int], list[int]] = ([], [])
    for target in data.targets.weights:
        mine = rng.permutation([i for i, n in enumerate(names) if n == target])
        kept[0].extend(mine[: a.queries].tolist())
        kept[1].extend(mine[a.queries : 2 * a.queries].tolist())
    encode = data.problem.encode
    assert encode is not None
    problem = assemble(
        a,
        data.problem.flat.module,
        [data.problem.records[i] for i in chosen],
        encode,
        [data.problem.queries[i] for i in kept[0]],
    )
    tuning = replace(problem, queries=[data.problem.queries[i] for i in kept[1]])
    return Setting(
        replace(problem, accuracy=data.problem.accuracy),
        deal_folds([names[i] for i in kept[0]], a.folds),
        tuning,
        deal_folds([names[i] for i in kept[1]], a.folds),
        {"data": a.run.name, "responses": "the run's"},
    )


def assemble(a: argparse.Namespace, model: Any, records: list[Record], encode: Any, queries: Any) -> Problem:
    """Training data, its units and the SFT plan as one problem."""
    examples = encode(records)
    config = SFTConfig(
        learning_rate=a.learning_rate, epochs=a.epochs, batch_size=a.batch_size, max_tokens_per_microbatch=1024
    )
    normaliser = float(np.mean([e.n_response_tokens for e in examples])) * a.batch_size
    plan = replace(plan_of_sft(config, len(examples), a.seed, normaliser), eps_root=a.eps_root)
    units = {
        "example": example_units(examples),
        "token": token_units(examples),
        "step": step_units(examples, records),
    }
    flat = flat_model(model).compiled() if a.compile else flat_model(model)
    base = model_hash(model)
    return Problem(flat, plan, examples, queries, units, base, records=records, encode=encode, stack=a.stack)
