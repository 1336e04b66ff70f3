"""Effects below the example: steps by behaviour, parts, token classes.

The table is long: one row per step, or per (example, token class). A row's ``group`` is one label or
several (a step can be both a computation and a verification); the effect of a label is the mean influence
of the rows that carry it minus the mean of the rows of the domain that do not. Whole examples are
resampled, since steps of one example hang together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.analysis.cells import Units
from infra.analysis.effects import by_domain, effect_rows, example_weights, finish, reliabilities, select_rows
from infra.analysis.folds import Targets, target_folds
from infra.analysis.statistics import deciles
from infra.errors import InputError


def span_effects(
    spans: pd.DataFrame,
    span_scores: NDArray[np.floating[Any]],
    folds: pd.DataFrame,
    targets: Targets = None,
    *,
    examples: pd.DataFrame,
    attribute: str = "behaviour",
    length: str = "span",
    n_boot: int = 1000,
    seed: int = 0,
    sets: Sequence[str] | None = ("train",),
    validity: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """The table of :func:`infra.analysis.effects` for labels of spans; ``value`` is the label.

    ``spans`` has ``id`` (the example's), ``group`` (a label, several labels, or nothing) and ``n_tokens``;
    ``span_scores`` ``[R, F]`` is the influence of each on each fold, summed over its tokens. ``examples``
    gives the domain, set and ``n_response_tokens`` of the ids. ``raw`` is per span, ``per_token`` per token
    of spans, and ``length_matched`` compares spans within deciles of the span's own tokens
    (``length='span'``) or of the example's response tokens (``length='response'``, for rows that sum a
    token class over an example). ``n`` counts rows: spans, or examples
    that have the class.

    Raises:
        InputError: a missing column, a span of an unknown example, rows that do not match, scores not finite.
    """
    if length not in ("span", "response"):
        raise InputError(f"length is '{length}'; use 'span' or 'response'.")
    used, scores = select_rows(join_examples(spans, examples), span_scores, sets)
    drawn = target_folds(folds, scores.shape[1], targets, n_boot, seed)
    labels = [labels_of(group) for group in used["group"]]
    rows: list[dict[str, Any]] = []
    for domain, mine in by_domain(used):
        cluster, _ = pd.factorize(used["id"].iloc[mine], sort=True)
        weights = example_weights(int(cluster.max()) + 1, n_boot, seed, domain)
        tokens = used["n_tokens"].to_numpy(dtype=np.float64)[mine]
        by = tokens if length == "span" else used["n_response_tokens"].to_numpy(dtype=np.float64)[mine]
        bins = deciles(by)
        reliability = reliabilities(scores[mine], drawn)
        for label in sorted({name for i in mine for name in labels[i]}):
            has = np.array([label in labels[i] for i in mine], dtype=np.int64)
            if has.all():
                continue
            units = Units(cluster.astype(np.int64), has, bins, tokens, scores[mine])
            found = effect_rows(
                units,
                ["False", "True"],
                drawn,
                weights,
                domain=domain,
                attribute=attribute,
                reliability=reliability,
            )
            rows += [{**row, "value": label} for row in found]
    return finish(rows, validity)


def join_examples(spans: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """The spans with domain, set and response tokens of their examples.

    Raises:
        InputError: a missing column, or a span of an unknown example.
    """
    for column in ("id", "group", "n_tokens"):
        if column not in spans.columns:
            raise InputError(f"the spans have no column '{column}'; they have {list(spans.columns)}.")
    named = examples.drop_duplicates("id").set_index("id")
    unknown = ~spans["id"].isin(named.index)
    if unknown.any():
        raise InputError(f"span of example '{spans['id'][unknown].iloc[0]}': the examples have no such id.")
    wide = spans.reset_index(drop=True)
    for column in ("domain", "set", "n_response_tokens"):
        if column in named.columns:
            wide[column] = named[column].loc[wide["id"]].to_numpy()
    return wide


def labels_of(group: Any) -> tuple[str, ...]:
    """The labels of a ``group`` entry: one text, several, or none."""
    if isinstance(group, str):
        return (group,)
    return tuple(str(g) for g in group) if isinstance(group, Iterable) else ()
