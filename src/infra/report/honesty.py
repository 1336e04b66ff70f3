"""What stands between this run and a conclusion, read off the same tables that the answer comes from."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from infra.report.data import ReportData, table
from infra.report.seeds import single_seeds
from infra.report.sentences import detectable
from infra.report.wording import listing, number, points

FEW_SEEDS = 3
FEW_SWAPS = 10
LOW_RELIABILITY = 0.5
LOW_AGREEMENT = 0.5


def caveats(data: ReportData) -> list[str]:
    """Sentences for the honesty box, gravest first, the caller's own notes last."""
    out: list[str] = []
    if data.quick:
        out.append("This is a quick run: too small to conclude from. It shows that every stage works, no more.")
    for name, rule in (
        ("targets", _targets),
        ("contrasts", _contrasts),
        ("accuracy", _accuracy),
        ("effects", _effects),
        ("step_definitions", _definitions),
        ("arms", _arms),
    ):
        found = table(data, name)
        if found is not None:
            out.extend(rule(found))
    out.extend(str(note) for note in data.notes)
    return list(dict.fromkeys(out))


def _names(values: pd.Series) -> str:
    return listing(str(v) for v in dict.fromkeys(values))


def _targets(targets: pd.DataFrame) -> Iterator[str]:
    source, status = targets["source"].astype(str), targets["status"].astype(str)
    reference = targets[source.str.contains("reference", case=False)]
    if len(reference):
        yield (
            f"Fell back to reference solutions: {_names(reference['target'])}. The model solved too few of "
            f"these "
            "problems itself, so f measures how likely it finds somebody else's solutions."
        )
    few = targets[status.str.contains("too few", case=False)]
    if len(few):
        yield f"Too few responses (under 20) behind {_names(few['target'])}: read nothing into these targets."
    insample = targets[status.str.contains("in-sample", case=False)]
    if len(insample):
        yield f"In-sample, not held out: {_names(insample['target'])}."


def _contrasts(contrasts: pd.DataFrame) -> Iterator[str]:
    primary = contrasts[contrasts["role"] == "primary"]
    mde = [v for _, row in primary.iterrows() if (v := detectable(row)) is not None]
    if mde:
        low, high = points(min(mde), sign=False), points(max(mde), sign=False)
        reach = low if low == high else f"{low} to {high}"
        yield f"The primary comparisons could only have detected differences of {reach} points or more."
    others = len(contrasts) - len(primary)
    if others:
        verb = "s are" if others > 1 else " is"
        yield f"{others} further comparison{verb} exploratory: not among the corrected tests."


def _accuracy(accuracy: pd.DataFrame) -> Iterator[str]:
    trained = single_seeds(accuracy[accuracy["arm"] != "base"])
    seeds = trained.groupby("arm")["seed"].nunique()
    if len(seeds) and seeds.min() < FEW_SEEDS:
        few = _names(pd.Series(seeds[seeds < FEW_SEEDS].index))
        yield f"Only {int(seeds.min())} training seed{'s' if seeds.min() > 1 else ''} for {few}."
    insample = accuracy[accuracy["split"].astype(str).str.contains("in-sample")]
    if len(insample):
        yield f"Accuracy on {_names(insample['task'])} is in-sample: its problems also serve as targets."


def _effects(effects: pd.DataFrame) -> Iterator[str]:
    unvalidated = effects[effects["validity"].astype(str) == "not validated"]
    if len(unvalidated):
        scope = "" if len(unvalidated) == len(effects) else f" for {_names(unvalidated['target'])}"
        yield f"Influence is not validated in this run{scope}: no retraining measured how well it predicts."
    if (effects["label"].astype(str) == "associational").all():
        yield "Effects on influence are associational: only the retrained arms speak about causes."
    reliability = pd.to_numeric(effects["reliability"], errors="coerce")
    low = effects[reliability < LOW_RELIABILITY]
    if len(low):
        yield (
            f"Low split-half reliability (under {LOW_RELIABILITY}) in {len(low)} of {len(effects)} effect "
            f"rows, "
            f"targets {_names(low['target'])}."
        )
    undecided = int((effects["status"].astype(str) == "undecided").sum())
    if undecided:
        yield f"{undecided} of {len(effects)} effect rows are undecided for want of overlap or data."


def _arms(arms: pd.DataFrame) -> Iterator[str]:
    swaps = arms["arm"].nunique()
    if swaps < FEW_SWAPS:
        yield f"Predicted against measured rests on {swaps} arms, under {FEW_SWAPS}: no correlation is given."


def _definitions(agreement: pd.DataFrame) -> Iterator[str]:
    pooled = agreement[agreement["domain"].astype(str) == "all"]
    rows = pooled if len(pooled) else agreement
    apart = rows[pd.to_numeric(rows["rho"], errors="coerce") < LOW_AGREEMENT]
    if len(apart):
        found = listing(f"{row['target']} (ρ {number(row['rho'], 2)})" for _, row in apart.iterrows())
        yield (
            f"Masking a step and deleting its text rank steps differently for {found}: step effects here are effects "
            "of masking."
        )
