"""What the scores rest on and how they could mislead: the targets, chance, two definitions of a step, the paper."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from infra.report.data import ReportData, table
from infra.report.section import Section, Sentence, Table
from infra.report.wording import count_of, listing, number

LOW_AGREEMENT = 0.5


def _targets(data: ReportData) -> Iterable[str]:
    targets = table(data, "targets")
    if targets is None:
        return
    source, status = targets["source"].astype(str), targets["status"].astype(str)
    reference = targets[source.str.contains("reference", case=False)]
    if len(reference):
        yield (
            f"Fell back to reference solutions: {_names(reference['target'])}. The model solved too few of these "
            "problems itself, so f measures how likely it finds somebody else's solutions."
        )
    few = targets[status.str.contains("too few", case=False)]
    if len(few):
        yield f"Too few responses (under 20) behind {_names(few['target'])}: read nothing into these targets."
    insample = targets[status.str.contains("in-sample", case=False)]
    if len(insample):
        yield f"In-sample, not held out: {_names(insample['target'])}."


def _names(values: pd.Series) -> str:
    return listing(dict.fromkeys(map(str, values)))


def _definitions(data: ReportData) -> Iterable[str]:
    if data.results.get("token_sums", {}).get("spread_evenly"):
        yield (
            "The method scores whole examples only. Every response token carries an equal share of its example's "
            "score, so the colours of tokens and the effects of steps say how long they are, not what they do."
        )
    agreement = table(data, "step_definitions")
    if agreement is None:
        return
    pooled = agreement[agreement["domain"].astype(str) == "all"]
    rows = pooled if len(pooled) else agreement
    apart = rows[pd.to_numeric(rows["rho"], errors="coerce") < LOW_AGREEMENT]
    if len(apart):
        found = listing(f"{row['target']} (ρ {number(row['rho'], 2)})" for _, row in apart.iterrows())
        yield (
            f"Masking a step and deleting its text rank steps differently for {found}: step effects here are effects "
            "of masking."
        )


def _hypotheses(data: ReportData) -> Iterable[Sentence]:
    found = table(data, "hypotheses")
    if found is None:
        return
    tally = listing(f"{n} {name}" for name, n in found["answer"].astype(str).value_counts().items())
    yield Sentence(
        "What of the paper's findings?",
        f"Of {count_of(len(found), 'finding')} of the paper put to this run's data: {tally}.",
        f"{len(found)} tested",
        "plain",
    )


TARGETS = Section(
    "targets",
    "What was counted as correct",
    "A target is a group of problems; its f is the mean log-likelihood, under the model, of these correct responses.",
    (Table("targets", "Targets", "target domain tried solved kept source status"),),
    caveats=_targets,
)

HYPOTHESES = Section(
    "hypotheses",
    "The paper's findings, put to this run",
    "‘Supported’ only by retraining against the main control; from influence alone the words are ‘influence suggests’.",
    (Table("hypotheses", "Hypotheses", "name statement answer evidence interval n"),),
    answer=_hypotheses,
)

STEP_DEFINITIONS = Section(
    "step_definitions",
    "A step masked and a step deleted",
    "A step's influence can mean the sum of its tokens with the text kept (‘mask’, used everywhere above), or what the "
    "example loses when the step's text is cut out and the rest is scored again (‘delete’). Spearman correlation of "
    "the two over the steps of a sample: over all, within examples, and per token.",
    (
        Table(
            "step_definitions",
            "Agreement of the two definitions of a step's influence",
            "target domain n_steps n_examples rho low high rho_within rho_per_token same_sign",
            filters="target domain",
        ),
    ),
    caveats=_definitions,
)

PERMUTATION = Section(
    "permutation",
    "Could chance look like this",
    "Labels shuffled within their domain (and length decile), or among the steps of one example: how often the largest "
    "difference would be as large. The rows of target ‘(table)’ speak for a whole table at once.",
    (
        Table(
            "permutation",
            "Permutation tests",
            "table target attribute domain statistic value p n n_permutations",
            filters="table target attribute domain",
        ),
    ),
)
