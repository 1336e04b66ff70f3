"""Figures draw what the tables say: marks at their values, ticks that are true, labels that can be read."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.analysis import accuracy_table, arm_contrasts, effects
from infra.report import ReportData
from infra.report.plot import Mark, Row, domain_style, forest, spread
from infra.report.sections import SECTIONS
from infra.report.sections.effects import why_hollow
from infra.report.svg import inline_svg, sheet, to_svg
from infra.report.wording import number
from tests.analysis.made import made
from tests.analysis.test_arms import made as made_rows

from . import synthetic

SVG = "{http://www.w3.org/2000/svg}"


def figures(data, section):
    return list(next(s for s in SECTIONS if s.id == section).figures(data))


def drawn(panel) -> ElementTree.Element:
    return ElementTree.fromstring(inline_svg(panel, "x"))


def texts(root) -> list[str]:
    return ["".join(e.itertext()) for e in root.iter(SVG + "text")]


def x_axis(root) -> tuple[dict[float, float], int]:
    """Labels of the x axis as numbers -> their place, and the power of ten that the axis title gives."""
    power = next((m for t in texts(root) if (m := re.search(r"×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)\)", t))), None)
    digits = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    found: dict[float, list] = {}
    for element in root.iter(SVG + "text"):
        text = "".join(element.itertext()).replace("−", "-")
        if element.get("text-anchor") == "middle" and re.fullmatch(r"-?\d+(\.\d+)?", text):
            found.setdefault(float(element.get("y")), []).append((float(text), float(element.get("x"))))
    return dict(max(found.values(), key=len)), int(power[1].translate(digits)) if power else 0


@given(
    st.lists(
        st.floats(-1e9, 1e9, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 1e-9), min_size=2, max_size=6
    )
)
@settings(max_examples=40, deadline=None)
def test_tick_labels_say_where_they_stand(values):
    """Every tick, read as a reader would (label times the axis' power of ten), lies on one line with the marks."""
    rows = [Row(f"r{i}", [Mark(v, None, None, "")]) for i, v in enumerate(values)]
    root = drawn(forest("h", "d", rows, "value"))
    ticks, power = x_axis(root)
    assert 2 <= len(ticks) <= 8
    read = np.array(list(ticks)) * 10.0**power
    places = np.array(list(ticks.values()))
    slope, start = np.polyfit(read / np.abs(read).max(), places, 1)
    marks = sorted(float(e.get("x")) for e in root.iter(SVG + "use") if e.get("stroke") == "var(--ink-2)")
    expected = sorted(start + slope * np.array(values) / np.abs(read).max())
    np.testing.assert_allclose(marks, expected, atol=0.3)


def axes(root) -> list[tuple[list[float], list[float]]]:
    """Of every axis of numbers the labels as a reader reads them, and their places along the axis."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for element in root.iter(SVG + "text"):
        text = "".join(element.itertext()).replace("−", "-").strip()
        if re.fullmatch(r"-?\d+(\.\d+)?", text):
            across, anchor = ("x", "y"), element.get("text-anchor")
            way, line = across if anchor == "middle" else across[::-1]
            found.setdefault((way, element.get(line)), []).append((float(element.get(way)), float(text)))
    return [([v for _, v in sorted(f)], [at for at, _ in sorted(f)]) for f in found.values() if len(f) > 1]


@pytest.mark.parametrize("section", [s.id for s in SECTIONS])
def test_ticks_of_every_axis_are_evenly_spaced_numbers_at_even_places(section):
    """A panel of each figure with its own data: label differences are one number, and so are the gaps between them."""
    seen = 0
    for figure in figures(synthetic.report(), section):
        for panel in figure.panels[:: max(1, len(figure.panels) - 1)]:
            for labels, places in axes(drawn(panel)):
                seen += 1
                steps, gaps = np.diff(labels), np.diff(places)
                np.testing.assert_allclose(steps, steps[0], rtol=1e-6, err_msg=f"{panel.heading}: {labels}")
                np.testing.assert_allclose(gaps, gaps[0], atol=0.06, err_msg=f"{panel.heading}: {labels}")
    assert seen or not figures(synthetic.report(), section)


def test_no_label_of_an_axis_is_rounded_away_from_its_place():
    """The old faults: '-2 0 2 5 8' for steps of 2.5, and one label twice."""
    for low, high in ((-2.5, 7.5), (0, 0.0125), (-1e-5, 2e-5), (0.97, 1.03), (-3e6, 7e6), (12.2, 13.1)):
        root = drawn(forest("h", "d", [Row("r", [Mark((low + high) / 2, low, high, "")])], "value", zero=False))
        labels = sorted(x_axis(root)[0])
        assert len(set(labels)) == len(labels) >= 3
        np.testing.assert_allclose(np.diff(labels), labels[1] - labels[0], rtol=1e-6)


def test_effect_marks_stand_at_their_values_with_interval_and_n():
    table = effects(*made(n=400), n_boot=20)
    data = ReportData("t", tables={"effects": table})
    for figure in figures(data, "effects"):
        rows = table[table["form"] == figure.variant]
        for panel, (_, mine) in zip(figure.panels, rows.groupby("target", sort=False)):
            tips = synthetic.tips(panel)
            assert len(tips) == len(mine)
            for _, row in mine.iterrows():
                said = f"{number(row['effect'])} [{number(row['low'])}, {number(row['high'])}], n = {int(row['n'])}"
                assert any(said in t for t in tips), said


def test_a_hollow_mark_says_why_on_the_spot():
    data = synthetic.report()
    effect = data.tables["effects"]
    figure = figures(data, "effects")[0]
    rows = effect[(effect["form"] == figure.variant) & (effect["attribute"] == "difficulty")]
    for panel, (_, mine) in zip(figure.panels, rows.groupby("target", sort=False)):
        root = drawn(panel)
        hollow = [e for e in root.iter(SVG + "use") if e.get("fill") == "var(--bg)"]
        reasons = [w for _, row in mine.iterrows() if (w := why_hollow(row))]
        assert len(hollow) == len(reasons) > 0
        assert sorted(t for t in texts(root) if re.match(r"q |too few", t)) == sorted(reasons)
    known = {"status": "undecided", "q": None, "note": "overlap n 12 is under 30"}
    assert why_hollow(pd.Series(known)) == "n 12 < 30"


def test_domains_keep_their_colour_whatever_else_is_in_the_run():
    assert domain_style("math", ["math"]) == domain_style("math", ["art", "code", "math"])
    assert domain_style("code", ["code"]) == domain_style("code", ["code", "math", "zoo"])
    assert (
        len({domain_style(d, ["art", "code", "law", "math", "zoo"]) for d in ("art", "code", "law", "math", "zoo")})
        == 5
    )


@given(st.lists(st.floats(0, 100), min_size=1, max_size=7))
def test_labels_in_the_margin_keep_apart_and_in_order(places):
    out = spread(places, 13, 0, 100)
    assert all(b - a >= 13 - 1e-9 for a, b in zip(sorted(out), sorted(out)[1:]))
    assert min(out) >= -1e-9 and max(out) <= 100 + 1e-9
    assert [out[i] for i in sorted(range(len(places)), key=lambda i: places[i])] == sorted(out)


def test_labels_of_predicted_and_measured_do_not_overlap():
    names = [f"training-set-{i}" for i in range(9)]
    rows = [dict(arm=n, target="math", predicted=1.0, measured_f=0.5, f_low=0.1, f_high=0.9) for n in names]
    frame = pd.DataFrame(rows).assign(measured_accuracy=0.0, acc_low=0.0, acc_high=0.0)
    (figure,) = figures(ReportData("t", tables={"arms": frame}), "predicted")
    placed = [e for e in drawn(figure.panels[0]).iter(SVG + "text") if "".join(e.itertext()) in names]
    heights = sorted(float(e.get("y")) for e in placed)
    assert len(placed) == 9 and np.diff(heights).min() > 10


def test_predictions_without_measurements_are_left_out():
    table = synthetic.tables(np.random.default_rng(0))["arms"]
    table = table[table["target"] == "math"].copy()
    table.loc[table.index[1:], "measured_f"] = np.nan
    (figure,) = figures(ReportData("t", tables={"arms": table}), "predicted")
    assert figure.panels[0].heading == "Target math · 1 training set"
    assert figures(ReportData("t", tables={"arms": table.iloc[1:]}), "predicted") == []


def test_contrasts_state_problems_seeds_and_what_could_be_detected():
    table = arm_contrasts(made_rows(n_problems=40))
    (figure,) = figures(ReportData("t", tables={"contrasts": table}), "arms")
    assert [p.heading for p in figure.panels] == ["math · 40 problems, 3 seeds", "code · 40 problems, 3 seeds"]
    root = drawn(figure.panels[0])
    assert any("points" in t for t in texts(root)) and "Grey band" in figure.caption
    primary = [e for e in root.iter(SVG + "text") if e.get("font-weight") == "700" or "bold" in (e.get("font") or "")]
    assert "".join("".join(e.itertext()) for e in primary).replace(" ", "") == "flipminussame-difficultyswap"


def test_accuracy_and_slope_have_a_panel_a_task():
    rows = made_rows(n_problems=40)
    tables = {"accuracy": accuracy_table(rows).assign(split="held-out"), "slope": accuracy_table(rows, ["difficulty"])}
    (accuracy,) = figures(ReportData("t", tables=tables), "accuracy")
    assert [p.heading for p in accuracy.panels] == [f"{t} · held-out · n = 40 problems" for t in ("math", "code")]
    (slope,) = figures(ReportData("t", tables=tables), "slope")
    assert len(slope.panels) == 2


def test_targets_against_each_other_mark_every_example_and_give_rho():
    (figure,) = figures(synthetic.report(), "agreement")
    marks = [e.get("fill") for e in drawn(figure.panels[0]).iter(SVG + "use")]
    assert (marks.count("var(--d0)"), marks.count("var(--d1)")) == (200, 200)
    assert "ρ = 0.40" in figure.panels[0].heading and "n = 3\u2009000" in figure.panels[0].heading


def test_every_figure_is_well_formed_and_safe():
    data = synthetic.report()
    hostile = data.tables["accuracy"].assign(task="</svg><script>x</script>\x00", arm="<b>\x07$x^2$")
    data = replace(data, tables={**data.tables, "accuracy": hostile})
    for section in ("accuracy", "slope", "arms", "predicted", "effects"):
        for figure in figures(data, section):
            for panel in figure.panels[:1]:
                root = drawn(panel)
                assert root.get("role") == "img" and root.get("aria-label")
                tags = {e.tag.removeprefix(SVG) for e in root.iter()}
                assert not tags & {"script", "style", "image", "foreignObject"}
                assert not [e for e in root.iter() if "style" in e.attrib]
                assert not [v for e in root.iter() for k, v in e.attrib.items() if "http" in v]


def test_colours_of_the_page_are_its_variables_and_nothing_else():
    data = synthetic.report()
    for section in ("accuracy", "slope", "arms", "predicted", "effects", "agreement"):
        svg = inline_svg(figures(data, section)[0].panels[0], "x")
        assert set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]+)"', svg)) <= {"#000000"}, section


@pytest.mark.parametrize("name", ["effects", "arms", "slope"])
def test_the_same_table_gives_the_same_bytes_and_nothing_from_outside(name):
    data = synthetic.report()
    first, second = (to_svg(sheet(figures(data, name)[0].panels)) for _ in range(2))
    assert first == second
    assert 'href="http' not in first and "<image" not in first


def test_an_empty_table_makes_no_figure():
    empty = effects(*made(n=60), n_boot=5).iloc[:0]
    assert figures(ReportData("t", tables={"effects": empty}), "effects") == []


def test_lds_stands_best_first_with_its_ceiling():
    rows = [("math", m, "seed_mean", "half", v, v - 0.1, v + 0.1, 0.8) for m, v in (("random", 0.0), ("ekfac", 0.4))]
    columns = ["target", "method", "protocol", "kind", "value", "low", "high", "ceiling"]
    table = pd.DataFrame(rows, columns=columns).assign(ratio=0.5, n_subsets=100, n_seeds=3)
    (figure,) = figures(ReportData("t", tables={"validation_lds": table}), "validation")
    assert figure.panels[0].heading == "math · half, seed mean · ceiling 0.80"
    assert synthetic.tips(figure.panels[0]) == ["ekfac: 0.40 [0.30, 0.50]", "random: 0 [−0.10, 0.10]"]
