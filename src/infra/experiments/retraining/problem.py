"""What is retrained and what is measured, and the plan of the runs that ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.data import Record, TokenizedExample
from infra.errors import InputError
from infra.experiments.retraining.plan import (
    MINIMUM_DROP1,
    MINIMUM_SEEDS,
    MINIMUM_SUBSETS,
    RECORDED,
    UNIT_OF,
    PlannedRun,
    SubsetPlan,
    data_hash,
    random_subsets,
    training_settings,
)
from infra.experiments.retraining.units import Units, cut_examples, cut_response, kept_token_weights
from infra.train.flat_model import FlatModel, Form, loss_weights
from infra.train.replay import Retrain, TrainingPlan

Accuracy = Callable[[Any], Mapping[str, float]]


@dataclass(frozen=True)
class Problem:
    """What is retrained and what is measured.

    ``training`` holds the recorded order. ``queries`` are the fixed responses inside f. ``model_hash`` is that of the
    model that training starts from. ``encode`` tokenises a record, for `delete` runs. ``accuracy`` gives held-out
    accuracy per domain of a model, for ``accuracy_lds``.
    """

    flat: FlatModel
    training: TrainingPlan
    examples: Sequence[TokenizedExample]
    queries: Sequence[TokenizedExample]
    units: Mapping[str, Units]
    model_hash: str = ""
    form: Form = "per_token"
    records: Sequence[Record] = ()
    encode: Callable[[Sequence[Record]], Sequence[TokenizedExample]] | None = None
    accuracy: Accuracy | None = None
    stack: int = 1

    def described(self) -> dict[str, Any]:
        """What measurements of this problem depend on, as JSON values: for plans and for kept scores."""
        return {
            "data": data_hash(self.examples),
            "queries": data_hash(self.queries),
            "model": self.model_hash,
            "training": training_settings(self.training),
            "form": self.form,
        }

    def order(self, order: str | int) -> TrainingPlan:
        """The training plan under the recorded order or a fresh one."""
        if order == RECORDED:
            return self.training
        return self.training.reordered(len(self.examples), int(order))

    def retrain(self, run: PlannedRun, subsets: Mapping[str, NDArray[np.bool_]]) -> Retrain:
        """Data, weights and order of one planned run."""
        training = self.order(run.order)
        if run.subset < 0:
            return Retrain(self.examples, loss_weights(self.examples), training)
        keep = subsets[run.kind][run.subset]
        return self.without(run.kind, keep, training)

    def without(self, kind: str, keep: NDArray[np.bool_], training: TrainingPlan) -> Retrain:
        """Training with only the kept units: weight 0 for the others, or, for ``step_delete``, their text cut out."""
        units = self.units[UNIT_OF[kind]]
        if kind == "step_delete":
            examples = self._cut(units, keep)
            return Retrain(examples, loss_weights(examples), training)
        weights = loss_weights(self.examples, token_weights=kept_token_weights(units, keep, self.examples))
        return Retrain(self.examples, weights, training)

    def _cut(self, units: Units, keep: NDArray[np.bool_]) -> list[TokenizedExample]:
        if self.encode is None or len(self.records) != len(self.examples):
            raise InputError("deleting steps needs the records and a tokeniser; give them, or leave out step_delete")
        gone: dict[int, list[int]] = {}
        for u in np.flatnonzero(~keep):
            gone.setdefault(int(units.owner[u]), []).append(int(u))
        changed = sorted(gone)
        records = [cut_response(self.records[i], units, np.array(gone[i])) for i in changed]
        shorter = cut_examples(records, [self.examples[i] for i in changed], self.encode)
        out = list(self.examples)
        for i, example in zip(changed, shorter):
            out[i] = example
        return out


def make_subset_plan(
    problem: Problem,
    blocks: Sequence[tuple[str, str]],
    *,
    n_subsets: int = MINIMUM_SUBSETS,
    seeds: Sequence[int] = (101, 102, 103),
    seed: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> SubsetPlan:
    """The plan of some ``blocks``: (kind, ``same_seed`` | ``seed_mean``) pairs, in the order they will run.

    Step kinds share their subsets, so that `mask` and `delete` are compared on the same steps. Raises InputError below
    the protocol's minima (100 subsets, 3 seeds, 2,000 examples for 1% drops) unless ``extra`` carries
    ``"below_protocol": true``.
    """
    extra = dict(extra or {})
    kinds = list(dict.fromkeys(k for k, _ in blocks))
    problems = []
    if n_subsets < MINIMUM_SUBSETS:
        problems.append(f"{n_subsets} subsets (at least {MINIMUM_SUBSETS})")
    if any(p == "seed_mean" for _, p in blocks) and len(seeds) < MINIMUM_SEEDS:
        problems.append(f"{len(seeds)} seeds (at least {MINIMUM_SEEDS})")
    if "drop1" in kinds and len(problem.examples) < MINIMUM_DROP1:
        problems.append(f"1% drops of {len(problem.examples)} examples (at least {MINIMUM_DROP1})")
    if problems and not extra.get("below_protocol"):
        raise InputError(
            "the plan is below what the protocol asks: " + ", ".join(problems) + "; ask for more, or mark "
            "the plan as below protocol and its results as a smoke test"
        )
    subsets = {k: random_subsets(k, len(problem.units[UNIT_OF[k]]), n_subsets, seed) for k in kinds}
    runs: list[PlannedRun] = []
    for kind, protocol in blocks:
        orders: Sequence[str | int] = (RECORDED,) if protocol == "same_seed" else tuple(seeds)
        for order in orders:
            full = PlannedRun("full", -1, order)
            if full not in runs:
                runs.append(full)
            runs += [PlannedRun(kind, s, order) for s in range(n_subsets)]
    settings = {
        **problem.described(),
        "n_subsets": n_subsets,
        "seeds": list(seeds),
        "seed": seed,
        "blocks": [list(b) for b in blocks],
        **extra,
    }
    return SubsetPlan(settings, subsets, tuple(runs))
