"""The paper's findings as named hypotheses, each answered from this run's own tables.

'supported' and 'contradicted' come only from the primary contrast of retrained arms; from influence the
words are 'influence suggests yes' or 'no', from other retrained contrasts 'retraining suggests yes' or
'no'. Anything whose interval includes zero after correction is 'undecided', and what was not measured is
'not tested'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from infra.analysis.statistics import LEVEL

HYPOTHESIS_COLUMNS = (
    "name",
    "statement",
    "answer",
    "evidence",
    "interval",
    "n",
    "effect",
    "low",
    "high",
    "p_adjusted",
    "mde",
    "label",
    "reliability",
    "validity",
)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A claim about one row of one table: its effect has this ``sign``.

    ``table`` is 'effects', 'domain_means', 'behaviours', 'token_classes' or 'contrasts'. For the first four,
    ``target`` and ``domain`` are domains ('math', 'code'), ``attribute`` and ``values`` choose the row (the
    first value that the table has) and ``form`` the length control; for contrasts, ``domain`` names the
    task's domain and ``values`` is (arm, control).
    """

    name: str
    statement: str
    table: str
    domain: str
    values: tuple[str, ...]
    sign: int = 1
    target: str = ""
    attribute: str = ""
    form: str = "length_matched"


def _transfer(source: str, target: str) -> Hypothesis:
    return Hypothesis(
        f"{source}-data-helps-{target}",
        f"{source.capitalize()} data helps {target}.",
        "domain_means",
        source,
        (source,),
        target=target,
        attribute="domain",
        form="raw",
    )


def _band(band: str, domain: str, target: str) -> Hypothesis:
    return Hypothesis(
        f"{band}-{domain}-helps-{target}",
        f"{band.capitalize()} {domain} examples help {target} more than other {domain} examples do.",
        "effects",
        domain,
        (band,),
        target=target,
        attribute="difficulty_band",
    )


def _behaviour(label: str, domain: str) -> Hypothesis:
    words = label.replace("_", " ")
    return Hypothesis(
        f"{label.replace('_', '-')}-helps-{domain}",
        f"{words.capitalize()} helps {domain} more than other steps do.",
        "behaviours",
        domain,
        (label,),
        target=domain,
        attribute="behaviour",
    )


def _flip(domain: str) -> Hypothesis:
    return Hypothesis(
        f"difficulty-flip-improves-{domain}",
        f"The difficulty flip raises held-out {domain} accuracy over swaps at equal difficulty.",
        "contrasts",
        domain,
        ("flip", "same-difficulty-swap"),
    )


def _cut(domain: str) -> Hypothesis:
    return Hypothesis(
        f"cutting-exploration-hurts-{domain}",
        f"Cutting exploration and verification lowers {domain} accuracy more than cutting random steps.",
        "contrasts",
        domain,
        ("truncate", "random-truncation"),
        sign=-1,
    )


PAPER: tuple[Hypothesis, ...] = (
    _transfer("math", "code"),
    _transfer("code", "math"),
    _band("hard", "math", "math"),
    _band("hard", "math", "code"),
    _band("easy", "code", "code"),
    Hypothesis(
        "symbolic-math-helps-code",
        "Symbolic math transfers to code better than conversational math.",
        "effects",
        "math",
        ("symbolic",),
        target="code",
        attribute="style",
    ),
    _behaviour("exploration", "math"),
    _behaviour("exploration", "code"),
    _behaviour("exploration_after_answer", "math"),
    _behaviour("exploration_after_answer", "code"),
    Hypothesis(
        "math-leans-on-connectives",
        "In math traces, logical connectives help math more, token for token, than the rest.",
        "token_classes",
        "math",
        ("connective",),
        target="math",
        attribute="token_class",
        form="per_token",
    ),
    Hypothesis(
        "code-leans-on-syntax",
        "In code traces, structural syntax helps code more, token for token, than the rest.",
        "token_classes",
        "code",
        ("code:keyword", "code:punctuation", "code:operator"),
        target="code",
        attribute="token_class",
        form="per_token",
    ),
    _flip("math"),
    _flip("code"),
    Hypothesis(
        "reverse-flip-hurts-code",
        "The reverse flip lowers code accuracy below the same-difficulty swap.",
        "contrasts",
        "code",
        ("reverse-flip", "same-difficulty-swap"),
        sign=-1,
    ),
    _cut("math"),
    _cut("code"),
)
"""What the paper found (arXiv 2505.19949), as claims to test."""


