"""Every method through the same harness: one table of names, one function that scores the data with each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra import __version__
from infra.data import TokenizedExample
from infra.errors import InputError
from infra.experiments.retraining.measure import Problem
from infra.experiments.retraining.plan import data_hash, training_settings
from infra.experiments.retraining.scores import Array, MethodScores, Shelf, Targets, mean_scores
from infra.experiments.retraining.units import cut_examples, cut_response
from infra.influence import (
    TOKEN_BASELINES,
    Damping,
    Direction,
    MeanLogLikelihood,
    baseline_scores,
    baseline_tokens,
    cg_directions,
    example_influence,
    fit_ekfac,
    fit_kfac,
    gradient_norms,
    gradients,
    subsample,
    token_influence,
)
from infra.influence.engine.adjoint import unrolled
from infra.models import tracked_weights
from infra.store import sha256_json
from infra.train.flat_model import loss_weights
from infra.train.replay import AdamState, train

METHODS = (
    "random",
    "length",
    "loss",
    "bm25",
    "repsim",
    "gradient",
    "cosine",
    "kfac",
    "ekfac",
    "ekfac_cg",
    "ekfac_cg_ensemble",
    "unrolled",
    "unrolled_middle",
    "unrolled_seeds",
    "unrolled_middle_seeds",
    "ekfac_cg_checkpoints",
)
UNROLLED = {
    "unrolled": (1.0, False),
    "unrolled_middle": (0.5, False),
    "unrolled_seeds": (1.0, True),
    "unrolled_middle_seeds": (0.5, True),
}
"""Unrolled methods: the share of every example's weight at which the derivative is taken, and whether it is the mean
over fresh seeds. Subsets of half the data lie around half of every weight, not around all of it."""
CHEAP = {
    "random": "random",
    "length": "length",
    "loss": "training_loss",
    "bm25": "bm25",
    "repsim": "representation",
}
"""Methods that are baselines of the engine's, and their names there."""


@dataclass(frozen=True)
class MethodSettings:
    """Stated defaults, used as they are: nothing here is tuned on the runs that judge the methods.

    ``damping`` times the mean corrected eigenvalue; ``cg_damping`` likewise, with ``cg_steps`` of conjugate
    gradients on ``cg_fraction`` of the examples.
    ``members``: models of an ensemble, trained with seeds ``member_seed``, ``member_seed`` + 1, ..., or as many
    checkpoints of the recorded run, evenly spread and the last one among them. ``unrolled_members``: seeds that
    ``unrolled_seeds`` and ``unrolled_middle_seeds`` average over, from ``member_seed`` on.
    """

    tracked: str = "mlp"
    damping: float = 0.1
    cg_damping: float = 10.0
    cg_steps: int = 20
    cg_fraction: float = 1.0
    members: int = 3
    unrolled_members: int = 16
    member_seed: int = 1001
    seed: int = 0
    max_tokens: int = 8192


def score_methods(
    problem: Problem,
    targets: Targets,
    names: Sequence[str],
    settings: MethodSettings | None = None,
    *,
    tokens: bool = True,
    deletes: bool = False,
    done: Callable[[str], object] | None = None,
    kept: Path | None = None,
) -> dict[str, MethodScores]:
    """Scores of the training data by each method, for the model that the recorded run ends in.

    ``tokens`` False scores whole examples only, much faster; ``deletes`` adds the score of cutting each step out of
    the text. With a folder ``kept`` each method's scores are written there, under the hash of everything they depend
    on and the version of Infra, and read instead of made when they lie there. Raises InputError for an unknown method.
    """
    check_methods(names)
    settings = settings or MethodSettings()
    variants = step_variants(problem) if deletes else []
    key = _inputs(problem, targets, settings, tokens, variants)[:16] if kept is not None else ""
    shelf = Shelf(kept, key)
    known = {n: scores for n in names if (scores := shelf.read(n)) is not None}

    def finished(name: str, scores: MethodScores) -> None:
        shelf.write(name, scores)
        if done is not None:
            done(name)

    missing = [n for n in names if n not in known]
    made = _made(problem, targets, missing, settings, tokens, variants, finished, shelf) if missing else {}
    return {n: known[n] if n in known else made[n] for n in names}


def _inputs(
    problem: Problem,
    targets: Targets,
    settings: MethodSettings,
    tokens: bool,
    variants: Sequence[tuple[int, TokenizedExample]],
) -> str:
    """SHA-256 of what scores depend on: model, training, data, queries and folds, cut steps, settings, version."""
    start = problem.flat.start.cpu().view(torch.uint8).numpy()  # bytes: numpy has no bfloat16
    return sha256_json(
        {
            "infra": __version__,
            "start": hashlib.sha256(start.tobytes()).hexdigest(),
            "training": training_settings(problem.training),
            "data": data_hash(problem.examples),
            "queries": data_hash(problem.queries),
            "fold": targets.fold.tolist(),
            "form": problem.form,
            "settings": asdict(settings),
            "tokens": tokens,
            "cut": [[o for o, _ in variants], data_hash([v for _, v in variants])],
        }
    )


