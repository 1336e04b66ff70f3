"""Figures draw what the tables say, as vector text, the same bytes twice."""

import re

import numpy as np
import pandas as pd

from infra.analysis import accuracy_table, arm_contrasts, effects
from infra.analysis.figures import (
    accuracy_by_arm,
    accuracy_slope,
    contrast_forest,
    effects_by_value,
    predicted_against_measured,
    target_scatter,
    to_svg,
)
from tests.analysis.made import made
from tests.analysis.test_arms import made as made_rows


def texts(svg):
    return " ".join(re.findall(r"<text[^>]*>(.*?)</text>", svg, flags=re.S))


def panels(figure):
    return [ax for ax in figure.axes if ax.get_visible()]


def test_effects_show_every_value_with_its_n_and_interval():
    table = effects(*made(n=400), n_boot=20)
    figure = effects_by_value(table, form="raw")
    assert [ax.get_title(loc="left") for ax in panels(figure)] == ["target: math", "target: code"]
    here = table[(table.target == "math") & (table.form == "raw")]
    drawn = [line for line in panels(figure)[0].lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.4]
    assert sorted(round(float(line.get_ydata()[1]), 9) for line in drawn) == sorted(here.high.round(9))
    words = texts(to_svg(figure))
    assert all(f"n {n}" in words for n in here.groupby("value").n.sum())
    assert "influence per example" in words and "q at most 0.05" in words


def test_forest_orders_contrasts_and_states_problems_and_seeds():
    table = arm_contrasts(made_rows(n_problems=40))
    words = texts(to_svg(contrast_forest(table)))
    assert "math: flip - same-difficulty-swap" in words and "40 problems, 3 seeds" in words
    assert "points" in words and "95% interval" in words


def test_accuracy_and_slope_have_a_panel_a_task():
    rows = made_rows(n_problems=40)
    figure = accuracy_by_arm(accuracy_table(rows))
    assert [ax.get_title(loc="left") for ax in panels(figure)] == ["math (n = 40 problems)", "code (n = 40 problems)"]
    assert len(panels(accuracy_slope(accuracy_table(rows, ["difficulty"])))) == 2


def test_predictions_without_measurements_are_left_out_and_scatter_gives_rho():
    table = pd.DataFrame(
        {
            "arm": ["flip", "random-swap"],
            "target": "math",
            "predicted": [1.0, 2.0],
            "measured_f": [0.5, np.nan],
            "f_low": [0.1, np.nan],
            "f_high": [0.9, np.nan],
        }
    )
    assert "n = 1 swaps" in texts(to_svg(predicted_against_measured(table)))
    examples, scores, _ = made(n=60)
    assert "Spearman rho" in texts(to_svg(target_scatter(examples, scores[:, 0], scores[:, 1], ("math", "code"))))


def test_an_empty_table_still_makes_a_figure():
    assert to_svg(effects_by_value(effects(*made(n=60), n_boot=5), attribute="nothing")).startswith("<?xml")


def test_the_same_table_gives_the_same_bytes_and_nothing_from_outside():
    table = effects(*made(n=200), n_boot=10)
    first, second = (to_svg(effects_by_value(table)) for _ in range(2))
    assert first == second
    assert 'href="http' not in first and "<image" not in first
