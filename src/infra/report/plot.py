"""The one drawing stack: panels painted by matplotlib, as SVG in the page's colours or as files for a paper.

A panel is 360 points wide, so that it fits a telephone; a figure of the page is a grid of panels. The page's content
policy allows no ``style`` attribute, so :func:`inline_svg` turns matplotlib's styles into presentation attributes, its
colours into the page's variables (light and dark follow by themselves) and the ids of marks into tooltips.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from infra.report.wording import is_number, superscript

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

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
_STYLE: Mapping[str, Any] = {
    "font.size": SIZE,
    "font.family": "sans-serif",
    "svg.hashsalt": "infra",
    "svg.fonttype": "none",
    "axes.formatter.use_mathtext": False,
    "text.parse_math": False,
}
_FIXED_DOMAINS = {"math": 0, "code": 1}
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_VARIABLES = {value: f"var(--{name})" for name, value in COLOURS.items()}
_TIP = "tip:"
_HEAD = 24.0


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
                ax.axhspan(i + mark.shift - reach, i + mark.shift + reach, fc="none", ec="none", gid=_TIP + tip)

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
    return _TIP + text


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


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    settings: Any = dict(_STYLE)
    with matplotlib.rc_context(settings):
        yield


def inline_svg(panel: Panel, prefix: str) -> str:
    """The panel as an SVG element of the page; ``prefix`` keeps its inner ids apart from other panels'."""
    with _style():
        figure = _canvas(WIDTH, panel.height)
        _paint(figure, panel, 0, panel.height)
        root = _tidy(_svg_text(figure), prefix, _VARIABLES)
    root.set("role", "img")
    root.set("aria-label", clean(panel.description))
    return ElementTree.tostring(root, encoding="unicode")


def sheet(panels: Sequence[Panel], columns: int = 3, caption: str = "", key: Sequence[tuple[str, str]] = ()) -> Figure:
    """Panels on one matplotlib figure for a paper, in ``columns``: headings above, the key and the caption below."""
    columns = max(1, min(columns, len(panels)))
    lines = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    width, heights = WIDTH * columns, [max(p.height for p in line) + _HEAD for line in lines]
    words = textwrap.wrap(caption, int(width / CHARACTER))
    foot = 16.0 * (len(words) + bool(key)) + 8
    with _style():
        top = sum(heights) + foot
        figure = _canvas(width, top)
        for line, tall in zip(lines, heights):
            for k, panel in enumerate(line):
                at = (WIDTH * k + 8) / width, (top - 6) / (sum(heights) + foot)
                figure.text(*at, clean(panel.heading), va="top", fontweight="bold", color=colour("ink"))
                _paint(figure, panel, WIDTH * k, top - _HEAD)
            top -= tall
        for i, (tint, text) in enumerate(key):
            at = 0.01 + i / len(key), (foot - 12) / (sum(heights) + foot)
            figure.text(*at, clean(text), fontweight="bold", color=colour(tint if tint in COLOURS else "ink-3"))
        figure.text(0.01, 4 / (sum(heights) + foot), "\n".join(words), va="bottom", color=colour("ink-2"))
    return figure


def _canvas(width: float, height: float) -> Figure:
    """An empty figure of that many points that belongs to no window."""
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(width / 72, height / 72))
    figure.patch.set_alpha(0)
    return figure


def _paint(figure: Figure, panel: Panel, left: float, top: float) -> None:
    """Paint a panel with its upper left corner at (``left``, ``top``), in points from the lower left."""
    width, height = (72 * size for size in figure.get_size_inches())
    inner = panel.height - panel.top - BOTTOM
    bottom = top - panel.top - inner
    across = WIDTH - panel.left - panel.right
    ax = figure.add_axes(((left + panel.left) / width, bottom / height, across / width, inner / height))
    panel.paint(ax)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's suffix without dates or random ids: the same bytes each time."""
    with _style():
        if path.suffix == ".svg":
            path.write_text(to_svg(figure), encoding="utf-8")
        else:
            dates = {"CreationDate": None, "ModDate": None} if path.suffix == ".pdf" else None
            figure.savefig(path, metadata=dates)


def to_svg(figure: Figure) -> str:
    """The figure as SVG text with the light colours, tooltips in place."""
    with _style():
        return ElementTree.tostring(_tidy(_svg_text(figure), "f", {}), encoding="unicode")


def _svg_text(figure: Figure) -> str:
    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # text stays text: the reader's fonts have it
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def clean(text: object) -> str:
    """Text that XML can hold: no control characters, no surrogates."""
    return "".join(
        c if c in "\t\n" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff") else "\ufffd"
        for c in str(text)
    )


def _tidy(text: str, prefix: str, colours: Mapping[str, str]) -> ElementTree.Element:
    """matplotlib's SVG without metadata, style attributes and idle ids, and with tooltips."""
    ElementTree.register_namespace("", _SVG[1:-1])
    root = ElementTree.fromstring(clean(text))
    for child in [c for c in root if c.tag == _SVG + "metadata" or c.find(_SVG + "style") is not None]:
        root.remove(child)
    width, height = root.get("viewBox", "0 0 1 1").split()[2:]
    root.set("width", width)
    root.set("height", height)
    root.attrib.pop("version", None)
    used = set(re.findall(r'(?:href="#|url\(#)([\w-]+)', text))
    for element in root.iter():
        _tidy_element(element, prefix, used, colours)
    return root


def _tidy_element(element: ElementTree.Element, prefix: str, used: set[str], colours: Mapping[str, str]) -> None:
    name = element.attrib.pop("id", "")
    if name.startswith(_TIP):
        element.set("class", "tipped")
        title = ElementTree.Element(_SVG + "title")
        title.text = name.removeprefix(_TIP)
        element.insert(0, title)
    elif name in used:
        element.set("id", f"{prefix}-{name}")
    for rule in filter(None, map(str.strip, element.attrib.pop("style", "").split(";"))):
        key, _, setting = (part.strip() for part in rule.partition(":"))
        if key != "font-family":
            element.set(key, colours.get(setting.lower(), setting))
    if link := element.attrib.pop(_LINK, None):
        element.set("href", f"#{prefix}-{link[1:]}")
    if clip := element.get("clip-path"):
        element.set("clip-path", clip.replace("url(#", f"url(#{prefix}-"))
    if element.get("transform", "").startswith("rotate(-0 "):
        element.attrib.pop("transform")
    for key in ("d", "x", "y", "transform"):
        if value := element.get(key):
            element.set(key, re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", " ".join(value.split())))
    if element.text is not None and not element.text.strip() and element.tag != _SVG + "text":
        element.text = None
    element.tail = None