def hypotheses(
    effects: pd.DataFrame,
    *,
    domain_means: pd.DataFrame | None = None,
    behaviours: pd.DataFrame | None = None,
    token_classes: pd.DataFrame | None = None,
    contrasts: pd.DataFrame | None = None,
    targets: Mapping[str, str] | None = None,
    tasks: Mapping[str, str] | None = None,
    claims: Sequence[Hypothesis] = PAPER,
) -> pd.DataFrame:
    """One row per claim, columns :data:`HYPOTHESIS_COLUMNS`; tables as the other functions of this room
    return them.

    ``effects`` should include the attributes ``difficulty_band`` (:func:`with_bands`) and ``style``.
    ``targets`` and ``tasks`` map a domain to the name of its target and its primary held-out task where
    these differ from the domain. An associational claim counts when its row's interval and q (at 5%) agree
    with its sign at equal length (per token for token classes); ``evidence`` shows the other forms beside
    it.
    """
    tables = {
        "effects": effects,
        "domain_means": domain_means,
        "behaviours": behaviours,
        "token_classes": token_classes,
    }
    rows = []
    for claim in claims:
        if claim.table == "contrasts":
            rows.append(_causal(claim, contrasts, (tasks or {}).get(claim.domain, claim.domain)))
        else:
            target = (targets or {}).get(claim.target, claim.target)
            rows.append(_associational(claim, tables[claim.table], target))
    return pd.DataFrame(rows, columns=list(HYPOTHESIS_COLUMNS))


def with_bands(examples: pd.DataFrame, easy: Sequence[int] = (1, 2), hard: Sequence[int] = (4, 5)) -> pd.DataFrame:
    """The examples with a column ``difficulty_band``: 'easy', 'hard', 'middle', or missing where difficulty
    is.
    """
    level = examples["difficulty"]
    band = np.where(level.isin(list(easy)), "easy", np.where(level.isin(list(hard)), "hard", "middle"))
    return examples.assign(difficulty_band=pd.Series(band, index=examples.index).where(level.notna()))


def _associational(claim: Hypothesis, table: pd.DataFrame | None, target: str) -> dict[str, Any]:
    mine = pd.DataFrame()
    if table is not None and len(table):
        here = table[
            (table["target"] == target) & (table["domain"] == claim.domain) & (table["attribute"] == claim.attribute)
        ]
        present = [v for v in claim.values if (here["value"] == v).any()]
        mine = here[here["value"] == present[0]] if present else mine
    if len(mine) == 0:
        return _untested(claim, f"no row for {claim.attribute} {claim.values[0]} of {claim.domain} on target {target}")
    row = mine[mine["form"] == claim.form].iloc[0]
    others = ", ".join(f"{r['form'].replace('_', ' ')} {r['effect']:+.3g}" for _, r in mine.iterrows())
    answer, why = "undecided", ""
    if row["status"] != "ok":
        why = f"; {row['note']}"
    elif row["q"] <= LEVEL and not row["low"] <= 0 <= row["high"]:
        answer = "influence suggests " + ("yes" if np.sign(row["effect"]) == claim.sign else "no")
    test = f"; q {row['q']:.2g}" if np.isfinite(row["q"]) else ""
    evidence = f"effect on target {target}: {others}{test}{why}"
    return {
        **_head(claim, answer, evidence, row["effect"], row["low"], row["high"], int(row["n"])),
        "p_adjusted": row["q"],
        "mde": row["mde"],
        "label": "associational",
        "reliability": row["reliability"],
        "validity": row["validity"],
    }


def _causal(claim: Hypothesis, contrasts: pd.DataFrame | None, task: str) -> dict[str, Any]:
    arm, control = claim.values
    mine = pd.DataFrame()
    if contrasts is not None:
        mine = contrasts[(contrasts["task"] == task) & (contrasts["contrast"] == f"{arm} - {control}")]
    if len(mine) == 0:
        return _untested(claim, f"no retrained contrast {arm} - {control} on task {task}")
    row = mine.iloc[0]
    is_primary = row["role"] == "primary"
    p = row["p_holm"] if is_primary else row["p"]
    answer, why = "undecided", ""
    if row["status"] != "ok":
        why = f"; {row['note']}"
    elif p <= LEVEL and not row["low"] <= 0 <= row["high"]:
        agrees = np.sign(row["difference"]) == claim.sign
        if is_primary:
            answer = "supported" if agrees else "contradicted"
        else:
            answer = "retraining suggests " + ("yes" if agrees else "no")
    test = f"p {p:.2g} after Holm" if is_primary else f"p {p:.2g}, exploratory"
    evidence = (
        f"{row['contrast']} on {task}: {100 * row['difference']:+.1f} points, "
        f"{row['n_seeds']} seeds, {test}; smallest detectable {100 * row['mde']:.1f} points{why}"
    )
    return {
        **_head(claim, answer, evidence, row["difference"], row["low"], row["high"], int(row["n_problems"])),
        "p_adjusted": p,
        "mde": row["mde"],
        "label": row["label"],
        "reliability": np.nan,
        "validity": "",
    }


def _head(
    claim: Hypothesis, answer: str, evidence: str, effect: float, low: float, high: float, n: int
) -> dict[str, Any]:
    interval = f"[{low:.3g}, {high:.3g}]" if np.isfinite(low) and np.isfinite(high) else ""
    return {
        "name": claim.name,
        "statement": claim.statement,
        "answer": answer,
        "evidence": evidence,
        "interval": interval,
        "n": n,
        "effect": effect,
        "low": low,
        "high": high,
    }


def _untested(claim: Hypothesis, why: str) -> dict[str, Any]:
    return {
        **_head(claim, "not tested", why, np.nan, np.nan, np.nan, 0),
        "p_adjusted": np.nan,
        "mde": np.nan,
        "label": "",
        "reliability": np.nan,
        "validity": "",
    }
