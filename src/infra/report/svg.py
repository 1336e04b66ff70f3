"""Small panels of SVG that follow the page's colours: axes, ticks, points with intervals, lines.

Styling is by class alone (the page's content policy allows no style attribute); every mark carries a
``<title>`` with its numbers. A panel is about 360 units wide so that it stays readable on a telephone, and
figures are grids of panels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from infra.report.wording import MINUS, superscript


def clean(text: object) -> str:
    """Text that XML can hold: no control characters, no surrogates."""
    return "".join(
        c if c in "\t\n" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff") else "�"
        for c in str(text)
    )


@dataclass(frozen=True)
class Axis:
    """A linear scale from data ``[low, high]`` to pixels ``[start, end]``, with ticks and a power-of-ten
    divisor.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    exponent: int = 0

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def label(self, tick: float) -> str:
        """The tick as text, in units of ``10**exponent``."""
        scaled = tick / 10.0**self.exponent
        step = (self.ticks[1] - self.ticks[0]) / 10.0**self.exponent if len(self.ticks) > 1 else 1.0
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return (MINUS if scaled < -1e-12 else "") + f"{abs(scaled):.{digits}f}"

    @property
    def unit(self) -> str:
        """'' or ' (×10⁻³)', to append to the axis title."""
        return f" (×10{superscript(self.exponent)})" if self.exponent else ""


def axis(values: Sequence[float], start: float, end: float, *, n: int = 5, zero: bool = False) -> Axis:
    """An axis that covers ``values`` (and zero when asked) with about ``n`` round ticks."""
    finite = [float(v) for v in values if math.isfinite(float(v))] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-300:
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    margin = 0.05 * (high - low)
    low, high = low - margin, high + margin
    raw = (high - low) / n
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first = math.ceil(low / step)
    ticks = tuple(i * step for i in range(first, math.floor(high / step) + 1))
    top = max(abs(low), abs(high))
    exponent = math.floor(math.log10(top))
    return Axis(low, high, start, end, ticks, 0 if -2 <= exponent <= 3 else exponent)


@dataclass
class Panel:
    """An SVG under construction, ``width`` by ``height`` units."""

    width: float
    height: float
    label: str
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, cls: str) -> None:
        """A straight line."""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"/>')

    def path(self, points: Sequence[tuple[float, float]], cls: str) -> None:
        """A polyline through ``points``."""
        d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="{d}" class="{cls}"/>')

    def dot(self, x: float, y: float, r: float, cls: str) -> None:
        """A circle."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" class="{cls}"/>')

    def cloud(self, points: Sequence[tuple[float, float]], cls: str) -> None:
        """Many marks as one path of strokes without length; ``cls`` gives their shape and colour."""
        d = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
        self.parts.append(f'<path d="{d}" class="{cls}"/>')

    def text(self, x: float, y: float, text: object, cls: str = "", anchor: str = "start", limit: int = 0) -> None:
        """A label, cut to ``limit`` characters with the whole in its title."""
        whole = clean(text)
        shown = whole if not limit or len(whole) <= limit else whole[: limit - 1] + "…"
        title = f"<title>{escape(whole)}</title>" if shown != whole else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{cls}" text-anchor="{anchor}">{title}{escape(shown)}</text>'
        )

    @contextmanager
    def titled(self, title: str) -> Iterator[None]:
        """A group of marks with a tooltip and a wide invisible target."""
        self.parts.append(f'<g class="mark"><title>{escape(clean(title))}</title>')
        yield
        self.parts.append("</g>")

    def hit(self, x: float, y: float, w: float, h: float) -> None:
        """An invisible rectangle that makes a mark easy to point at."""
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 0):.1f}" height="{h:.1f}" class="hit"/>')

    def x_axis(self, scale: Axis, y: float, title: str, top: float) -> None:
        """Ticks with grid lines up to ``top``, and the axis title below."""
        for tick in scale.ticks:
            self.line(scale(tick), top, scale(tick), y, "zero" if abs(tick) < 1e-12 else "grid")
            self.text(scale(tick), y + 14, scale.label(tick), "tick", "middle")
        self.text((scale.start + scale.end) / 2, y + 30, title + scale.unit, "axis", "middle")

    def y_axis(self, scale: Axis, x: float, title: str, right: float) -> None:
        """Ticks with grid lines to ``right``, and the axis title above the top tick."""
        for tick in scale.ticks:
            self.line(x, scale(tick), right, scale(tick), "zero" if abs(tick) < 1e-12 else "grid")
            self.text(x - 6, scale(tick) + 4, scale.label(tick), "tick", "end")
        self.text(x - 34, scale.end - 9, title + scale.unit, "axis")

    def render(self) -> str:
        """The SVG source."""
        return (
            f'<svg viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
            f'width="{self.width:.0f}" height="{self.height:.0f}" '
            f'role="img" aria-label={quoteattr(clean(self.label))}>' + "".join(self.parts) + "</svg>"
        )
