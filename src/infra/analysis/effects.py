"""Effects of attributes on targets, from influence, with intervals over examples and over target queries.

The effect of a cell is the mean influence per example in the cell minus the mean over the other cells of
its domain: raw, per token, and at equal length. It is associational: examples were not assigned their
attributes at random.

Intervals come from two bootstraps of one statistic, examples resampled with the queries held and query folds
resampled with the examples held; their variances add up. (Resampling both at once would count the
interaction of examples and queries three times, Owen 2007; the sum counts it twice, so intervals err on the
wide side.) The interval is a t interval with Satterthwaite's degrees of freedom, which lets few folds widen
it as they should.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.analysis.cells import FORMS, Units, forms, group_sums, overlap_counts, resampled_sums
from infra.analysis.folds import MIN_RESPONSES, TargetFolds, Targets, target_folds
from infra.analysis.statistics import (
    Floats,
    Ints,
    benjamini_hochberg,
    deciles,
    minimum_detectable,
    satterthwaite,
    split_half,
    t_interval,
)
from infra.errors import InputError

MIN_OVERLAP = 30
"""Fewer units than this on either side of a comparison: undecided."""

NOT_VALIDATED = "not validated"

COLUMNS = (
    "target",
    "attribute",
    "value",
    "domain",
    "form",
    "effect",
    "low",
    "high",
    "n",
    "n_rest",
    "overlap_n",
    "p",
    "q",
    "status",
    "note",
    "label",
    "reliability",
    "sign_agreement",
    "validity",
    "mde",
    "se",
    "df",
)
"""Columns of every table of effects."""

DRAWS_AT_ONCE = 250


def effects(
    examples: pd.DataFrame,
    fold_scores: NDArray[np.floating[Any]],
    folds: pd.DataFrame,
    targets: Targets = None,
    attributes: Sequence[str] = ("difficulty",),
    *,
    n_boot: int = 1000,
    seed: int = 0,
    sets: Sequence[str] | None = ("train",),
    validity: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """One row per target x attribute value x domain x form; columns :data:`COLUMNS`.

    ``examples`` has ``id``, ``domain``, ``n_response_tokens`` and the attributes, one row per row of
    ``fold_scores`` (``[N, F]``, influence of the example on each query fold, summed over its response
    tokens). ``folds`` describes the F columns (see :func:`infra.analysis.folds.target_folds`). Only rows
    whose ``set`` is in ``sets`` are used (all rows where there is no such column or ``sets`` is None):
    trained and unseen examples differ in influence for reasons of their own. Examples without a value of an
    attribute are left out of both sides. Of a yes/no attribute only the row of True is given.

    ``effect`` is in units of f per unit of example weight (``per_token``: per token of it). ``overlap_n``
    is the smaller side's count in length bins where both sides have examples. ``status`` is 'undecided'
    where a side has fewer than 30 examples, the target fewer than 20 responses or a single fold, and
    ``note`` says which; such rows keep their estimate and take no part in ``q`` (Benjamini-Hochberg over
    the table). ``reliability`` is the split-half agreement of example scores over query folds (and seeds)
    within the domain, ``sign_agreement`` the share of halvings in which both halves give the effect the
    same sign.

    Raises:
        InputError: a missing column, rows that do not match the scores, scores that are not finite.
    """
    used, scores = select_rows(examples, fold_scores, sets)
    for attribute in attributes:
        if attribute not in used.columns:
            raise InputError(f"the examples have no column '{attribute}'; they have {list(used.columns)}.")
    drawn = target_folds(folds, scores.shape[1], targets, n_boot, seed)
    rows: list[dict[str, Any]] = []
    for domain, mine in by_domain(used):
        weights = example_weights(len(mine), n_boot, seed, domain)
        tokens = used["n_response_tokens"].to_numpy(dtype=np.float64)[mine]
        bins = deciles(tokens)
        reliability = reliabilities(scores[mine], drawn)
        for attribute in attributes:
            value, names = codes(used[attribute].iloc[mine])
            known = np.flatnonzero(value >= 0)
            if len(names) < 2:
                continue
            units = Units(known, value[known], bins[known], tokens[known], scores[mine][known])
            rows += effect_rows(
                units, names, drawn, weights, domain=domain, attribute=attribute, reliability=reliability
            )
    return finish(rows, validity)


def domain_means(
    examples: pd.DataFrame,
    fold_scores: NDArray[np.floating[Any]],
    folds: pd.DataFrame,
    targets: Targets = None,
    *,
    n_boot: int = 1000,
    seed: int = 0,
    sets: Sequence[str] | None = ("train",),
    validity: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Mean influence of a domain's examples on each target, against zero; columns :data:`COLUMNS`,
    attribute 'domain'.

    The one table that is not a contrast within a domain: whether a domain's data helps a target at all.
    Forms raw and per token only. Raises as :func:`effects` does.
    """
    used, scores = select_rows(examples, fold_scores, sets)
    drawn = target_folds(folds, scores.shape[1], targets, n_boot, seed)
    rows: list[dict[str, Any]] = []
    for domain, mine in by_domain(used):
        weights = example_weights(len(mine), n_boot, seed, domain)
        tokens = used["n_response_tokens"].to_numpy(dtype=np.float64)[mine]
        zeros = np.zeros(len(mine), dtype=np.int64)
        units = Units(np.arange(len(mine)), zeros, zeros, tokens, scores[mine])
        rows += effect_rows(
            units,
            [domain],
            drawn,
            weights,
            domain=domain,
            attribute="domain",
            reliability=reliabilities(scores[mine], drawn),
            against_zero=True,
        )
    return finish(rows, validity)


