"""Every method through the same harness: fitted on the model that the recorded run ends in, scores of its data."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infra import __version__
from infra.data import TokenizedExample
from infra.errors import InputError
from infra.experiments.retraining.plan import data_hash
from infra.experiments.retraining.problem import Problem
from infra.experiments.retraining.scores import MethodScores, QueryFolds, Shelf
from infra.experiments.retraining.units import cut_examples, cut_response
from infra.influence import MeanLogLikelihood
from infra.influence.methods import Engine, Fitted, Method, MethodContext, get_method
from infra.models import tracked_weights
from infra.store import sha256_json
from infra.train.recorded import RecordedRun

Variants = Sequence[tuple[int, TokenizedExample]]
"""(example, another sequence in its place)."""


@dataclass(frozen=True)
class ScoreSettings:
    """What all methods share: tracked weights, seed, and token positions of a batch.

    ``tokens`` False scores whole examples only, much faster; ``deletes`` adds the score of cutting each step out of the
    text.
    """

    tracked: str = "mlp"
    seed: int = 0
    max_tokens: int = 8192
    tokens: bool = True
    deletes: bool = False


def score_methods(
    problem: Problem,
    targets: QueryFolds,
    methods: Sequence[str] | Mapping[str, Method],
    settings: ScoreSettings | None = None,
    *,
    done: Callable[[str], object] | None = None,
    kept: Path | None = None,
) -> dict[str, MethodScores]:
    """Scores of the training data by each method, for the model that the recorded run ends in.

    ``methods``: names for :func:`infra.influence.methods.get_method`, at stated defaults, or methods with settings of
    their own by name. With a folder ``kept`` each method's scores, and the members of its ensemble, are written there
    under the hash of everything they depend on and the version of Infra, and read instead of made when they lie there.
    Raises InputError for an unknown method.
    """
    asked = methods if isinstance(methods, Mapping) else {name: get_method(name) for name in methods}
    settings = settings or ScoreSettings()
    variants = step_variants(problem) if settings.deletes else []
    common = _inputs(problem, targets, settings, variants) if kept is not None else ""
    shelves = {name: Shelf(kept, sha256_json([common, _identity(m)])[:16]) for name, m in asked.items()}
    known = {name: scores for name, shelf in shelves.items() if (scores := shelf.read(name)) is not None}
    missing = {name: method for name, method in asked.items() if name not in known}
    if missing:
        run = RecordedRun(problem.flat, problem.training, problem.examples)
        model = problem.flat.into(run.trained())
        engine = Engine(model, tracked_weights(model, settings.tracked), settings.max_tokens)
        context = MethodContext(engine, problem.examples, fold_targets(problem, targets), settings.seed, run, variants)
        try:
            for name, method in missing.items():
                fitted = method.fit(replace(context, folder=shelves[name].folder_of(name)))
                known[name] = scores_of(fitted, problem.examples, variants, settings.tokens)
                shelves[name].write(name, known[name])
                if done is not None:
                    done(name)
        finally:
            problem.flat.into(problem.flat.start)
    return {name: known[name] for name in asked}


def fold_targets(problem: Problem, targets: QueryFolds) -> list[MeanLogLikelihood]:
    """One target for each fold of the queries."""
    members = [[q for q, f in zip(problem.queries, targets.fold) if f == fold] for fold in range(targets.n_folds)]
    return [MeanLogLikelihood(str(fold), queries, problem.form) for fold, queries in enumerate(members)]


def scores_of(
    fitted: Fitted, examples: Sequence[TokenizedExample], variants: Variants = (), tokens: bool = True
) -> MethodScores:
    """A fitted method's scores of the examples, and what each loses where a variant takes its place."""
    whole: list[NDArray[Any]] = [np.zeros(0)] * len(examples)
    rows: list[NDArray[Any] | None] = [None] * len(examples)
    for found in fitted.scores(examples, tokens):
        whole[found.index], rows[found.index] = found.example, found.tokens
    scored = np.stack(whole)
    of_tokens = [row for row in rows if row is not None]
    lost = None
    if variants:
        lost = np.zeros((len(variants), scored.shape[1]))
        for found in fitted.scores([v for _, v in variants], False):
            lost[found.index] = scored[variants[found.index][0]] - found.example
    return MethodScores(scored, of_tokens if len(of_tokens) == len(examples) else None, lost)


def check_methods(names: Sequence[str]) -> None:
    """Raise InputError for a method that does not exist."""
    for name in names:
        get_method(name)


def step_variants(problem: Problem) -> list[tuple[int, TokenizedExample]]:
    """(example, its sequence with one step cut out) for every step, in the order of the step units."""
    units = problem.units["step"]
    if problem.encode is None:
        raise InputError("deleting steps needs the records and a tokeniser; give them, or leave out step_delete")
    records = [cut_response(problem.records[o], units, np.array([u])) for u, o in enumerate(units.owner)]
    originals = [problem.examples[o] for o in units.owner]
    return list(zip((int(o) for o in units.owner), cut_examples(records, originals, problem.encode)))


def _identity(method: Method) -> str:
    """What a method's scores depend on besides the context: its settings, and the source of what is not Infra's."""
    kind = type(method)
    if kind.__module__.startswith("infra."):
        return repr(method)
    try:
        source = Path(inspect.getfile(kind)).read_text(encoding="utf-8")
    except (TypeError, OSError):  # defined in a notebook: its name and settings are all there is
        source = ""
    return f"{kind.__module__} {method!r} {hashlib.sha256(source.encode()).hexdigest()}"


def _inputs(problem: Problem, targets: QueryFolds, settings: ScoreSettings, variants: Variants) -> dict[str, Any]:
    """What scores of any method depend on: model, training, data, queries and folds, cut steps, settings, version."""
    start = problem.flat.start.cpu().view(torch.uint8).numpy()  # bytes: numpy has no bfloat16
    return {
        "infra": __version__,
        "start": hashlib.sha256(start.tobytes()).hexdigest(),
        **problem.described(),
        "fold": targets.fold.tolist(),
        "settings": asdict(settings),
        "cut": [[o for o, _ in variants], data_hash([v for _, v in variants])],
    }
