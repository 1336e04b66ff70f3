"""What panels are made of: forest plots, axes and marks, painted by matplotlib in the page's colours.

A panel is 360 points wide, so that it fits a telephone; a figure of the page is a grid of panels.
:mod:`infra.report.svg` turns panels into SVG and into files for a paper.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.report.wording import clean, is_number, superscript

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

WIDTH = 360.0
RIGHT, TOP, BOTTOM = 14.0, 8.0, 40.0
NOTE = 68.0
SIZE = 11.0
CHARACTER = 5.8
"""Mean width of a character of row labels, in points: labels wrap before they leave their gutter."""

COLOURS: Mapping[str, str] = {
    "ink": "#1d1c1a",
    "ink-2": "#55514a",
    "ink-3": "#6b665e",
    "rule": "#e3dfd6",
    "rule-2": "#c9c4b9",
    "bg": "#fbfaf7",
    "accent": "#1d4f91",
    "pos-strong": "#1f66b0",
    "neg-strong": "#b35505",
    "d0": "#0b7a5b",
    "d1": "#8a4fa3",
    "d2": "#8f6a00",
    "d3": "#b0305f",
    "d4": "#3f6b8f",
}
"""Every colour a panel may use: the page's variable of that name, and its light value for files."""

MARKERS = ("o", "s", "D", "^", "v")
_FIXED_DOMAINS = {"math": 0, "code": 1}
TIP = "tip:"
"""Prefix of the ``gid`` of an artist that is a tooltip."""


@dataclass(frozen=True)
class Panel:
    """A small chart: ``paint`` draws on the axes it is given; ``height`` and the gutters are in points."""

    heading: str
    description: str
    paint: Callable[[Axes], None]
    height: float
    left: float = 48.0
    right: float = RIGHT
    top: float = TOP


@dataclass(frozen=True)
class Mark:
    """A point with its interval. ``colour`` is a name of :data:`COLOURS`; ``note`` stands on the right of a hollow one.

    ``shift`` moves it down within its row, in rows; ``small`` marks (single seeds) are thin.
    """

    value: float
    low: float | None
    high: float | None
    tip: str
    colour: str = "ink-2"
    marker: str = "o"
    filled: bool = True
    note: str = ""
    shift: float = 0.0
    small: bool = False


@dataclass(frozen=True)
class Row:
    """One labelled line of a forest plot; ``band`` is shaded on both sides of zero."""

    label: str
    marks: Sequence[Mark]
    strong: bool = False
    band: float | None = None


def colour(name: str) -> str:
    """The colour of that name as matplotlib wants it."""
    return COLOURS[name]


def domain_style(domain: str, domains: Sequence[str]) -> tuple[str, str]:
    """(colour name, marker) of a domain: math and code the same on every page, others in alphabetical order."""
    others = sorted(set(domains) - set(_FIXED_DOMAINS))
    k = _FIXED_DOMAINS.get(domain, 2 + others.index(domain) % 3 if domain in others else 4)
    return f"d{k}", MARKERS[k]


def forest(
    heading: str, description: str, rows: Sequence[Row], xlabel: str, *, row: float = 24.0, zero: bool = True
) -> Panel:
    """Points with intervals around a zero line, one row (``row`` points high) per label, notes on the right."""
    noted = any(m.note for r in rows for m in r.marks)
    longest = max((len(r.label) for r in rows), default=0)
    left = min(150.0, max(60.0, CHARACTER * longest + 14))

    def paint(ax: Axes) -> None:
        for i, line in enumerate(rows):
            _row_label(ax, i, line, left)
            if line.band is not None:
                ax.plot([-line.band, line.band], [i, i], color=colour("rule"), lw=9, solid_capstyle="butt", zorder=1)
            for mark in line.marks:
                _draw_mark(ax, i + mark.shift, mark)
        ends = [v for r in rows for m in r.marks for v in (m.low, m.high, m.value)]
        ends += [v for r in rows if r.band is not None for v in (-r.band, r.band)]
        limits(ax.set_xlim, [*ends, 0.0] if zero else ends)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        finish(ax, xlabel)
        if zero:
            ax.axvline(0, color=colour("ink-3"), lw=1, zorder=1)
        for i, line in enumerate(rows):
            for j, mark in enumerate(line.marks):
                _note(ax, i + mark.shift, mark)
                if mark.small and j:
                    continue
                tip = "; ".join(m.tip for m in line.marks) if mark.small or line.marks[-1].small else mark.tip
                reach = 0.5 if len(line.marks) == 1 or line.marks[-1].small else 0.5 / len(line.marks)
                ax.axhspan(i + mark.shift - reach, i + mark.shift + reach, fc="none", ec="none", gid=TIP + tip)

    height = row * max(1, len(rows)) + TOP + BOTTOM
    return Panel(heading, description, paint, height, left, NOTE if noted else RIGHT)


