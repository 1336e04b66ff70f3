"""Panels as SVG of the page, and as figures for a paper.

The page's content policy allows no ``style`` attribute, so :func:`inline_svg` turns matplotlib's styles into
presentation attributes, its colours into the page's variables (light and dark follow by themselves) and the ids of
marks into tooltips.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from infra.report.plot import BOTTOM, CHARACTER, COLOURS, SIZE, TIP, WIDTH, Panel, colour
from infra.report.wording import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = 24.0
_STYLE: Mapping[str, Any] = {
    "font.size": SIZE,
    "font.family": "sans-serif",
    "svg.hashsalt": "infra",
    "svg.fonttype": "none",
    "axes.formatter.use_mathtext": False,
    "text.parse_math": False,
}
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
VARIABLES = {value: f"var(--{name})" for name, value in COLOURS.items()}


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
        root = _tidy(_svg_text(figure), prefix, VARIABLES)
    root.set("role", "img")
    root.set("aria-label", clean(panel.description))
    return ElementTree.tostring(root, encoding="unicode")


def sheet(panels: Sequence[Panel], columns: int = 3, caption: str = "", key: Sequence[tuple[str, str]] = ()) -> Figure:
    """Panels on one matplotlib figure for a paper, in ``columns``: headings above, the key and the caption below."""
    columns = max(1, min(columns, len(panels)))
    lines = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    width, heights = WIDTH * columns, [max(p.height for p in line) + HEAD for line in lines]
    words = textwrap.wrap(caption, int(width / CHARACTER))
    foot = 16.0 * (len(words) + bool(key)) + 8
    with _style():
        top = sum(heights) + foot
        figure = _canvas(width, top)
        for line, tall in zip(lines, heights):
            for k, panel in enumerate(line):
                at = (WIDTH * k + 8) / width, (top - 6) / (sum(heights) + foot)
                figure.text(*at, clean(panel.heading), va="top", fontweight="bold", color=colour("ink"))
                _paint(figure, panel, WIDTH * k, top - HEAD)
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
    if name.startswith(TIP):
        element.set("class", "tipped")
        title = ElementTree.Element(_SVG + "title")
        title.text = name.removeprefix(TIP)
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
