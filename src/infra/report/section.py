"""What one section of the page is: its tables, its figures, its sentences and its warnings, in one object.

A section is one file of :mod:`infra.report.sections`. The page, the terminal and the notebook loop over sections and
know none of them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from infra.report.data import ReportData
from infra.report.plot import Panel

ALPHA = 0.05
"""A difference is called found below this corrected p or false-discovery rate."""


@dataclass(frozen=True)
class Table:
    """A table of the report: what it must hold and how it is shown.

    Args:
        name: its key in ``ReportData.tables`` and the name of its CSV.
        title: the heading.
        columns: the columns it must have, in the order shown, separated by spaces. Further columns follow them.
        optional: those of ``columns`` that may be missing.
        filters: the columns with a menu of their values.
        labels: headings of columns where the general one of :mod:`infra.report.tablespec` does not fit.
        percent: columns of fractions printed as percentages.
        points: columns of fractions printed as percentage points.
        limit: rows shown before 'Show all'.
    """

    name: str
    title: str = ""
    columns: str = ""
    optional: str = ""
    filters: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    percent: str = ""
    points: str = ""
    limit: int = 6


@dataclass(frozen=True)
class Figure:
    """Panels under one caption.

    ``name`` is the file name when it is saved for a paper. ``heading`` stands above the panels. ``variant`` is the
    value of the section's switch (a form of the effects) under which it is shown; '' is always shown. ``key`` explains
    the marks: (class of the colour, text) pairs.
    """

    name: str
    panels: Sequence[Panel]
    caption: str
    heading: str = ""
    variant: str = ""
    key: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Sentence:
    """One statement of the answer, filled in from a row of a table.

    ``verdict`` is the chip beside it, ``tone`` one of up, down, open (undecided) and plain. A sentence that names its
    ``target`` may stand for that target on the first screen; one that is ``first`` always stands there.
    """

    topic: str
    text: str
    verdict: str
    tone: str
    target: str = ""
    first: bool = False


def _nothing(data: ReportData) -> tuple[()]:
    return ()


@dataclass(frozen=True)
class Section:
    """One idea of the page. Every function gets the whole :class:`ReportData` and yields nothing where it has no say.

    Args:
        id: anchor of the section.
        title: the heading, also in the contents.
        intro: one or two sentences that define every word used below.
        tables: the tables it owns. Where there is a figure they lie folded under it.
        figures: the figures it can draw.
        answer: sentences for 'The answer'.
        trust: (measure, sentence) pairs for 'How far to trust it'.
        caveats: sentences for 'Before you conclude'.
        prepare: tables as they are shown, where columns are added to the given ones.
    """

    id: str
    title: str
    intro: str = ""
    tables: tuple[Table, ...] = ()
    figures: Callable[[ReportData], Iterable[Figure]] = _nothing
    answer: Callable[[ReportData], Iterable[Sentence]] = _nothing
    trust: Callable[[ReportData], Iterable[tuple[str, str]]] = _nothing
    caveats: Callable[[ReportData], Iterable[str]] = _nothing
    prepare: Callable[[ReportData], Mapping[str, pd.DataFrame]] = lambda data: {}