def select_rows(
    table: pd.DataFrame, scores: NDArray[np.floating[Any]], sets: Sequence[str] | None
) -> tuple[pd.DataFrame, Floats]:
    """The rows of the wanted sets and their scores as float64, checked."""
    for column in ("id", "domain", "n_response_tokens"):
        if column not in table.columns:
            raise InputError(f"the examples have no column '{column}'; they have {list(table.columns)}.")
    if scores.ndim != 2 or len(scores) != len(table):
        raise InputError(f"{len(table)} examples but scores of shape {scores.shape}; one row of folds each is needed.")
    keep = np.ones(len(table), dtype=bool)
    if sets is not None and "set" in table.columns:
        keep = table["set"].isin(list(sets)).to_numpy()
    if not keep.any():
        raise InputError(f"no example is in the set(s) {list(sets or ())}; nothing to compare.")
    used, values = table[keep].reset_index(drop=True), np.asarray(scores[keep], dtype=np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        bad = used["id"].iloc[int(np.argmin(finite))]
        raise InputError(f"example '{bad}' has a score that is not finite; score it again or drop it.")
    if used["domain"].isna().any():
        bad = used["id"].iloc[int(np.argmax(used["domain"].isna().to_numpy()))]
        raise InputError(f"example '{bad}' has no domain; label it or drop it.")
    return used, values


def by_domain(table: pd.DataFrame) -> list[tuple[str, Ints]]:
    """(domain, positions of its rows), domains in order of name."""
    domain = table["domain"].astype(str).to_numpy()
    return [(name, np.flatnonzero(domain == name)) for name in sorted(set(domain))]


def example_weights(n: int, n_boot: int, seed: int, domain: str) -> Floats:
    """Multinomial resamples of ``n`` examples of a domain, float64 ``[n, B]``; one stream per (seed,
    domain).
    """
    rng = np.random.default_rng([seed, 2, *domain.encode()])
    drawn = rng.integers(0, n, size=(n_boot, n)) + n * np.arange(n_boot)[:, None]
    return np.bincount(drawn.ravel(), minlength=n * n_boot).reshape(n_boot, n).T.astype(np.float64)


def codes(column: pd.Series) -> tuple[Ints, list[str]]:
    """Value of each row as an index into sorted names, -1 where missing; int64 ``[N]`` and the names."""
    present = column.dropna()
    values = sorted(set(present.tolist()), key=lambda v: (isinstance(v, str), v))
    index = {v: i for i, v in enumerate(values)}
    coded = np.array([index.get(v, -1) if not pd.isna(v) else -1 for v in column.tolist()], dtype=np.int64)
    return coded, [_name(v) for v in values]


def _name(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def reliabilities(scores: Floats, drawn: TargetFolds) -> Floats:
    """Split-half agreement of each target's example scores, float64 ``[K]``; NaN for a target of one fold."""
    return np.array([np.nan if half is None else split_half(scores, *half) for half in drawn.halves])


def effect_rows(
    units: Units,
    names: Sequence[str],
    drawn: TargetFolds,
    weights: Floats,
    *,
    domain: str,
    attribute: str,
    reliability: Floats,
    against_zero: bool = False,
) -> list[dict[str, Any]]:
    """Rows of one attribute in one domain, without q; ``weights`` float64 ``[C, B]``."""
    statistic = zero_forms if against_zero else forms
    sums, counts, tokens = group_sums(units, units.scores)
    by_fold = statistic(sums, counts[..., None], tokens[..., None])
    point = by_fold @ drawn.base
    query_var = np.stack([_nanvar(by_fold @ drawn.draws[:, :, k].T) for k in range(len(drawn.names))], axis=-1)
    target_scores = units.scores @ drawn.base
    blocks = [
        statistic(*resampled_sums(units, target_scores, weights[:, b : b + DRAWS_AT_ONCE]))
        for b in range(0, weights.shape[1], DRAWS_AT_ONCE)
    ]
    with np.errstate(invalid="ignore"):
        example_var = _nanvar(np.concatenate(blocks, axis=2))
    n = counts.sum(axis=1).astype(np.int64)
    rest = n.sum() - n
    near, near_rest = overlap_counts(counts)
    smaller = np.minimum(n, n if against_zero else rest)
    parts = np.stack([example_var, query_var], axis=-1)
    dfs = np.stack(np.broadcast_arrays(smaller[None, :, None] - 1.0, drawn.df[None, None, :]), axis=-1)
    df = satterthwaite(parts, np.broadcast_to(dfs, parts.shape))
    se = np.sqrt(parts.sum(axis=-1))
    low, high, p = t_interval(point, se, df)
    mde = minimum_detectable(se, df)
    agreement = _sign_agreement(by_fold, drawn)
    wanted = [names.index("True")] if sorted(names) == ["False", "True"] else range(len(names))
    rows: list[dict[str, Any]] = []
    for k, target in enumerate(drawn.names):
        for v in wanted:
            overlap = int(n[v]) if against_zero else int(min(near[v], near_rest[v]))
            for f, form in enumerate(FORMS):
                if against_zero and form == "length_matched":
                    continue
                enough = overlap if form == "length_matched" else int(smaller[v])
                note = _note(enough, form, drawn.n_responses[k], drawn.n_folds[k], float(se[f, v, k]))
                at = (f, v, k)
                rows.append(
                    {
                        "target": target,
                        "attribute": attribute,
                        "value": names[v],
                        "domain": domain,
                        "form": form,
                        "effect": point[at],
                        "low": low[at],
                        "high": high[at],
                        "n": int(n[v]),
                        "n_rest": int(rest[v]),
                        "overlap_n": overlap,
                        "p": p[at],
                        "q": np.nan,
                        "status": "undecided" if note else "ok",
                        "note": note,
                        "label": "associational",
                        "reliability": reliability[k],
                        "sign_agreement": agreement[at],
                        "validity": NOT_VALIDATED,
                        "mde": mde[at],
                        "se": se[at],
                        "df": df[at],
                    }
                )
    return rows


def zero_forms(sums: Floats, counts: Floats, tokens: Floats) -> Floats:
    """Mean influence per unit and per token of each cell, against zero; same shapes as :func:`forms`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        raw, per_token = sums.sum(axis=1) / counts.sum(axis=1), sums.sum(axis=1) / tokens.sum(axis=1)
    return np.stack([raw, per_token, np.full_like(raw, np.nan)])


def _nanvar(draws: Floats) -> Floats:
    """Variance over axis 2 (the draws), leaving out those in which a side came out empty; NaN where all
    did.
    """
    good = np.isfinite(draws)
    n = good.sum(axis=2)
    safe = np.where(good, draws, 0.0)
    mean = safe.sum(axis=2) / np.maximum(n, 1)
    square = (np.where(good, draws - mean[:, :, None], 0.0) ** 2).sum(axis=2)
    return np.where(n > 1, square / np.maximum(n - 1, 1), np.nan)


def _sign_agreement(by_fold: Floats, drawn: TargetFolds) -> Floats:
    """Share of halvings in which both halves of the folds agree on the sign, float64 ``[3, V, K]``."""
    out = np.full((*by_fold.shape[:2], len(drawn.names)), np.nan)
    for k, half in enumerate(drawn.halves):
        if half is not None:
            out[:, :, k] = (np.sign(by_fold @ half[0]) == np.sign(by_fold @ half[1])).mean(axis=-1)
    return out


def _note(n: int, form: str, n_responses: int, n_folds: int, se: float) -> str:
    """Why a row is undecided, or ''."""
    if n < MIN_OVERLAP:
        return f"{'overlap ' if form == 'length_matched' else ''}n {n} is under {MIN_OVERLAP}"
    if n_responses < MIN_RESPONSES:
        return f"too few: the target has {n_responses} responses, {MIN_RESPONSES} are needed"
    if n_folds < 2:
        return "one query fold: variation over queries is unknown"
    if not np.isfinite(se) or se <= 0:
        return "no variation to judge by"
    return ""


def finish(rows: list[dict[str, Any]], validity: Mapping[str, str] | None) -> pd.DataFrame:
    """The rows as a table with q over the decided rows and the validity of each target."""
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    decided = (table["status"] == "ok").to_numpy()
    table["q"] = benjamini_hochberg(np.where(decided, table["p"].to_numpy(dtype=np.float64), np.nan))
    known = dict(validity or {})
    table["validity"] = [known.get(target, NOT_VALIDATED) for target in table["target"]]
    return table