def _row_label(ax: Axes, y: float, row: Row, left: float) -> None:
    """The label in lines that end at the axes; a long name may break after its dots and colons."""
    loose = re.sub(r"([.:])(?=\w)", r"\1 ", clean(row.label))
    lines = textwrap.wrap(loose, max(8, int((left - 14) / CHARACTER)), break_on_hyphens=False) or [""]
    for k, line in enumerate(lines):
        ax.annotate(
            re.sub(r"([.:]) (?=\w)", r"\1", line),
            (0, y),
            (-8, 12 * ((len(lines) - 1) / 2 - k)),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            fontweight="bold" if row.strong else "normal",
            color=colour("ink" if row.strong else "ink-2"),
        )


def _draw_mark(ax: Axes, y: float, mark: Mark) -> None:
    if not is_number(mark.value):
        ax.annotate("no data", (0.02, y), xycoords=("axes fraction", "data"), va="center", color=colour("ink-3"))
        return
    tint = colour(mark.colour)
    if mark.low is not None and mark.high is not None and is_number(mark.low) and is_number(mark.high):
        ax.plot([mark.low, mark.high], [y, y], color=tint, lw=1.0 if mark.small else 1.8, solid_capstyle="butt")
    face = tint if mark.filled else colour("bg")
    ax.plot(
        [mark.value],
        [y],
        mark.marker,
        ms=4 if mark.small else 7,
        mfc=face,
        mec=tint,
        mew=1.3,
        zorder=2.5 if mark.small else 3,
    )


def _note(ax: Axes, y: float, mark: Mark) -> None:
    if mark.note:
        ax.annotate(
            mark.note,
            (1, y),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=SIZE - 1.5,
            color=colour("ink-3"),
        )


def limits(set_limits: Callable[[float, float], object], values: Sequence[float | None]) -> None:
    """Limits around the finite ``values`` with a margin; one value alone gets room on both sides."""
    finite = [float(v) for v in values if v is not None and is_number(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    set_limits(low - margin, high + margin)


def finish(ax: Axes, xlabel: str, ylabel: str = "", *, x_ticks: bool = True) -> None:
    """The style of every panel: round ticks with light grid lines, powers of ten in the axis label, no box."""
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_facecolor("none")
    ax.set_axisbelow(True)
    ax.tick_params(length=0, pad=4, labelcolor=colour("ink-3"), labelsize=SIZE - 0.5)
    power = _number_axis(ax.xaxis) if x_ticks else ""
    ax.set_xlabel(xlabel + power, labelpad=3, color=colour("ink-3"), fontsize=SIZE - 0.5)
    if ylabel:
        said = ylabel + _number_axis(ax.yaxis)
        ax.set_title(said, loc="left", x=-0.12, pad=6, color=colour("ink-3"), fontsize=SIZE - 0.5)
    else:
        ax.set_yticks([])


def _number_axis(axis: Axis) -> str:
    """Round ticks on ``axis``; returns ' (×10⁻³)' where its numbers are given in units of a power of ten."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    formatter = ScalarFormatter(useOffset=False, useMathText=False)
    formatter.set_powerlimits((-2, 4))
    axis.set_major_formatter(formatter)
    low, high = axis.get_view_interval()
    formatter.set_locs([v for v in axis.get_majorticklocs() if low <= v <= high])
    axis.get_offset_text().set_visible(False)
    axis.grid(True, color=colour("rule"), lw=0.8)
    exponent = int(formatter.orderOfMagnitude)
    return f" (×10{superscript(exponent)})" if exponent else ""


def tip(text: str) -> str:
    """The ``gid`` of an artist whose tooltip is ``text``."""
    return TIP + text


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """``places`` moved as little as needed to lie at least ``gap`` apart, within ``[low, high]`` where they fit."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    out = [0.0] * len(places)
    at = low - gap
    for i in order:
        at = out[i] = max(places[i], at + gap)
    at = max(high, low + gap * (len(places) - 1)) + gap
    for i in reversed(order):
        at = out[i] = min(out[i], at - gap)
    return out
