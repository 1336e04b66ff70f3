"""The parts of the page without a browser: encoding, sentences, honesty, figures, what is refused."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import InputError
from infra.report import TABLE_COLUMNS, ExampleView, ReportData, render_report
from infra.report.encode import (
    boundaries,
    dequantise,
    displayable,
    encode_example,
    plain,
    quantise,
    utf16_offsets,
)
from infra.report.figures import (
    accuracy_figure,
    arms_figure,
    contrast_figure,
    effect_figures,
    slope_figure,
)
from infra.report.honesty import caveats
from infra.report.page import embed_json, pack_examples, shared_scales
from infra.report.sentences import answer
from infra.report.svg import axis
from infra.report.wording import listing, number, percent, points, signed

from . import synthetic


def unpack(blob: bytes) -> tuple[dict, bytes, bytes]:
    """Header, rest of the head and scores of a blob, read from its documented layout alone."""
    (first,) = struct.unpack_from("<I", blob)
    head, body = zlib.decompress(blob[4 : 4 + first]), zlib.decompress(blob[8 + first :])
    (size,) = struct.unpack_from("<I", head)
    return json.loads(head[4 : 4 + size]), head[4 + size :], body


def test_blob_keeps_text_boundaries_and_exact_scores():
    view = synthetic.example(3, np.random.default_rng(1))
    header, rest, body = unpack(encode_example(view, None))
    text = rest[: header["text"]].decode()
    n = header["n"]
    gaps = np.frombuffer(rest, "<u2", n, header["text"]).astype(int)
    lengths = np.frombuffer(rest, "<u2", n, header["text"] + 2 * n).astype(int)
    ends = np.cumsum(gaps + lengths)
    assert text == view.text
    assert [text[e - w : e] for e, w in zip(ends, lengths)] == [view.text[a:b] for a, b in view.token_offsets]
    stored = np.frombuffer(body, "<f4").reshape(2, len(view.targets), n)
    np.testing.assert_array_equal(stored[0], view.scores["loss"])
    np.testing.assert_array_equal(stored[1], view.scores["position"])


@given(st.integers(0, 2**32 - 1), st.sampled_from([15, 31, 63, 127]))
@settings(max_examples=40, deadline=None)
def test_int8_error_is_within_the_stated_bound(seed, levels):
    rng = np.random.default_rng(seed)
    scores = (rng.standard_t(2, size=(3, 50)) * 10.0 ** rng.integers(-8, 3)).astype(np.float32)
    q, top = quantise(scores, levels)
    error = np.abs(dequantise(q, top, levels) - scores)
    assert (error <= 1.0001 * top[:, None] / levels).all()
    small = np.abs(scores) <= top[:, None] / (4 * levels**2)
    assert (error[small] <= np.broadcast_to(top[:, None] / (4 * levels**2), error.shape)[small]).all()


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_utf16_offsets_cut_the_same_pieces(text):
    text = displayable(text)
    offsets = np.array([[i, i + 1] for i in range(len(text))], dtype=np.int64).reshape(-1, 2)
    units = text.encode("utf-16-le")
    cut = [units[2 * a : 2 * b].decode("utf-16-le") for a, b in utf16_offsets(text, offsets)]
    assert cut == list(text)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12))
def test_boundaries_are_monotone_and_cover_no_character_twice(pairs):
    gaps, lengths = boundaries(np.array(pairs, dtype=np.int64).reshape(-1, 2))
    assert (gaps >= 0).all() and (lengths >= 0).all()
    assert (gaps + lengths).sum() <= 30


def test_tokens_that_share_an_emoji_get_it_once():
    gaps, lengths = boundaries(np.array([[0, 1], [1, 3], [1, 3], [3, 4]]))
    assert gaps.tolist() == [0, 0, 0, 0]
    assert lengths.tolist() == [1, 2, 0, 1]


def test_a_budget_coarsens_scores_before_it_drops_examples():
    rng = np.random.default_rng(0)
    views = [synthetic.example(i, rng, sentences=60) for i in range(6)]
    exact, levels = pack_examples(views, 10**9)
    assert levels is None and len(exact) == 6
    size = sum(map(len, exact))
    coarse, levels = pack_examples(views, size // 2)
    assert levels is not None and len(coarse) == 6 and sum(map(len, coarse)) <= size // 2
    few, levels = pack_examples(views, size // 12)
    assert levels == 15 and 0 < len(few) < 6 and sum(map(len, few)) <= size // 12
    assert unpack(base64.b64decode(few[0]))[0]["id"] == views[0].id


def test_examples_left_out_are_said(tmp_path):
    data = synthetic.report(n_examples=30)
    small = ReportData("t", examples=data.examples)
    render_report(small, tmp_path / "r.html", max_bytes=330_000)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert re.search(r"\d+ of 31 examples are left out", text)
    assert "rounded to 15 square-root steps" in text
    assert (tmp_path / "r.html").stat().st_size <= 330_000


def test_shared_scale_is_over_tokens_under_the_loss():
    view = synthetic.example(0, np.random.default_rng(0))
    spiked = {"loss": np.where(view.loss_mask, 1.0, 99.0)[None].repeat(4, 0).astype(np.float32)}
    assert shared_scales([replace(view, scores=spiked)])["loss"]["math"] == 1.0


def test_primary_contrast_reads_as_in_the_protocol():
    row = dict(
        task="math",
        contrast="flip - same-difficulty-swap",
        role="primary",
        difference=0.012,
        low=-0.008,
        high=0.031,
        p=0.2,
        p_holm=0.4,
        n_problems=400,
        n_seeds=3,
        mde=0.029,
        label="causal",
    )
    data = ReportData("t", tables={"contrasts": pd.DataFrame([row, {**row, "role": "exploratory"}])})
    (only,) = answer(data)
    assert only.text == (
        "Flip minus same-difficulty-swap on math: +1.2 points [−0.8, 3.1], undecided; "
        "smallest detectable effect 2.9 points."
    )
    assert "exploratory" in " ".join(caveats(data))


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "verdict"),
    [
        (0.004, 0.03, 0.01, "higher"),
        (0.004, 0.03, 0.2, "undecided"),
        (-0.03, -0.001, None, "lower"),
        (-0.01, 0.03, 0.01, "undecided"),
        (float("nan"), 0.1, 0.01, "undecided"),
    ],
)
def test_a_difference_is_decided_only_by_its_interval_and_corrected_p(low, high, p_holm, verdict):
    row = dict.fromkeys(TABLE_COLUMNS["contrasts"]) | dict(
        task="code", contrast="a - b", role="primary", difference=0.01, low=low, high=high, p_holm=p_holm
    )
    assert answer(ReportData("t", tables={"contrasts": pd.DataFrame([row])}))[0].verdict == verdict


def test_sentences_about_influence_never_claim_support():
    said = " ".join(s.text for s in answer(synthetic.report()) if s.topic == "Which data helps?")
    assert "Influence suggests" in said
    assert "supported" not in said


def test_sign_agreement_counts_pairs_by_hand():
    frame = pd.DataFrame(
        [[a, "math", p, m, 0, 0, 0, 0, 0] for a, p, m in [("flip", 1, 2), ("x", -1, 2), ("y", -1, -1)]],
        columns=TABLE_COLUMNS["arms"],
    )
    (only,) = answer(ReportData("t", tables={"arms": frame}))
    assert "in 2 of 3 arm–target pairs" in only.text


def test_honesty_box_names_each_weakness():
    said = " ".join(caveats(synthetic.report(quick=True)))
    for words in (
        "too small to conclude from",
        "reference solutions: code-easy",
        "Too few responses (under 20) behind code-easy",
        "2.9 points or more",
        "not validated",
        "associational",
        "no correlation is given",
        "A made-up run",
    ):
        assert words in said, words


def test_a_validated_decided_run_has_nothing_to_confess():
    effects = synthetic.tables(np.random.default_rng(0))["effects"]
    effects = effects.assign(validity="LDS 0.4", reliability=0.9, status="ok", label="causal")
    assert caveats(ReportData("t", tables={"effects": effects})) == []


def test_every_figure_is_well_formed_and_safe():
    data = synthetic.report()
    hostile = data.tables["accuracy"].assign(task="</svg><script>x</script>\x00")
    figures = [
        accuracy_figure(replace(data, tables={"accuracy": hostile})),
        slope_figure(data),
        contrast_figure(data),
        arms_figure(data),
        *effect_figures(data, "effects", "difficulty"),
    ]
    for figure in figures:
        for _, svg in figure.panels:
            root = ElementTree.fromstring(svg)
            assert not [e for e in root.iter() if e.tag.endswith("script") or "style" in e.attrib]


def test_effect_marks_stand_at_their_values():
    """The dots of a forest panel lie on the line through the axis ticks that their titles state."""
    data = synthetic.report()
    svg = effect_figures(data, "effects", "difficulty")[0].panels[0][1]
    frame = data.tables["effects"].query("target == 'math' and domain == 'math' and form == 'raw'")
    effects = frame[frame["attribute"] == "difficulty"]["effect"].to_numpy()
    x = np.array([float(c.attrib["cx"]) for c in ElementTree.fromstring(svg).iter("circle")])
    np.testing.assert_allclose(np.corrcoef(x, effects)[0, 1], 1, atol=1e-4)


@given(st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=8), st.booleans())
@settings(max_examples=100, deadline=None)
def test_axes_cover_their_data_with_few_round_ticks(values, zero):
    scale = axis(values, 0, 100, zero=zero)
    assert scale.low <= min(values) and scale.high >= max(values)
    assert 1 <= len(scale.ticks) <= 9
    assert len({scale.label(t) for t in scale.ticks}) == len(scale.ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, "0.0123"),
        (-4.2e-5, "−4.20×10⁻⁵"),
        (None, "–"),
        (float("nan"), "–"),
        (1234.0, "1234"),
        (2, "2"),
        (3.14159, "3.14"),
        (1.5e9, "1.50×10⁹"),
        (True, "–"),
    ],
)
def test_numbers_are_written_for_readers(value, text):
    assert number(value) == text


def test_more_wording():
    assert (signed(0.5), signed(-0.5), points(0.012), points(-0.0004), percent(0.315)) == (
        "+0.500",
        "−0.500",
        "+1.2",
        "0.0",
        "31.5%",
    )
    assert (listing([]), listing(["a"]), listing("abc")) == ("", "a", "a, b and c")


def test_an_empty_report_is_still_a_page(tmp_path):
    render_report(ReportData("Nothing yet"), tmp_path / "deep" / "r.html")
    text = (tmp_path / "deep" / "r.html").read_text(encoding="utf-8")
    assert "No table to answer from was given" in text
    assert "data-table" not in text.split("<script>")[0]
    assert not list((tmp_path / "deep").glob("*.tmp"))


@pytest.mark.parametrize("missing", sorted(TABLE_COLUMNS))
def test_each_table_may_be_absent(tmp_path, missing):
    data = synthetic.report(n_examples=1)
    tables = {k: v for k, v in data.tables.items() if k != missing}
    render_report(replace(data, tables=tables), tmp_path / "r.html")
    assert f'data-table="{missing}"' not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_table_without_its_columns_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"table 'slope' lacks the column\(s\) n, accuracy"):
        render_report(
            ReportData("t", tables={"slope": pd.DataFrame([{"arm": "sft", "task": "m", "difficulty": 1}])}),
            tmp_path / "r.html",
        )
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": {"loss": np.zeros((4, 3), np.float32)}}, "'loss' scores have shape"),
        ({"loss_mask": np.ones(2, bool)}, "loss_mask"),
        ({"steps": ((0, 10**6, ("plan",)),)}, "lies outside"),
        ({"token_classes": ("prose",)}, "token classes"),
    ],
)
def test_an_example_of_the_wrong_shape_is_refused_by_id(tmp_path, change, words):
    view = replace(synthetic.example(0, np.random.default_rng(0)), **change)
    with pytest.raises(InputError, match=f"example {view.id}.*{words}"):
        render_report(ReportData("t", examples=[view]), tmp_path / "r.html")


def test_scores_that_are_not_finite_are_refused_by_id(tmp_path):
    view = synthetic.example(0, np.random.default_rng(0))
    view.scores["loss"][0, -1] = np.nan
    with pytest.raises(InputError, match=f"example {view.id}.*not finite"):
        render_report(ReportData("t", examples=[view]), tmp_path / "r.html")


def test_json_cannot_leave_its_script_element():
    text = embed_json({"</script>": "<!--<script>\u2028&", "n": plain(float("nan")), "a": plain(np.int64(3))})
    assert "<" not in text and "&" not in text
    assert json.loads(text) == {"</script>": "<!--<script>\u2028&", "n": None, "a": 3}


def test_the_same_data_give_the_same_bytes(tmp_path):
    render_report(synthetic.report(n_examples=3), tmp_path / "a.html")
    render_report(synthetic.report(n_examples=3), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_single_token_line_of_a_megabyte_is_encoded():
    text = "x" * 1_000_000
    view = ExampleView(
        "big",
        {},
        text,
        np.array([[0, len(text)]]),
        np.array([True]),
        {"loss": np.ones((1, 1), np.float32)},
        ["m"],
    )
    header, rest, _ = unpack(encode_example(view, 127))
    assert header["length"] == "uint32"
    assert np.frombuffer(rest, "<u4", 1, header["text"] + 2)[0] == len(text)
