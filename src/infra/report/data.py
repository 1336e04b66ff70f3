"""What a report is made of: tables, token views and the content of ``results.json``, checked at the border.

Units everywhere: accuracies and their differences are fractions in ``[0, 1]`` (the page prints points),
influence is in nats of f per unit of weight, positive = helpful.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.data import is_whole
from infra.errors import InputError


@dataclass(frozen=True)
class ExampleView:
    """One training example with the influence of each of its ``T`` tokens.

    ``text``: the rendered conversation. ``token_offsets``: int ``[T, 2]`` code-point offsets into it.
    ``loss_mask``: bool ``[T]``. ``scores``: per decomposition (``loss``, ``position``) float32 ``[K, T]``,
    one row per name in ``targets``. ``steps``: token ranges ``(t0, t1, labels)`` with their behaviours.
    ``example_scores``: float32 ``[K]``, by default the token sums of the first decomposition.
    ``token_classes``: one name per token, or none. ``preview``: the problem in a line; without one it is looked for
    in the prompt.
    """

    id: str
    attributes: Mapping[str, Any]
    text: str
    token_offsets: NDArray[Any]
    loss_mask: NDArray[np.bool_]
    scores: Mapping[str, NDArray[np.float32]]
    targets: Sequence[str]
    steps: Sequence[tuple[int, int, Sequence[str]]] = ()
    example_scores: NDArray[np.float32] | None = None
    token_classes: Sequence[str] | None = None
    preview: str = ""

    def totals(self) -> NDArray[np.float32]:
        """``[K]``: ``example_scores``, or the token sums of the first decomposition."""
        if self.example_scores is not None:
            return np.asarray(self.example_scores, dtype=np.float32)
        first = next(iter(self.scores.values()), np.zeros((len(self.targets), 0), np.float32))
        return np.asarray(first, dtype=np.float64).sum(axis=1).astype(np.float32)


@dataclass(frozen=True)
class ReportData:
    """Everything one page shows.

    ``results`` is the content of ``results.json``. The page reads these keys where they exist and lists the
    rest: ``question`` (str), ``model`` (name, hash, parameters), ``settings`` (the resolved recipe),
    ``versions``, ``leaks`` (dropped overlaps: a list or a mapping), ``seeds``, ``counts`` (train, pool, ...).
    ``tables``: see :data:`infra.report.TABLE_COLUMNS`; what is missing is left out. ``figures``: SVG source by caption.
    ``notes``: sentences for the honesty box. ``scores``: one row per training example with ``domain`` and a column
    ``score_<target>`` each, for the scatter of targets against each other.
    """

    title: str
    quick: bool = False
    notes: Sequence[str] = ()
    results: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    examples: Sequence[ExampleView] = ()
    scores: pd.DataFrame | None = None


def table(data: ReportData, name: str) -> pd.DataFrame | None:
    """A table of ``data``, or None when it is absent or has no row."""
    found = data.tables.get(name)
    return None if found is None or len(found) == 0 else found


def domains(data: ReportData) -> list[str]:
    """Every domain that the scores and tables name, sorted: what colours are given out over."""
    frames = [f for f in (data.scores, *data.tables.values()) if f is not None and "domain" in f.columns]
    return sorted({str(d) for frame in frames for d in frame["domain"].dropna().unique()} - {"all"})


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of whole targets (``math``) where there are any, else all (parts: ``math:3``)."""
    found = frame[frame["target"].astype(str).map(is_whole)]
    return found if len(found) else frame


def check_example(view: ExampleView) -> None:
    """Raise :class:`InputError` naming the example whose arrays do not fit each other."""
    n, k = len(view.token_offsets), len(view.targets)
    if np.shape(view.token_offsets) != (n, 2) or len(view.loss_mask) != n:
        raise InputError(
            f"example {view.id}: token_offsets has shape {np.shape(view.token_offsets)} and loss_mask "
            f"{np.shape(view.loss_mask)}; give [T, 2] and [T]"
        )
    for name, scores in view.scores.items():
        if np.shape(scores) != (k, n):
            raise InputError(
                f"example {view.id}: '{name}' scores have shape {np.shape(scores)}; give [targets, tokens] = [{k}, {n}]"
            )
        if not np.isfinite(scores).all():
            raise InputError(
                f"example {view.id}: '{name}' scores hold a value that is not finite; score the example "
                f"again, or "
                "leave it out of the report"
            )
    if view.token_classes is not None and len(view.token_classes) != n:
        raise InputError(f"example {view.id}: {len(view.token_classes)} token classes for {n} tokens; give one each")
    for start, end, _ in view.steps:
        if not 0 <= start <= end <= n:
            raise InputError(f"example {view.id}: step [{start}, {end}) lies outside its {n} tokens")
