"""Whether two targets want the same training examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from infra.report import plot
from infra.report.data import ReportData, domains, table
from infra.report.plot import Panel
from infra.report.section import Figure, Section, Table
from infra.report.wording import count, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 3000
_REACH = (0.002, 0.998)


def _figures(data: ReportData) -> Iterable[Figure]:
    """Influence of each training example on one target against another, a panel per pair of whole targets."""
    scores, pairs = data.scores, table(data, "agreement")
    if scores is None or pairs is None:
        return
    shown = scores if len(scores) <= MOST_POINTS else scores.sample(MOST_POINTS, random_state=0)
    names, of_all = domains(data), scores["domain"].astype(str).value_counts()
    panels = [
        _panel(pair, shown, names)
        for _, pair in pairs.iterrows()
        if {f"score_{pair['a']}", f"score_{pair['b']}"} <= set(scores.columns)
    ]
    if panels:
        drawn = "" if len(shown) == len(scores) else f" {count(len(shown))} of {count(len(scores))} examples are drawn."
        yield Figure(
            "targets",
            panels,
            "A mark per training example. ρ is Spearman's rank correlation, with its 95% interval over examples; marks "
            f"beyond the 99.6% range lie on the edge.{drawn}",
            key=[(plot.domain_style(d, names)[0], f"{d} data (n = {count(of_all[d])})") for d in names if d in of_all],
        )


def _panel(pair: pd.Series, shown: pd.DataFrame, names: list[str]) -> Panel:
    x, y = (shown[f"score_{pair[side]}"] for side in "ab")
    limits = [(float(v.quantile(_REACH[0])), float(v.quantile(_REACH[1]))) for v in (x, y)]
    x, y = (v.clip(*ends) for v, ends in zip((x, y), limits))

    def paint(ax: Axes) -> None:
        plot.limits(ax.set_xlim, [*limits[0], 0.0])
        plot.limits(ax.set_ylim, [*limits[1], 0.0])
        plot.finish(ax, f"influence on {pair['a']}", f"influence on {pair['b']}")
        ax.axhline(0, color=plot.colour("ink-3"), lw=1, zorder=1)
        ax.axvline(0, color=plot.colour("ink-3"), lw=1, zorder=1)
        for domain in names:
            mine = shown["domain"].astype(str) == domain
            tint, marker = plot.domain_style(domain, names)
            ax.plot(x[mine], y[mine], marker, color=plot.colour(tint), ms=3, mew=0, alpha=0.55, ls="")

    rho = f"ρ = {number(pair['rho'], 2)} [{number(pair['low'], 2)}, {number(pair['high'], 2)}]"
    heading = f"{pair['a']} and {pair['b']} · {rho} · n = {count(pair['n'])}"
    return Panel(
        heading, f"Influence of each example on {pair['a']} and on {pair['b']}", paint, 306, 56, top=plot.TOP + 16
    )


SECTION = Section(
    "agreement",
    "Do the skills want the same data",
    "Each training example's influence on one target against another: along the rising diagonal, an example that helps "
    "one helps the other.",
    (Table("agreement", "Agreement between targets", "a b rho low high n"),),
    _figures,
)