def _made(
    problem: Problem,
    targets: Targets,
    names: Sequence[str],
    settings: MethodSettings,
    tokens: bool,
    variants: Sequence[tuple[int, TokenizedExample]],
    finished: Callable[[str, MethodScores], object],
    shelf: Shelf,
) -> dict[str, MethodScores]:
    theta = train(problem.flat, problem.training, problem.examples, loss_weights(problem.examples))
    model = problem.flat.into(theta)
    out: dict[str, MethodScores] = {}
    engine = [n for n in names if n in ("gradient", "cosine", "kfac", "ekfac", "ekfac_cg")]
    found = engine_scores(problem, model, targets, engine, settings, variants, tokens) if engine else {}
    for name in names:
        if name in CHEAP:
            out[name] = cheap_scores(problem, model, targets, CHEAP[name], settings)
        elif name == "ekfac_cg_ensemble":
            out[name] = ensemble(problem, targets, settings, variants, tokens)
            problem.flat.into(theta)
        elif name == "ekfac_cg_checkpoints":
            out[name] = checkpoint_ensemble(problem, targets, settings, variants, tokens)
            problem.flat.into(theta)
        elif name in UNROLLED:
            out[name] = unrolled_method(name, problem, targets, settings, variants, shelf)
        else:
            out[name] = found[name]
        if not tokens:
            out[name] = replace(out[name], tokens=None)
        finished(name, out[name])
    problem.flat.into(problem.flat.start)
    return out


def cheap_scores(problem: Problem, model: Any, targets: Targets, name: str, settings: MethodSettings) -> MethodScores:
    """A baseline of the engine's, over the folds; token by token where it has token scores."""
    if name in TOKEN_BASELINES:
        rows = baseline_tokens(name, model, problem.examples, targets.n_folds, settings.seed, settings.max_tokens)
        return MethodScores(np.stack([t.sum(1) for t in rows]), rows)
    members = [[q for q, f in zip(problem.queries, targets.fold) if f == fold] for fold in range(targets.n_folds)]
    folds = [MeanLogLikelihood(str(fold), queries) for fold, queries in enumerate(members)]
    tracked = tracked_weights(model, settings.tracked)
    return MethodScores(baseline_scores(name, model, problem.examples, folds, tracked, max_tokens=settings.max_tokens))


def check_methods(names: Sequence[str]) -> None:
    """Raise InputError for a method that does not exist."""
    unknown = [n for n in names if n not in METHODS]
    if unknown:
        raise InputError(f"unknown method {unknown[0]!r}; choose from {', '.join(METHODS)}")


def step_variants(problem: Problem) -> list[tuple[int, TokenizedExample]]:
    """(example, its sequence with one step cut out) for every step, in the order of the step units."""
    units = problem.units["step"]
    if problem.encode is None:
        raise InputError("deleting steps needs the records and a tokeniser; give them, or leave out step_delete")
    records = [cut_response(problem.records[o], units, np.array([u])) for u, o in enumerate(units.owner)]
    originals = [problem.examples[o] for o in units.owner]
    return list(zip((int(o) for o in units.owner), cut_examples(records, originals, problem.encode)))


def engine_scores(
    problem: Problem,
    model: Any,
    targets: Targets,
    names: Sequence[str],
    settings: MethodSettings,
    variants: Sequence[tuple[int, TokenizedExample]] = (),
    tokens: bool = True,
) -> dict[str, MethodScores]:
    """Methods that are directions: gradient dot product, cosine, K-FAC, EK-FAC, conjugate gradients on top."""
    tracked = tracked_weights(model, settings.tracked)
    raw = gradients(
        model,
        problem.queries,
        targets.fold,
        targets.n_folds,
        tracked,
        form=problem.form,
        max_tokens=settings.max_tokens,
    )
    out: dict[str, MethodScores] = {}
    curvature = None
    for name in names:
        if name == "cosine":
            continue
        directions = raw
        if name == "kfac":
            fitted = fit_kfac(model, problem.examples, tracked, seed=settings.seed, max_tokens=settings.max_tokens)
            directions = [fitted.inverse(Damping(settings.damping)) @ g for g in raw]
        elif name in ("ekfac", "ekfac_cg"):
            curvature = curvature or fit_ekfac(
                model, problem.examples, tracked, seed=settings.seed, max_tokens=settings.max_tokens
            )
            if name == "ekfac":
                directions = [curvature.inverse(Damping(settings.damping)) @ g for g in raw]
            else:
                part = subsample(problem.examples, settings.cg_fraction, settings.seed)
                solved = cg_directions(
                    model,
                    part,
                    raw,
                    tracked,
                    curvature,
                    Damping(settings.cg_damping),
                    steps=settings.cg_steps,
                    max_tokens=settings.max_tokens,
                )
                directions = [s.direction for s in solved]
        out[name] = along(model, problem, directions, variants, settings.max_tokens, tokens)
    if "cosine" in names:
        plain = out.get("gradient") or along(model, problem, raw, variants, settings.max_tokens, tokens)
        norms = gradient_norms(model, problem.examples, tracked, settings.max_tokens).astype(np.float64)
        out["cosine"] = cosine(plain, norms, raw, problem)
    return {n: out[n] for n in names}


