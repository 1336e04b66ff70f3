"""Step `strategies`: training sets chosen, dropped, weighted or cut by influence, each with its matched control.

All of them see the scores of the first fine-tuned model and target problems only; what they are worth is decided on
held-out problems, against a control that differs in nothing but the use of influence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from infra.data import Record, Span, whole_targets
from infra.errors import InputError
from infra.experiments.selection import (
    CONTROLS,
    influence_swap,
    prune,
    random_prune,
    random_selection,
    truncate,
    utility,
    weigh,
)
from infra.layout import BASE, SETS
from infra.models import load_tokenizer
from infra.pipeline.data import load_records, save_records
from infra.pipeline.experiment import items
from infra.pipeline.stage import Context
from infra.pipeline.step import TOKENIZER, Step, Uses
from infra.store import read_json, write_json

CUTTABLE = ("plan", "verification", "backtracking", "exploration", "exploration_after_answer")
"""Behaviours that `truncate` may choose from: a solution stays one without them."""

MIN_STEPS = 30
"""Fewer steps of a behaviour than this: it is not chosen."""


def run_strategies(context: Context) -> None:
    """Write <arm>.parquet and <arm>.json (what changed and why) for each strategy and its control.

    ``changes`` in the JSON holds each record's change of weight: +1 put in, -1 taken out, w - 1 weighted; records
    cut by `truncate` have none, for their text changes.
    """
    recipe = context.recipe
    scores = pd.read_parquet(context.example_scores)
    targets = whole_targets(scores.columns)
    balanced = utility(scores[[f"score_{t}" for t in targets]].to_numpy(), targets)
    influence = dict(zip(scores.id, balanced.tolist()))
    sets = {w: load_records(context.records(w)) for w in SETS}
    by_id = {r.id: r for w in sets for r in sets[w]}
    lengths = {str(i): int(n) for i, n in zip(scores.id, scores.n_response_tokens)}
    train = [r for r in sets["train"] if r.id in lengths]
    train_items, pool_items = items(train, lengths), items(sets["pool"], lengths)
    s = recipe.strategies

    def write(name: str, records: Sequence[Record], changes: Mapping[str, float], manifest: Mapping[str, Any]) -> None:
        save_records(list(records), context.arm("strategies", name))
        write_json(context.arm_manifest("strategies", name), {**manifest, "weight_changes": dict(changes)})

    if "select" in s.names:
        out = read_json(context.arm_manifest("arms", "flip"))["out"]
        groups = {i: str(r.attributes.get(s.group)) for i, r in by_id.items()} if s.group else None
        matched = recipe.arms.token_matched
        chosen = influence_swap(
            *(train_items, pool_items, influence, out),
            name="select",
            groups=groups,
            max_share=s.max_share,
            token_matched=matched,
        )
        control = random_selection(train_items, pool_items, out, seed=recipe.seed, token_matched=matched)
        for arm in (chosen, control):
            swapped = {**dict.fromkeys(arm.out_ids, -1.0), **dict.fromkeys(arm.in_ids, 1.0)}
            write(arm.name, [by_id[i] for i in arm.order], swapped, arm.manifest)
    if "prune" in s.names:
        mine = scores[scores.set == "train"]
        dropped = prune(
            list(mine.id), mine[[f"score_{t}" for t in targets]].to_numpy(), targets, fraction=s.prune_fraction
        )
        for name, found in (
            ("prune", dropped),
            (
                CONTROLS["prune"],
                random_prune(train_items, dropped.ids, seed=recipe.seed, token_matched=recipe.arms.token_matched),
            ),
        ):
            gone = set(found.ids)
            write(name, [r for r in train if r.id not in gone], dict.fromkeys(found.ids, -1.0), found.manifest)
    if "weights" in s.names:
        for name, shuffle in (("weights", None), (CONTROLS["weights"], recipe.seed)):
            made = weigh(train, influence, lengths, strength=s.strength, low=s.lowest, high=s.highest, shuffle=shuffle)
            delta = {r.id: r.weight - before.weight for r, before in zip(made.records, train)}
            write(name, made.records, delta, {k: v for k, v in made.manifest.items() if k != "changes"})
    if "truncate" in s.names:
        _truncate(context, train, targets, write)


def _truncate(context: Context, train: Sequence[Record], targets: Sequence[str], write: Any) -> None:
    """Cut the steps of one behaviour; the one of lowest influence per token unless the recipe names some."""
    recipe = context.recipe
    steps = pd.read_parquet(context.step_scores)
    steps = steps[steps.set == "train"]
    behaviours = list(recipe.strategies.behaviours)
    table = behaviour_influence(steps, targets)
    if not behaviours:
        candidates = table[table.behaviour.isin(CUTTABLE) & (table.n_steps >= MIN_STEPS)]
        if candidates.empty:
            raise InputError(
                f"strategy 'truncate': none of {', '.join(CUTTABLE)} has {MIN_STEPS} steps in the training set; "
                "name some in strategies.behaviours, or leave 'truncate' out of strategies.names"
            )
        behaviours = [str(candidates.sort_values("per_token").behaviour.iloc[0])]
    spans: dict[str, list[Span]] = {}
    for id_, start, end, labels in zip(steps.id, steps.start, steps.end, steps.behaviours):
        spans.setdefault(str(id_), []).append(Span(int(start), int(end), tuple(labels)))
    tokenizer = load_tokenizer(context.use(BASE))
    made = truncate(
        [replace(r, spans=tuple(spans.get(r.id, ()))) for r in train],
        behaviours,
        seed=recipe.seed,
        length=lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
    )
    manifest = {**made.manifest, "behaviour_influence": table.to_dict("records")}
    write("truncate", made.cut, {}, manifest)
    write(CONTROLS["truncate"], made.control, {}, manifest)


def behaviour_influence(steps: pd.DataFrame, targets: Sequence[str]) -> pd.DataFrame:
    """Influence per token of each behaviour's steps, ``mask`` definition: ``behaviour, n_steps, per_token``.

    ``per_token`` is the mean over targets of sum I / sum tokens, each target divided by the standard deviation of its
    step influences.
    """
    columns = [f"loss_{t}" if f"loss_{t}" in steps else t for t in targets]
    missing = [c for c in columns if c not in steps]
    if missing:
        raise InputError(f"steps have no column '{missing[0]}'; name every target in scores.token_targets")
    scaled = steps[columns] / steps[columns].std()
    flat = pd.DataFrame(
        {"behaviour": steps.behaviours, "tokens": steps.t1 - steps.t0, "influence": scaled.mean(axis=1)}
    ).explode("behaviour")
    sums = flat.groupby("behaviour", sort=True).agg(
        n_steps=("tokens", "size"), tokens=("tokens", "sum"), influence=("influence", "sum")
    )
    per_token = sums["influence"].to_numpy(dtype=np.float64) / np.maximum(sums["tokens"].to_numpy(dtype=np.float64), 1)
    return pd.DataFrame({"behaviour": sums.index, "n_steps": sums["n_steps"].to_numpy(), "per_token": per_token})


STRATEGIES = Step(
    "strategies",
    run_strategies,
    reads=("records", "scores", "spans", "arms"),
    uses=(Uses(BASE, (TOKENIZER,)),),
    settings=("strategies", "arms.token_matched", "seed"),
    when=lambda job: job.trains and bool(job.recipe.strategies.names),
)
