"""Permutation test of a whole table: could shuffled labels look like this?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.analysis.effects import by_domain, codes, select_rows
from infra.analysis.folds import Targets, target_folds
from infra.analysis.span_effects import join_examples, labels_of
from infra.analysis.statistics import Floats, Ints, deciles


def permutation_test(
    examples: pd.DataFrame,
    fold_scores: NDArray[np.floating[Any]],
    folds: pd.DataFrame,
    targets: Targets = None,
    attributes: Sequence[str] = ("difficulty",),
    *,
    n_permutations: int = 1000,
    seed: int = 0,
    sets: Sequence[str] | None = ("train",),
    within_length: bool = True,
) -> pd.DataFrame:
    """``target, attribute, domain, statistic, value, p, n, n_permutations`` and a last row '(table)' for
    all of it.

    Labels are shuffled among the examples of a domain, within deciles of response tokens where
    ``within_length``, so that a difference explained by length is no discovery. The statistic is the
    largest |Welch t| of any cell against the rest (``value`` names the cell); ``p = (1 + #{shuffled >=
    observed}) / (1 + n_permutations)``. The table's statistic is the largest over targets, attributes and
    domains, hence free of multiplicity. Arguments and errors as for :func:`infra.analysis.effects`;
    constant attributes are left out.
    """
    used, scores = select_rows(examples, fold_scores, sets)
    drawn = target_folds(folds, scores.shape[1], targets, 1, seed)
    values = scores @ drawn.base
    rng = np.random.default_rng([seed, 3])
    rows: list[dict[str, Any]] = []
    nulls: list[Floats] = []
    for domain, mine in by_domain(used):
        bins = deciles(used["n_response_tokens"].to_numpy(dtype=np.float64)[mine])
        for attribute in attributes:
            value, names = codes(used[attribute].iloc[mine])
            known = np.flatnonzero(value >= 0)
            if len(names) < 2:
                continue
            strata = bins[known] if within_length else np.zeros(len(known), dtype=np.int64)
            y = centred(values[mine][known], strata)
            observed = welch_t(y, value[known], len(names))
            null = np.stack(
                [
                    np.abs(welch_t(y, shuffle_within(value[known], strata, rng), len(names))).max(axis=0)
                    for _ in range(n_permutations)
                ]
            )
            nulls.append(null)
            found = _strongest(observed, null, names, drawn.names)
            rows += [{**row, "attribute": attribute, "domain": domain, "n": len(known)} for row in found]
    return _with_table_row(rows, nulls, len(used))


def span_permutation_test(
    spans: pd.DataFrame,
    span_scores: NDArray[np.floating[Any]],
    folds: pd.DataFrame,
    targets: Targets = None,
    *,
    examples: pd.DataFrame,
    attribute: str = "behaviour",
    n_permutations: int = 1000,
    seed: int = 0,
    sets: Sequence[str] | None = ("train",),
) -> pd.DataFrame:
    """The same for labels of spans: shuffled among the spans of one example; ``value`` is the strongest
    label.

    Scores are per token of the span and relative to the example's mean, so that neither a long span nor a good
    example is a discovery. A span's labels move together; spans without tokens are left out. Arguments and errors as
    for :func:`infra.analysis.span_effects`.
    """
    some = (spans["n_tokens"] > 0).to_numpy() if "n_tokens" in spans.columns else np.ones(len(spans), dtype=bool)
    used, scores = select_rows(join_examples(spans[some], examples), np.asarray(span_scores)[some], sets)
    drawn = target_folds(folds, scores.shape[1], targets, 1, seed)
    values = (scores @ drawn.base) / used["n_tokens"].to_numpy(dtype=np.float64)[:, None]
    labels = [labels_of(group) for group in used["group"]]
    rng = np.random.default_rng([seed, 7])
    rows: list[dict[str, Any]] = []
    nulls: list[Floats] = []
    for domain, mine in by_domain(used):
        names = sorted({name for i in mine for name in labels[i]})
        has = np.array([[name in labels[i] for i in mine] for name in names], dtype=np.float64)
        wanted = [v for v in range(len(names)) if not has[v].all()]
        if not wanted:
            continue
        names, has = [names[v] for v in wanted], has[wanted]
        cluster = pd.factorize(used["id"].iloc[mine], sort=True)[0].astype(np.int64)
        y = centred(values[mine], cluster)
        observed = label_t(y, has)
        position = np.arange(len(mine))
        null = np.stack(
            [
                np.abs(label_t(y, has[:, shuffle_within(position, cluster, rng)])).max(axis=0)
                for _ in range(n_permutations)
            ]
        )
        nulls.append(null)
        found = _strongest(observed, null, names, drawn.names)
        rows += [{**row, "attribute": attribute, "domain": domain, "n": len(mine)} for row in found]
    return _with_table_row(rows, nulls, len(used))


def welch_t(y: Floats, value: Ints, n_values: int) -> Floats:
    """Welch's t of each value's mean against the rest, float64 ``[V, K]``; 0 where a side has fewer than 2
    rows.
    """
    one_hot = np.zeros((n_values, len(value)))
    one_hot[value, np.arange(len(value))] = 1.0
    return label_t(y, one_hot)


def label_t(y: Floats, has: Floats) -> Floats:
    """Welch's t of the rows that have each label against those that have not, float64 ``[L, K]``.

    ``y`` float64 ``[R, K]``; ``has`` float64 ``[L, R]``, 1 or 0. 0 where a side has fewer than 2 rows.
    """
    n = has.sum(axis=1, keepdims=True)
    rest = has.shape[1] - n
    total, square = has @ y, has @ (y * y)
    all_total, all_square = y.sum(axis=0), (y * y).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, rest_mean = total / n, (all_total - total) / rest
        var = (square / n - mean**2) * n / (n - 1)
        rest_var = ((all_square - square) / rest - rest_mean**2) * rest / (rest - 1)
        t = (mean - rest_mean) / np.sqrt(var / n + rest_var / rest)
    return np.where((n > 1) & (rest > 1) & np.isfinite(t), t, 0.0)


def centred(y: Floats, strata: Ints) -> Floats:
    """``y`` (float64 ``[R, K]``) minus the mean of its stratum."""
    counts = np.bincount(strata)
    sums = np.stack([np.bincount(strata, weights=column) for column in y.T], axis=1)
    return y - (sums / np.maximum(counts, 1)[:, None])[strata]


def shuffle_within(value: Ints, strata: Ints, rng: np.random.Generator) -> Ints:
    """``value`` shuffled among the rows of each stratum."""
    order = np.argsort(strata, kind="stable")
    shuffled = np.lexsort((rng.random(len(value)), strata))
    out = np.empty_like(value)
    out[order] = value[shuffled]
    return out


def _strongest(observed: Floats, null: Floats, names: Sequence[str], targets: Sequence[str]) -> list[dict[str, Any]]:
    """Each target's label with the largest ``|t|``, from ``observed [V, K]`` and the largest of each shuffle."""
    rows = []
    for k, target in enumerate(targets):
        top = int(np.argmax(np.abs(observed[:, k])))
        statistic = float(np.abs(observed[top, k]))
        p = _p(statistic, null[:, k])
        rows.append(
            {"target": target, "statistic": statistic, "value": names[top], "p": p, "n_permutations": len(null)}
        )
    return rows


def _p(statistic: float, null: Floats) -> float:
    return float((1 + np.count_nonzero(null >= statistic - 1e-12)) / (1 + len(null)))


def _with_table_row(rows: list[dict[str, Any]], nulls: Sequence[Floats], n: int) -> pd.DataFrame:
    """The rows and, last, the row of the whole table: its largest statistic against the largest of each
    shuffle."""
    columns = ["target", "attribute", "domain", "statistic", "value", "p", "n", "n_permutations"]
    if rows:
        best = max(rows, key=lambda r: r["statistic"])
        overall = np.concatenate(list(nulls), axis=1).max(axis=1)
        rows = [*rows, {**best, "target": "(table)", "p": _p(best["statistic"], overall), "n": n}]
    return pd.DataFrame(rows, columns=columns)
