"""Difficulty labels, kept apart under their own attribute names and never merged.

``difficulty`` is the level that a run works with, ``difficulty_judge`` a judge's rating, and ``difficulty_native`` the
data's own level where another took its place. An analysis slices by one of them, by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from infra.data.schema import Attribute, Record
from infra.errors import InputError

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_OPERATOR = re.compile(r"[-+*/=<>^]|\\(?:frac|sqrt|sum|int|cdot|times|binom)")
_BRANCH = re.compile(r"\b(?:for|while|if|elif|else|return|lambda|and|or|not|in|try|def|class)\b")


def text_difficulty(record: Record) -> float:
    """A rough difficulty from the text alone.

    It counts the operators, numbers and, for code, keywords of the response (the fenced code for ``code``), else of the
    question. For smoke tests and data without labels: it is confounded with length.

    Args:
        record: any record.

    Returns:
        The natural logarithm of the count.
    """
    text = record.response if record.response is not None else record.question
    if record.domain == "code":
        fenced = re.findall(r"```\w*\n(.*?)```", text, flags=re.S)
        text = "\n".join(fenced) or text
        count = len(_BRANCH.findall(text)) + len(_OPERATOR.findall(text))
    else:
        count = len(_NUMBER.findall(text)) + len(_OPERATOR.findall(text))
    return float(np.log1p(count))


def difficulty_bins(values: Sequence[float], n_bins: int = 5) -> list[int]:
    """Bins 1..n of equal size, by rank.

    Args:
        values: one a record.
        n_bins: how many bins.

    Returns:
        The bin of each value. Equal values always share one, that of their mean rank.

    Raises:
        InputError: a value is not finite, or fewer than two bins would be filled.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise InputError("difficulty bins need at least one value and only finite values; check the labels")
    unique, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts + 1) / 2
    bins = np.minimum((mean_rank[inverse] / array.size * n_bins).astype(int), n_bins - 1) + 1
    if n_bins > 1 and len(unique) < 2:
        raise InputError(f"all {array.size} values are {unique[0]}; one value cannot be cut into {n_bins} bins")
    return [int(b) for b in bins]


def with_attributes(record: Record, attributes: Mapping[str, Attribute]) -> Record:
    """A record with attributes added or replaced.

    Args:
        record: any record.
        attributes: name to value.
    """
    return replace(record, attributes={**record.attributes, **attributes})