def along(
    model: Any,
    problem: Problem,
    directions: Sequence[Direction],
    variants: Sequence[tuple[int, TokenizedExample]],
    max_tokens: int,
    tokens: bool = True,
) -> MethodScores:
    """Token, example and cut-step scores along one direction per fold."""
    rows: list[NDArray[np.floating]] | None = None
    examples: Array
    if tokens:
        rows = [np.zeros(0)] * len(problem.examples)
        for chunk in token_influence(model, problem.examples, directions, max_tokens=max_tokens):
            for i, row in zip(chunk.indices, chunk.scores):
                rows[i] = row
        examples = np.stack([t.sum(1, dtype=np.float64) for t in rows])
    else:
        examples = example_influence(model, problem.examples, directions, max_tokens=max_tokens).astype(np.float64)
    lost = None
    if variants:
        shorter = example_influence(model, [v for _, v in variants], directions, max_tokens=max_tokens)
        lost = examples[[o for o, _ in variants]] - shorter.astype(np.float64)
    return MethodScores(examples, rows, lost)


def cosine(plain: MethodScores, norms: Array, raw: Sequence[Direction], problem: Problem) -> MethodScores:
    """Gradient scores divided by the norms of the example's and the target's gradient: ``[N]`` and one a direction."""
    sizes = np.array([float(sum((t.double() ** 2).sum() for t in d.tensors.values())) ** 0.5 for d in raw])
    scale = 1 / np.maximum(norms[:, None] * sizes[None], 1e-30)
    tokens = None if plain.tokens is None else [t * s[:, None] for t, s in zip(plain.tokens, scale)]
    return MethodScores(plain.examples * scale, tokens)


def unrolled_method(
    name: str,
    problem: Problem,
    targets: Targets,
    settings: MethodSettings,
    variants: Sequence[tuple[int, TokenizedExample]],
    shelf: Shelf,
) -> MethodScores:
    """One of :data:`UNROLLED`; members over fresh seeds are kept one by one."""
    share, fresh = UNROLLED[name]
    weights = loss_weights(problem.examples, np.full(len(problem.examples), share))
    if not fresh:
        return unrolled_scores(problem, targets, variants, weights)
    members = []
    for seed in range(settings.member_seed, settings.member_seed + settings.unrolled_members):
        scores = shelf.read(f"{name}.{seed}")
        if scores is None:
            plan = problem.training.reordered(len(problem.examples), seed)
            scores = unrolled_scores(replace(problem, training=plan), targets, variants, weights)
            shelf.write(f"{name}.{seed}", scores)
        members.append(scores)
    return mean_scores(members)


def unrolled_scores(
    problem: Problem,
    targets: Targets,
    variants: Sequence[tuple[int, TokenizedExample]] = (),
    weights: Sequence[NDArray[np.float64]] | None = None,
) -> MethodScores:
    """The exact derivative of each fold's f through the recorded run, at the records' own weights or at ``weights``."""
    found = unrolled(
        problem.flat,
        problem.training,
        problem.examples,
        problem.queries,
        targets.groups,
        weights=weights,
        form=problem.form,
        variants=variants,
    )
    examples = found.examples
    lost = examples[[o for o, _ in variants]] - found.variant_sums if variants else None
    return MethodScores(examples, found.tokens, lost)


def ensemble(
    problem: Problem,
    targets: Targets,
    settings: MethodSettings,
    variants: Sequence[tuple[int, TokenizedExample]] = (),
    tokens: bool = True,
) -> MethodScores:
    """``ekfac_cg`` averaged over models trained with fresh seeds on the same data."""
    members = []
    for seed in range(settings.member_seed, settings.member_seed + settings.members):
        plan = problem.training.reordered(len(problem.examples), seed)
        model = problem.flat.into(train(problem.flat, plan, problem.examples, loss_weights(problem.examples)))
        members.append(engine_scores(problem, model, targets, ["ekfac_cg"], settings, variants, tokens)["ekfac_cg"])
    return mean_scores(members)


def checkpoint_ensemble(
    problem: Problem,
    targets: Targets,
    settings: MethodSettings,
    variants: Sequence[tuple[int, TokenizedExample]] = (),
    tokens: bool = True,
) -> MethodScores:
    """``ekfac_cg`` averaged over checkpoints of the recorded run, each with the f and the curvature of its model."""
    steps = problem.training.steps
    wanted = {round(steps * (m + 1) / settings.members) for m in range(settings.members)} - {0}
    kept: list[Tensor] = []

    def visit(state: AdamState) -> None:
        if state.step in wanted:
            kept.append(state.theta)

    train(problem.flat, problem.training, problem.examples, loss_weights(problem.examples), visit=visit)
    members = []
    for theta in kept:
        model = problem.flat.into(theta)
        members.append(engine_scores(problem, model, targets, ["ekfac_cg"], settings, variants, tokens)["ekfac_cg"])
    return mean_scores(members)
